"""py-libp2p's muxed connection over one connection of the engine, and its keeper task.

Each connection has one keeper. While the connection is open, it gives the swarm the peer's new address
when the peer moves. After the end it lets the swarm and readers take what the peer finished (for a
bounded time), awaits the swarm's `on_close` once, and cancels the swarm's inbound handler, which would
otherwise hold its slot as long as the swarm runs. I/O and limits are the engine's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from math import inf
from typing import TypeVar
from weakref import WeakSet

import trio
from libp2p.abc import IMuxedConn, IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICStreamLimitError, QUICStreamTimeoutError
from libp2p.transport.quic.stream import StreamDirection
from multiaddr import Multiaddr

from libp2p_quic._addr import QUIC_V1, to_multiaddr
from libp2p_quic._callback import call_foreign
from libp2p_quic._config_table import MOST_STREAMS
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection, Stream
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._error_mapping import connection_error
from libp2p_quic._exception_types import ended_text
from libp2p_quic._gate import GATED, GATED_BY_GO
from libp2p_quic._state import ConnectionState
from libp2p_quic._statistics import ConnectionStatistics
from libp2p_quic._stream import QUICStream
from libp2p_quic._tls_parameters import TLSParameters, tls_parameters
from libp2p_quic._webtransport_address import WEBTRANSPORT
from libp2p_quic.exceptions import ConnectionClosed

logger = logging.getLogger("libp2p_quic.connection")

ConnectionHandler = Callable[["QUICConnection"], Awaitable[None]]
T = TypeVar("T")

# libp2p's connection error code for a limit.
LIMIT_REACHED = 0x1001
# A listener refuses a verified peer with one of these.
REFUSALS = (GATED, GATED_BY_GO, LIMIT_REACHED)
# Time limit of the swarm's close hook, also while the run is canceled. Seconds.
_ON_CLOSE_BOUND = 5.0
# How often it is looked at whether the notifees of an inbound connection have ended. Seconds.
_NOTIFEE_CHECK = 0.02
# How long to wait until the swarm has added a new connection to its list. Seconds.
_LISTING_BOUND = 1.0
# Looked up once: before CPython 3.12 a member of an enum takes about 90 ns to find.
_INBOUND, _OUTBOUND = StreamDirection.INBOUND, StreamDirection.OUTBOUND


class QUICConnection(IRawConnection, IMuxedConn):
    """A connection to a verified peer. `QUICTransport.dial` returns it, and a listener's handler is
    called with it.

    The swarm assigns the attributes ``swarm``, ``remove_stream`` and `on_close`.
    """

    peer_id: ID
    """The peer, verified in the handshake."""
    event_started: trio.Event
    """Set by `start`. The swarm waits for it."""

    on_close: Callable[[], Awaitable[None]] | None = None
    """Awaited once, after the connection has ended. The swarm sets it; it may raise."""

    def __init__(
        self,
        engine: Connection,
        endpoint: LoopEndpoint,
        maddr: Multiaddr | None = None,
        *,
        on_admitted: Callable[[QUICConnection], None] | None = None,
        on_denied: Callable[[], None] | None = None,
        on_swarm_refusal: Callable[[str], None] | None = None,
        on_refused: Callable[[ID, float], None] | None = None,
    ) -> None:
        """``engine`` is connected. ``maddr`` is the dialed address, None for an inbound connection.

        ``on_admitted`` is called with the connection if the gates admit the peer, ``on_denied`` if one
        denies it, and ``on_swarm_refusal`` with the peer and its address if the swarm refuses it for a
        limit of its own. ``on_refused`` is called if the dialed listener refuses us, with the seconds
        since the handshake was complete.
        """
        assert engine.peer_id is not None
        self.peer_id = ID(engine.peer_id)
        self.event_started = trio.Event()
        # When this program learned that the handshake was complete.
        self._began = trio.current_time()
        # Streams of the peer that left the engine before `accept_stream` asked for them. A list, as an empty
        # deque takes 0.7 KiB.
        self._early: list[QUICStream] = []
        self._engine = engine
        self._endpoint = endpoint
        self._driver = endpoint.driver
        self._limits = endpoint.limits
        self._on_admitted = on_admitted
        self._on_denied = on_denied
        self._on_swarm_refusal = on_swarm_refusal
        self._on_refused = on_refused
        self._opening = 0
        self._dialed_maddr = maddr
        # Made when it is first used, and for each address once: writing a multiaddr takes some 12 µs.
        self._remote_maddr: tuple[tuple[str, int], Multiaddr] | None = None
        self._streams: WeakSet[QUICStream] = WeakSet()
        self._state = ConnectionState.OPEN
        self._state_changed = trio.Event()
        # Set when a stream is read from, while readers are given time after the end.
        self._progress: trio.Event | None = None
        self._drain_scope = trio.CancelScope()
        # `accept_stream` was called, or the handler has ended.
        self._accepting = trio.Event()
        self._keeper: trio.lowlevel.Task | None = None
        self._handler_task: trio.lowlevel.Task | None = None
        self._handler_scope = trio.CancelScope()
        # The handler itself called `close`, and has not ended since.
        self._is_handler_closing = False
        self._keeper_scope = trio.CancelScope()

    # Lifetime

    def _start_tasks(
        self, handler: ConnectionHandler | None = None, nursery: trio.Nursery | None = None
    ) -> None:
        """Start the keeper, and ``handler`` under it. Call once, directly after the constructor."""
        self._driver.follow_log_level()
        self._endpoint.connections[self] = self._keeper_scope
        self._endpoint.spawn(partial(self._run, handler), nursery)

    async def start(self) -> None:
        """Set `event_started`. The connection runs since it was constructed. Idempotent."""
        self.event_started.set()

    async def close(self, error_code: int = 0) -> None:
        """Close the connection. Open streams are lost, for this program at once.

        The peer receives ``error_code``: 0 means no error, libp2p's own codes begin at 0x1000.
        Data of closed streams is still delivered in the background, for at most ``linger``
        seconds; closing the transport waits for that. Returns when `on_close` has returned, or
        after 10 s. Idempotent; may be called from `on_close`; raises nothing.
        """
        self._warn_of_idle_host()
        if trio.lowlevel.current_task() is self._handler_task:
            self._is_handler_closing = True
        if error_code == 0 and self._is_refused_by_swarm():
            if self._on_swarm_refusal is not None:
                self._on_swarm_refusal(f"{self.peer_id} at {self._maddr}")
            self._close(LIMIT_REACHED, b"the host's connection limit")
        else:
            self._close(error_code)
        # A program that closes the connection no longer reads the peer's data.
        self._drain_scope.cancel()
        if trio.lowlevel.current_task() is self._keeper:
            # `on_close`, which the keeper awaits, called this: the keeper cannot wait for itself.
            return
        with trio.move_on_after(2 * _ON_CLOSE_BOUND):
            await self._wait_until(ConnectionState.OVER)

    async def closed(self) -> ConnectionClosed:
        """Wait until the connection is over, and *return* who ended it and why: ``by``, ``kind``,
        ``error_code`` and ``reason`` of the error. Canceling ends the wait only. Bytes that arrived
        before may still be unread."""
        return connection_error(await self._driver.ready(self._engine.closed_nowait, self._engine.closed))

    def _end(self) -> ConnectionClosed | None:
        """What `closed` returns; None while the connection is open."""
        return connection_error(lost) if (lost := self._engine.closed_nowait()) is not None else None

    def _warn_of_idle_host(self) -> None:
        """Warn of a host that dials before it runs.

        py-libp2p 0.8.1 then closes the new connection, with an error that does not say so.
        """
        swarm: Swarm | None = getattr(self, "swarm", None)
        if swarm is None or self.event_started.is_set() or self._state is not ConnectionState.OPEN:
            return
        # A service has no manager until it runs.
        manager = getattr(swarm, "_manager", None)
        if manager is None or not manager.is_running:
            logger.warning(
                "the host %s dials and does not run: call it inside `async with host.run(...)`",
                swarm.get_peer_id(),
            )

    def _is_refused_by_swarm(self) -> bool:
        """Whether the swarm's inbound handler is closing an open connection.

        In py-libp2p 0.8.1 it does so only if the swarm's limits or its resource manager refuse the
        connection (`Swarm._handle_inbound_connection`, `Swarm.add_conn`), and passes no code.
        """
        is_handler = trio.lowlevel.current_task() is self._handler_task
        return is_handler and self._state is ConnectionState.OPEN and self._endpoint.gates.swarm is not None

    def _close(self, code: int = 0, reason: bytes = b"") -> None:
        """Close if it is open."""
        if self._state is ConnectionState.OPEN:
            self._advance(ConnectionState.CLOSED)
            self._endpoint.close_connection(self._engine, code, reason)

    def _advance(self, state: ConnectionState) -> None:
        """Enter ``state``, unless it is reached already."""
        if state > self._state:
            self._state = state
            self._state_changed.set()
            self._state_changed = trio.Event()

    async def _wait_until(self, state: ConnectionState) -> None:
        """Wait until ``state`` is reached. Always a checkpoint."""
        if self._state >= state:
            await trio.lowlevel.checkpoint()
        while self._state < state:
            await self._state_changed.wait()

    async def _run(self, handler: ConnectionHandler | None) -> None:
        self._keeper = trio.lowlevel.current_task()
        home: AbstractAsyncContextManager[trio.Nursery | None] = nullcontext()
        if handler is not None:
            home = trio.open_nursery()
        try:
            with self._keeper_scope:
                async with home as nursery:
                    if nursery is not None and handler is not None:
                        nursery.start_soon(self._handle, handler)
                    lost = await self._driver.ready(self._closed_nowait, self._engine.closed)
                    if lost.by == "local":
                        self._note_end(lost)
                    else:
                        await self._drain(lost)
                    self._advance(ConnectionState.DRAINED)
                    await self._report_end()
                    if nursery is not None and self.on_close is not None:
                        # A swarm's handler then only holds the slot. A handler that set no
                        # `on_close` may still be at work, and ends by itself.
                        await self._until_notified()
                        nursery.cancel_scope.cancel()
        finally:
            self._close()
            self._advance(ConnectionState.DRAINED)
            await self._report_end()
            self._endpoint.connections.pop(self, None)

    def _closed_nowait(self) -> ConnectionLostError | None:
        """Its token is ready also when the peer moved (RFC 9000 section 9): the swarm copied its address."""
        lost = self._engine.closed_nowait()
        swarm_conn = self._swarm_conn()
        if lost is None and swarm_conn is not None:
            # After the call, from which on the token tells of a move.
            swarm_conn.set_transport_info(self.get_transport_addresses(), self.get_connection_type())
        return lost

    async def _handle(self, handler: ConnectionHandler) -> None:
        self._handler_task = trio.lowlevel.current_task()
        with self._handler_scope:
            if not await call_foreign("the connection handler", partial(self._welcome, handler)):
                self._drain_scope.cancel()
                self._endpoint.close_connection(self._engine)
        self._is_handler_closing = False
        self._accepting.set()

    async def _until_notified(self) -> None:
        """Wait until the swarm's handler runs no notifee any more: one may be closing this connection, or be
        slow. After `_ON_CLOSE_BOUND` it is canceled nevertheless.

        In py-libp2p 0.8.1 notifees run in nurseries below the handler (`Swarm._notify`), which then waits
        without any (`Swarm._handle_inbound_connection`). No event tells when.
        """
        handler = self._handler_task
        with trio.move_on_after(_ON_CLOSE_BOUND):
            while handler is not None and (handler.child_nurseries or self._is_handler_closing):
                with trio.move_on_after(_NOTIFEE_CHECK):
                    await trio.sleep_forever()

    async def _welcome(self, handler: ConnectionHandler) -> None:
        """Call the handler if the gates admit the peer; otherwise close with GATED."""
        gates = self._endpoint.gates
        if gates.admit_all or await gates.inbound_denial(self.peer_id, self._maddr) is None:
            if self._on_admitted is not None:
                self._on_admitted(self)
            await handler(self)
        else:
            self._advance(ConnectionState.CLOSED)
            self._drain_scope.cancel()
            if self._on_denied is not None:
                self._on_denied()
            self._endpoint.close_connection(self._engine, GATED, b"gated")

    def _leave_swarm(self) -> None:
        """Remove a connection that is over from the swarm's list, so that `connect` dials again.

        The swarm removes it after `on_close`, which waits for readers. A task that reads a stream
        may learn of the loss before the keeper, and reconnect in the same scheduler pass.
        """
        swarm: Swarm | None = getattr(self, "swarm", None)
        if swarm is not None:
            for each in swarm.get_connections(self.peer_id):
                if isinstance(each, SwarmConn) and each.muxed_conn is self:
                    swarm.remove_conn(each)

    async def _report_end(self) -> None:
        """Await `on_close` once. If this task is canceled, it has `_ON_CLOSE_BOUND` from then on.

        Without a limit otherwise: the swarm calls notifees of the program in it, which may reconnect.
        """
        if self._state >= ConnectionState.REPORTING:
            return
        self._advance(ConnectionState.REPORTING)
        try:
            if self.on_close is not None:
                async with trio.open_nursery() as watching:
                    with trio.CancelScope(shield=True) as reporting:
                        watching.start_soon(self._limit_report, reporting)
                        # A slow `on_close` holds no slot of the swarm's inbound connections.
                        self._handler_scope.deadline = trio.current_time() + _ON_CLOSE_BOUND
                        await self._listed()
                        await call_foreign("on_close", self.on_close)
                        self._leave_swarm()
                    watching.cancel_scope.cancel()
        finally:
            self._advance(ConnectionState.OVER)

    async def _limit_report(self, reporting: trio.CancelScope) -> None:
        try:
            await trio.sleep_forever()
        finally:
            reporting.deadline = trio.current_time() + _ON_CLOSE_BOUND

    async def _listed(self) -> None:
        """Wait until the swarm has this connection in its list, if there is a swarm.

        py-libp2p 0.8.1 lists a connection one scheduler pass after it began to accept its streams
        (`Swarm.add_conn`). If `on_close` ran before that, the swarm would list the closed
        connection afterwards and never remove it.
        """
        if hasattr(self, "swarm"):
            with trio.move_on_after(_LISTING_BOUND):
                await self._accepting.wait()
            await trio.lowlevel.checkpoint()

    def _note_end(self, lost: ConnectionLostError) -> None:
        self._advance(ConnectionState.CLOSED)
        self._leave_swarm()
        self._log_end(lost)
        self._report_refusal(lost)

    async def _drain(self, lost: ConnectionLostError) -> None:
        """Give the program time for the streams that the peer finished before the connection ended.

        The swarm resets all streams when it learns of the end, and complete streams would be lost.
        Returns when all of them are read or closed, or when nothing was read for the configured
        CONNECTION_CLOSE_TIMEOUT. If only ends of streams are unread, `linger` is the limit: many
        protocols know the length of a message and never read its end.
        """
        self._progress = trio.Event()
        for stream in list(self._streams):
            stream._gather()
        self._keep_pending()
        with self._drain_scope:
            try:
                await self._await_accepting()
            finally:
                self._note_end(lost)
            await self._await_readers()

    def _keep_pending(self) -> None:
        """Take the streams that are still to be accepted out of the engine, if there is a swarm.

        They count as unread from now on. Otherwise the end would reach the swarm before them, if
        both arrive in one scheduler pass, and the swarm accepts no stream after the end.
        """
        if self._endpoint.gates.swarm is not None:
            with suppress(ConnectionLostError):
                while (stream := self._engine.accept_stream_nowait()) is not None:
                    self._keep(stream)

    async def _await_accepting(self) -> None:
        """Let the swarm add a connection that the peer has already closed, if it has something to read.

        py-libp2p 0.8.1 refuses a connection that is closed before it accepts streams
        (`Swarm.add_conn`). So this connection counts as open meanwhile, within the time that readers have.
        A dialed connection is not waited for: the dial has to fail.
        """
        is_inbound = not self.is_initiator and not self._accepting.is_set()
        if is_inbound and any(stream._is_unread for stream in self._early):
            with trio.move_on_after(self._limits.drain_timeout):
                await self._accepting.wait()
                # The swarm lists the connection in this pass: see `_listed`.
                await trio.lowlevel.checkpoint()

    async def _await_readers(self) -> None:
        while owed := [stream for stream in self._streams if stream._is_unread]:
            has_bytes = any(stream._has_bytes for stream in owed)
            patience = self._limits.drain_timeout if has_bytes else self._limits.linger
            # The list would keep streams alive that their readers have dropped.
            del owed
            self._progress = trio.Event()
            with trio.move_on_after(patience) as pause:
                await self._progress.wait()
            if pause.cancelled_caught:
                break

    def _note_progress(self) -> None:
        """A stream was read from or closed."""
        if self._progress is not None:
            self._progress.set()

    def _report_refusal(self, lost: ConnectionLostError) -> None:
        is_refusal = (lost.by, lost.kind) == ("peer", "closed") and lost.code in REFUSALS
        if self._on_refused is not None and is_refusal:
            self._on_refused(self.peer_id, trio.current_time() - self._began)

    def _log_end(self, lost: ConnectionLostError) -> None:
        # Writing a multiaddr takes some 12 µs.
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s", ended_text(self.peer_id, self._maddr, lost))

    # Streams

    # The timeouts are part of py-libp2p's interface.
    async def open_stream(self, timeout: float | None = None) -> QUICStream:  # noqa: ASYNC109
        """Open a stream, waiting until the peer allows one more (RFC 9000 section 4.6).

        Always a checkpoint; canceling opens no stream. Raises ConnectionClosed,
        QUICStreamTimeoutError after ``timeout`` seconds (default: the configured
        STREAM_OPEN_TIMEOUT, no limit unless set), and QUICStreamLimitError beyond the configured
        MAX_OUTGOING_STREAMS (default: no limit).
        """
        limit = self._limits.outgoing_streams
        if limit < MOST_STREAMS and self._opening + self._count_opened() >= limit:
            await trio.lowlevel.checkpoint()
            raise QUICStreamLimitError(f"Maximum outbound streams: MAX_OUTGOING_STREAMS is {limit}")
        if timeout is None:
            timeout = self._limits.open_timeout
        self._opening += 1
        try:
            # A cancel scope costs 3 to 6 µs, for each stream at both ends.
            if timeout == inf:
                stream = await self._open()
            else:
                stream = await self._within(timeout, "open", self._open)
        finally:
            self._opening -= 1
        return self._stream(stream, _OUTBOUND)

    async def _open(self) -> Stream:
        try:
            return await self._driver.in_turn(self._open_nowait, self._engine.openable)
        except ConnectionLostError as error:
            self._leave_swarm()
            raise connection_error(error) from error

    def _open_nowait(self) -> Stream | None:
        stream = self._engine.open_stream_nowait()
        if stream is None:
            # The engine opens streams when it is flushed.
            self._engine.want_streams(self._driver.turns(self._engine.openable))
            self._endpoint.touch()
        return stream

    async def accept_stream(self, timeout: float | None = None) -> QUICStream:  # noqa: ASYNC109
        """The peer's next stream. Streams that arrived before the connection ended come first.

        Always a checkpoint; canceling loses no stream. Raises ConnectionClosed (which is a
        MuxedConnUnavailable), and QUICStreamTimeoutError after ``timeout`` seconds (default: no
        limit).
        """
        self._accepting.set()
        if timeout is None or timeout == inf:
            return await self._accept()
        return await self._within(timeout, "accept", self._accept)

    async def _accept(self) -> QUICStream:
        try:
            return await self._driver.ready(self._accept_nowait, self._engine.acceptable)
        except ConnectionLostError as error:
            self._leave_swarm()
            # On this error the swarm resets all streams.
            await self._wait_until(ConnectionState.DRAINED)
            await self._listed()
            raise connection_error(error) from error

    def _accept_nowait(self) -> QUICStream | None:
        if self._early:
            return self._early.pop(0)
        stream = self._engine.accept_stream_nowait()
        return None if stream is None else self._stream(stream, _INBOUND)

    def _keep(self, stream: Stream) -> None:
        """Keep a stream of the peer for the next `accept_stream`."""
        self._early.append(self._stream(stream, _INBOUND))

    def _count_opened(self) -> int:
        return sum(each.is_initiator and (each.can_read() or each.can_write()) for each in self._streams)

    async def _within(self, limit: float, what: str, waiting: Callable[[], Awaitable[T]]) -> T:
        with trio.move_on_after(limit):
            return await waiting()
        raise QUICStreamTimeoutError(f"no stream to {what} within {limit} s")

    def _stream(self, engine: Stream, direction: StreamDirection) -> QUICStream:
        stream = QUICStream(
            engine,
            self,
            self._endpoint,
            direction,
            self.get_remote_address,
            on_progress=self._note_progress,
            on_lost=self._leave_swarm,
            is_negotiating=self._is_negotiating,
        )
        self._streams.add(stream)
        if self._progress is not None:
            stream._gather()
        return stream

    def _is_negotiating(self, stream: QUICStream) -> bool:
        """Whether the swarm has accepted ``stream`` and has not agreed on its protocol yet."""
        swarm_conn = self._swarm_conn()
        return swarm_conn is not None and any(
            each.muxed_stream is stream and each.protocol_id is None for each in swarm_conn.streams
        )

    def _swarm_conn(self) -> SwarmConn | None:
        """The swarm's connection that holds this one, also before the swarm lists it."""
        swarm_conn = getattr(self.on_close, "__self__", None)
        return swarm_conn if isinstance(swarm_conn, SwarmConn) else None

    # py-libp2p's interface

    @property
    def _maddr(self) -> Multiaddr:
        """The dialed address, or the current one of a peer that dialed."""
        if self._dialed_maddr is not None:
            return self._dialed_maddr
        address = self.get_remote_address()
        if self._remote_maddr is None or self._remote_maddr[0] != address:
            protocol = WEBTRANSPORT if self._engine.is_webtransport else QUIC_V1
            self._remote_maddr = address, to_multiaddr(*address, protocol)
        return self._remote_maddr[1]

    @property
    def is_initiator(self) -> bool:  # type: ignore[override]  # an attribute in one base
        """Whether this program dialed."""
        return self._engine.is_initiator

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened: the opposite of `is_closed`."""
        return not self.is_closed

    @property
    def is_closed(self) -> bool:
        """Whether this program closed it, or it was lost: no new stream can be opened."""
        return self._state is not ConnectionState.OPEN

    def get_remote_address(self) -> tuple[str, int]:
        """The peer's current IP literal and port, which change when it migrates."""
        return self._engine.remote_address

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The dialed address with the IP literal that was reached, or the current address of a peer
        that dialed, which changes when it migrates."""
        return [self._maddr]

    def get_connection_type(self) -> ConnectionType:
        """DIRECT: no relay is in between."""
        return ConnectionType.DIRECT

    @property
    def tls(self) -> TLSParameters:
        """The cipher suite, the key exchange and the application protocol of the TLS session."""
        return tls_parameters(self._engine)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of the counters, at most 10 ms old while data moves; after the end of the
        connection as they were last. Waits for nothing; may be called in any thread."""
        return ConnectionStatistics(**self._engine.statistics())

    async def read(self, n: int | None = None) -> bytes:
        """Raises NotImplementedError: read from a stream of this connection."""
        raise NotImplementedError("read from a stream of this connection")

    async def write(self, data: bytes) -> None:
        """Raises NotImplementedError: write to a stream of this connection."""
        raise NotImplementedError("write to a stream of this connection")

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<QUICConnection to {self.peer_id} at {self._maddr}, {state}>"
