"""A listening socket of the engine with asyncio's methods.

Takes verified connections from the engine, asks the program's gate about each, and yields those that
it admits. Handshakes, refusals and limits are the engine's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from types import TracebackType

from libp2p_quic._driver._asyncio import AsyncioDriver
from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._engine import Listener as EngineListener
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._exception_types import ListenError
from libp2p_quic._gate import GATED, Denial, InboundDenials
from libp2p_quic._webtransport_address import WEBTRANSPORT
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection, Handler, cancel_all
from libp2p_quic.asyncio.gate import AsyncioGate

logger = logging.getLogger("libp2p_quic.listener")

# What the engine tells the peers of connections that nobody has accepted.
_CLOSED = "listener closed"


class Listener:
    """A listener on one address. `Endpoint.listen` makes it.

    ``async for connection in listener`` yields verified connections until the listener is closed.
    While the program takes none, ``max_accept_backlog`` wait, and further ones are refused.
    """

    def __init__(
        self,
        engine: EngineListener,
        driver: AsyncioDriver,
        touch: Callable[[], None],
        config: EndpointConfig,
        gate: AsyncioGate | None,
        on_close: Callable[[Listener], None],
        certificate_hashes: Callable[[], tuple[bytes, bytes]] | None = None,
    ) -> None:
        """``on_close`` is called once, and ``certificate_hashes`` is given if WebTransport is served."""
        self._engine = engine
        self._driver = driver
        self._touch = touch
        self._config = config
        self._on_close = on_close
        self._certificate_hashes = certificate_hashes
        self._is_closed = False
        self._statistics: dict[str, int] = {}
        self._gating = None if gate is None else _Gating(self, gate, config.max_accept_backlog)

    @property
    def address(self) -> str:
        """The bound multiaddr of QUIC with the chosen port and without the peer id. A wildcard stays one."""
        return str(Address.of_socket(*self._engine.local_address))

    @property
    def webtransport_address(self) -> str | None:
        """The same for browsers, with the hashes of the current certificate and of the next, which the
        host key gives: it stays true for 13 days at least, also after a restart. None if WebTransport
        is not served."""
        if self._certificate_hashes is None:
            return None
        bound = Address.of_socket(*self._engine.local_address, WEBTRANSPORT)
        return str(replace(bound, certificate_hashes=self._certificate_hashes()))

    async def accept(self) -> Connection:
        """The next verified connection that the gate admits.

        Canceling loses no connection. Raises ListenError when the listener is closed.
        """
        if self._gating is not None:
            return await self._gating.accept()
        connection = await self.accept_any()
        logger.debug("accepted %s at %s", connection.peer_id, connection.remote_address)
        return connection

    async def accept_any(self) -> Connection:
        """The next connection, before the gate is asked. Cancels and raises as `accept`."""
        try:
            engine = await self._driver.ready(self._engine.accept_nowait, self._engine.acceptable)
        except EndpointClosedError as error:
            raise ListenError(f"the listener on {self.address} is closed") from error
        return self._connection(engine)

    def _connection(self, engine: EngineConnection) -> Connection:
        self._driver.follow_log_level()
        return Connection(engine, self._driver, self._touch, self._config.negotiation_timeout)

    def __aiter__(self) -> AsyncIterator[Connection]:
        return self

    async def __anext__(self) -> Connection:
        try:
            return await self.accept()
        except ListenError:
            raise StopAsyncIteration from None

    async def serve(self, handlers: Mapping[str, Handler]) -> None:
        """`Connection.serve` for every connection, until the listener is closed and the last
        connection has ended.

        Canceling cancels the handlers and waits for them; connections stay open until the endpoint
        is closed.
        """
        running: set[asyncio.Task[None]] = set()
        try:
            async for connection in self:
                task = self._driver.loop.create_task(connection.serve(handlers))
                running.add(task)
                task.add_done_callback(running.discard)
                del connection, task
            if running:
                await asyncio.wait(running)
        finally:
            await cancel_all(running)

    def close(self) -> None:
        """Stop listening. Accepted connections stay open. Idempotent; raises nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._statistics = self._count()
        if self._gating is not None:
            self._gating.close()
        self._engine.close()
        self._touch()
        self._on_close(self)
        logger.info("stopped listening on %s", self.address)

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    def statistics(self) -> dict[str, int]:
        """Counters since `Endpoint.listen`: handshakes_started, handshakes_failed (for any reason),
        handshakes_refused (failed ones that this side refused), connections_accepted (before the
        gate is asked, so that it includes those that the gate denies), connections_refused (for a
        limit or a denied address), connections_gated (denied by the gate), retries_sent,
        resets_sent, resets_suppressed, datagrams_received, bytes_received,
        datagrams_unanswerable and backlog. `close` freezes them."""
        return dict(self._statistics) if self._is_closed else self._count()

    def _count(self) -> dict[str, int]:
        return {**self._engine.statistics(), "connections_gated": self.gated}

    @property
    def gated(self) -> int:
        """How many connections the gate denied."""
        return 0 if self._gating is None else self._gating.gated

    def __repr__(self) -> str:
        return f"<Listener on {self.address}, {'closed' if self._is_closed else 'open'}>"


class _Gating:
    """Asks a gate about several connections at once, so that a slow answer delays no other peer."""

    def __init__(self, listener: Listener, gate: AsyncioGate, most: int) -> None:
        self.gated = 0
        self._listener = listener
        self._gate = gate
        self._denials = InboundDenials()
        self._slots = asyncio.Semaphore(most)
        self._admitted: deque[Connection] = deque()
        self._has_news = asyncio.Event()
        self._is_over = False
        self._is_closed = False
        self._asking: set[asyncio.Task[None]] = set()
        self._accepting = listener._driver.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            while True:
                # A slot is free again when the program takes the connection, or the gate denies it.
                await self._slots.acquire()
                connection = await self._listener.accept_any()
                task = self._listener._driver.loop.create_task(self._ask(connection))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
                del connection, task
        except ListenError:
            logger.debug("the endpoint of %r was closed", self._listener)
        finally:
            self._is_over = True
            self._has_news.set()

    async def _ask(self, connection: Connection) -> None:
        is_admitted = False
        denial: Denial | None = None
        try:
            peer = f"{connection.peer_id} at {connection.remote_address}"
            denial = await self._gate.denial(peer, connection.peer_id, connection.remote_address)
            is_admitted = denial is None and not self._is_closed
            if denial is not None:
                self._denials.report(peer, denial)
        finally:
            if is_admitted:
                logger.debug("accepted %s at %s", connection.peer_id, connection.remote_address)
                self._admitted.append(connection)
                self._has_news.set()
            else:
                self._slots.release()
                if denial is None and self._is_closed:
                    # The gate has denied nobody.
                    connection.close(0, _CLOSED)
                else:
                    self.gated += 1
                    connection.close(GATED, "gated")

    async def accept(self) -> Connection:
        while not self._admitted:
            if self._is_over:
                raise ListenError(f"the listener on {self._listener.address} is closed")
            self._has_news.clear()
            await self._has_news.wait()
        self._slots.release()
        return self._admitted.popleft()

    def close(self) -> None:
        self._is_closed = True
        self._accepting.cancel()
        for task in self._asking:
            task.cancel()
        while self._admitted:
            self._admitted.popleft().close(0, _CLOSED)
        self._is_over = True
        self._has_news.set()
