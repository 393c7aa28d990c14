"""A connection of the engine with asyncio's methods: opens and accepts streams, and agrees on their
protocols. A connection has no task and no timer of its own; the engine keeps it alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from weakref import WeakSet

from libp2p_quic._callback import outcome_of
from libp2p_quic._driver._asyncio import AsyncioDriver
from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._engine import Stream as EngineStream
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import (
    ConnectionClosed,
    NegotiationError,
    QUICError,
    StreamError,
    connection_error,
    ended_text,
)
from libp2p_quic._peer_id import PeerId
from libp2p_quic._statistics import ConnectionStatistics
from libp2p_quic._tls_parameters import TLSParameters, tls_parameters
from libp2p_quic._webtransport_address import WEBTRANSPORT
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.negotiation import Proposer, Selector, checked
from libp2p_quic.asyncio.stream import Owner, Stream

logger = logging.getLogger("libp2p_quic.connection")

Handler = Callable[[Stream], Awaitable[object]]


class Connection:
    """A connection to the verified peer ``peer_id``. `Endpoint.connect` and listeners make it.

    ``remote_address`` and ``local_address`` are multiaddrs as text, without the peer id.
    A connection that is dropped with all its streams is closed. Every method may be canceled, and
    `asyncio.timeout` may surround it.
    """

    def __init__(
        self,
        engine: EngineConnection,
        driver: AsyncioDriver,
        touch: Callable[[], None],
        negotiation_timeout: float,
    ) -> None:
        """``engine`` is connected."""
        assert engine.peer_id is not None
        self.peer_id = PeerId(engine.peer_id)
        self.is_initiator = engine.is_initiator
        self._protocol = WEBTRANSPORT if engine.is_webtransport else "quic-v1"
        self._engine = engine
        self._driver = driver
        self._touch = touch
        self._negotiation_timeout = negotiation_timeout
        self._owner = Owner(str(self.peer_id))
        # Opened streams whose only proposal may not be sent yet.
        self._proposing: WeakSet[Stream] = WeakSet()
        # Accepted streams whose negotiation was canceled with `accept_stream`. A list, as an empty deque
        # takes 0.7 KiB.
        self._interrupted: list[tuple[Stream, Selector]] = []

    # Streams

    async def open_stream(self, *protocols: str) -> Stream:
        """Open a stream, waiting until the peer allows one more (RFC 9000 section 4.6).

        Without ``protocols`` the stream is raw. With one, it is proposed together with the first
        bytes that the program writes, and nothing waits for the answer: if the peer does not speak
        it or resets the stream instead of an answer, the first read raises ProtocolNotSupportedError.
        With several, they are proposed in this order, a round trip each, and ``stream.protocol`` is
        the first that the peer supports.

        Canceling opens no stream. Raises ConnectionClosed, ProtocolNotSupportedError also if the peer
        reset the stream before it agreed, another NegotiationError, ValueError for a name that cannot
        be negotiated, and TypeError for a list of names instead of names.
        """
        for each in protocols:
            if not isinstance(each, str):
                raise TypeError(_not_a_name(each))
        names = checked(protocols)
        try:
            engine = await self._driver.in_turn(self._open_nowait, self._engine.openable)
        except ConnectionLostError as error:
            raise connection_error(error) from error
        stream = Stream(engine, self._driver, self._touch, self._owner, is_initiator=True)
        if len(names) == 1:
            stream.propose_lazily(names[0])
            self._proposing.add(stream)
            if self._driver.turns(self._engine.openable):
                self._send_proposals()
        elif names:
            try:
                await stream.negotiate(Proposer(names), self._negotiation_timeout)
            finally:
                if stream.protocol is None:
                    stream.reset()
        return stream

    def _open_nowait(self) -> EngineStream | None:
        engine = self._engine.open_stream_nowait()
        if engine is None:
            self._send_proposals()
            # The engine opens streams when it is flushed.
            self._engine.want_streams(self._driver.turns(self._engine.openable))
            self._touch()
        return engine

    def _send_proposals(self) -> None:
        """Let a peer that allows more streams as they are used learn of those that are open."""
        self._proposing = WeakSet(stream for stream in self._proposing if not stream.send_proposal())

    async def accept_stream(self, protocols: Iterable[str] | Mapping[str, Handler] | None = None) -> Stream:
        """The peer's next stream. Streams that arrived before the connection ended come first.

        Without ``protocols`` the stream is raw. Otherwise the peer proposes, and
        ``stream.protocol`` is one of ``protocols``. A stream on which nothing is agreed within the
        configured ``negotiation_timeout`` is reset, and the next one is taken. With a mapping, its
        handler is awaited before this returns; `serve` runs several at once.

        Canceling loses no stream, unless its handler runs already. Raises ConnectionClosed.
        """
        if protocols is None:
            return await self._accept()
        names = checked(protocols)
        while True:
            stream, selector = await self._next_to_select()
            # The set may differ from that of the call that was canceled.
            selector.protocols = names
            try:
                await stream.negotiate(selector, self._negotiation_timeout)
            except asyncio.CancelledError:
                self._interrupted.append((stream, selector))
                raise
            except StreamError as error:
                logger.debug("no protocol for %r: %s", stream, error)
                continue
            if isinstance(protocols, Mapping) and stream.protocol is not None:
                await protocols[stream.protocol](stream)
            return stream

    async def _next_to_select(self) -> tuple[Stream, Selector]:
        if self._interrupted:
            return self._interrupted.pop(0)
        return await self._accept(), Selector(())

    async def _accept(self) -> Stream:
        try:
            engine = await self._driver.ready(self._engine.accept_stream_nowait, self._engine.acceptable)
        except ConnectionLostError as error:
            raise connection_error(error) from error
        return Stream(engine, self._driver, self._touch, self._owner, is_initiator=False)

    async def serve(self, handlers: Mapping[str, Handler]) -> None:
        """Answer the peer's streams until the connection ends: call the handler of the agreed
        protocol for each, concurrently.

        When a handler returns, its stream is closed; when it raises, its stream is reset and the
        error is logged, with its traceback unless it is one of this package's. Returns when the
        connection is over and all handlers have returned. Canceling cancels the handlers and waits
        for them; the connection stays open. The number of handlers is limited by the configured
        ``max_concurrent_streams``.
        """
        names = checked(handlers)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                stream = await self._accept()
                task = self._driver.loop.create_task(self._answer(stream, names, handlers))
                running.add(task)
                task.add_done_callback(running.discard)
                # A waiting loop must not keep the last stream alive.
                del stream, task
        except ConnectionClosed as error:
            logger.debug("%s", ended_text(self.peer_id, self.remote_address, error))
            if running:
                await asyncio.wait(running)
        finally:
            await cancel_all(running)

    async def _answer(self, stream: Stream, names: tuple[str, ...], handlers: Mapping[str, Handler]) -> None:
        outcome = None
        has_protocol = True
        try:
            protocol = await stream.negotiate(Selector(names), self._negotiation_timeout)
            outcome = await outcome_of(lambda: handlers[protocol](stream))
        except NegotiationError as error:
            # The stream is over, and the peer may still have to read why.
            has_protocol = False
            logger.debug("no protocol for %r: %s", stream, error)
            return
        except QUICError as error:
            logger.debug("no protocol for %r: %s", stream, error)
            return
        finally:
            # Also if the server is canceled.
            if has_protocol and (outcome is None or outcome.error is not None):
                stream.reset()
        if outcome.error is None:
            stream.close()
            return
        # What a peer can cause at will is not worth a traceback.
        if isinstance(outcome.error, (QUICError, asyncio.IncompleteReadError)):
            logger.debug("the handler of %r failed: %s", stream, outcome.error)
        else:
            logger.error("the handler of %r failed", stream, exc_info=outcome.error)

    # End

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection. Open streams are lost.

        The peer receives ``code`` (0: no error; libp2p's own codes begin at 0x1000) and ``reason``.
        Data of finished streams is still delivered in the background, for at most the configured
        ``linger`` seconds; `Endpoint.close` waits for that. Raises nothing; idempotent.
        """
        self._owner.is_closing = True
        self._engine.close(code, reason.encode())
        self._touch()

    async def closed(self) -> ConnectionClosed:
        """Wait until the connection is over, and *return* who ended it and why: ``by``, ``kind``,
        ``error_code`` and ``reason`` of the error. Canceling ends the wait only."""
        return connection_error(await self._driver.ready(self._engine.closed_nowait, self._engine.closed))

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._engine.closed_nowait() is not None

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.close()

    # Facts

    @property
    def remote_address(self) -> str:
        """The peer's current multiaddr, which changes when it migrates."""
        return str(Address.of_socket(*self._engine.remote_address, self._protocol))

    @property
    def local_address(self) -> str:
        """The multiaddr of our end."""
        return str(Address.of_socket(*self._engine.local_address, self._protocol))

    @property
    def public_key(self) -> bytes:
        """The peer's public key as libp2p's PublicKey protobuf."""
        return self._engine.public_key or b""

    @property
    def tls(self) -> TLSParameters:
        """The cipher suite, the key exchange and the application protocol of the TLS session."""
        return tls_parameters(self._engine)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of the counters, at most 10 ms old while data moves; after the end of the
        connection as they were last. Does not suspend; may be called in any thread."""
        return ConnectionStatistics(**self._engine.statistics())

    def __repr__(self) -> str:
        return f"<Connection with {self.peer_id} at {self.remote_address}>"


async def cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel ``tasks`` and wait until they have ended. Nothing is left if this is canceled too."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting)


def _not_a_name(given: object) -> str:
    text = f"a protocol is a str, got {type(given).__name__} {given!r}"
    if isinstance(given, (list, tuple, set, frozenset)) and given:
        names = ", ".join(f'"{each}"' for each in given)
        text += f": write open_stream({names})"
    return text
