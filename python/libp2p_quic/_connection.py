"""py-libp2p's muxed connection over one connection of the engine, and its keeper.

The keeper is one task per connection. It waits for the end, whoever brings it about, and
then does in this order: let readers finish what the peer finished (bounded), await the
swarm's `on_close` once, and cancel the swarm's inbound handler, which would otherwise hold
its slot for as long as the swarm lives. No I/O and no limits here: the engine has those.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

import trio
from libp2p.abc import IMuxedConn, IRawConnection
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICStreamLimitError, QUICStreamTimeoutError
from libp2p.transport.quic.stream import StreamDirection
from multiaddr import Multiaddr

from libp2p_quic._addr import to_multiaddr
from libp2p_quic._callback import call_foreign
from libp2p_quic._config_table import MOST_STREAMS
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection, Stream
from libp2p_quic._errors import ConnectionLostError
from libp2p_quic._exceptions import connection_error
from libp2p_quic._stream import QUICStream

if TYPE_CHECKING:
    from libp2p_quic._listener import QUICListener
    from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.connection")

ConnectionHandler = Callable[["QUICConnection"], Awaitable[None]]
T = TypeVar("T")

# libp2p's connection error code for a peer that a gate keeps out.
GATED = 0x1007
# That, and the code for a limit: how a listener turns away a peer that it has proven.
_KEPT_OUT = (GATED, 0x1001)
# How long the swarm's close hook may take, also while everything is being cancelled. Seconds.
_ON_CLOSE_BOUND = 5.0
# How long a swarm may take from making its object of a connection to listing it. Seconds.
_LISTING_BOUND = 1.0


class QUICConnection(IRawConnection, IMuxedConn):
    """A connection to the proven peer ``peer_id``.

    The swarm writes ``swarm``, ``remove_stream`` and ``on_close`` onto it.
    """

    on_close: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        engine: Connection,
        endpoint: LoopEndpoint,
        transport: QUICTransport,
        maddr: Multiaddr | None = None,
        listener: QUICListener | None = None,
    ) -> None:
        """``engine`` is connected; ``maddr`` is what was dialed."""
        assert engine.peer_id is not None
        self.peer_id = ID(engine.peer_id)
        self.event_started = trio.Event()
        self.driver = endpoint.driver
        self.touch = endpoint.touch
        self.listener = listener
        # When the handshake was done, for this program.
        self.began = trio.current_time()
        self._engine = engine
        self._endpoint = endpoint
        self._transport = transport
        self._limits = transport.limits
        self._opening = 0
        self._maddr = maddr or to_multiaddr(*engine.remote_address)
        self._streams: WeakSet[QUICStream] = WeakSet()
        # Set as soon as nothing new can be begun, by us or by the loss of the connection.
        self._is_closed = False
        # What the peer finished has been read, or may be forgotten.
        self._is_drained = trio.Event()
        self._progress: trio.Event | None = None
        self._drain_scope = trio.CancelScope()
        # Somebody takes the peer's streams, or never will.
        self._is_accepting = trio.Event()
        # on_close has returned.
        self._is_over = trio.Event()
        self._is_reported = False
        self._keeper: trio.lowlevel.Task | None = None
        self._keeper_scope = trio.CancelScope()

    # Life

    def keep(self, handler: ConnectionHandler | None = None, nursery: trio.Nursery | None = None) -> None:
        """Start the keeper, and ``handler`` under it. Once, right after the constructor."""
        self.driver.follow_log_level()
        self._endpoint.spawn(partial(self._run, handler), nursery)

    async def start(self) -> None:
        """Only a signal: the connection has been running since it was made. Idempotent."""
        self.event_started.set()

    async def close(self, error_code: int = 0) -> None:
        """End the connection: open streams are cut, for this program at once.

        The peer is told ``error_code``; libp2p's own begin at 0x1000, 0 is no error.
        What closed streams still owe the peer is delivered in the background, within the
        configured linger time; closing the transport waits for that. Returns when `on_close`
        is done. Idempotent, may be called from `on_close` itself, and never raises.
        """
        if not self._is_closed:
            self._is_closed = True
            self._engine.close(error_code, b"")
            self.touch()
        # Nobody waits for the peer's data any more who closes the connection.
        self._drain_scope.cancel()
        if trio.lowlevel.current_task() is self._keeper:
            # The keeper is awaiting on_close, which brought us here: it cannot wait for itself.
            return
        with trio.move_on_after(2 * _ON_CLOSE_BOUND):
            await self._is_over.wait()

    def abandon(self) -> None:
        """Cancel the handler and the keeper; closes the connection if it is open."""
        self._keeper_scope.cancel()

    async def _run(self, handler: ConnectionHandler | None) -> None:
        self._keeper = trio.lowlevel.current_task()
        try:
            with self._keeper_scope:
                async with trio.open_nursery() as nursery:
                    if handler is not None:
                        nursery.start_soon(self._handle, handler)
                    lost = await self.driver.ready(self._engine.closed_nowait, self._engine.closed)
                    self._is_closed = True
                    self._log_end(lost)
                    self._note_verdict(lost)
                    if lost.by != "local":
                        await self._drain()
                    self._is_drained.set()
                    await self._report_end()
                    if self.on_close is not None:
                        # A swarm's handler only holds the slot now. A handler that set no
                        # on_close still has its own things to do and ends by itself.
                        nursery.cancel_scope.cancel()
        finally:
            if not self._is_closed:
                self._is_closed = True
                self._engine.close(0, b"")
                self.touch()
            self._is_drained.set()
            await self._report_end()
            self._transport.forget(self)

    async def _handle(self, handler: ConnectionHandler) -> None:
        if not await call_foreign("the connection handler", partial(self._welcome, handler)):
            self._engine.close(0, b"")
            self.touch()
        self._is_accepting.set()

    async def _welcome(self, handler: ConnectionHandler) -> None:
        """Hand the connection over, if the gates admit the peer."""
        if await self._transport.denial(self.peer_id, self._maddr) is None:
            await handler(self)
        else:
            self._is_closed = True
            if self.listener is not None:
                self.listener.note_gated()
            self._engine.close(GATED, b"gated")
            self.touch()

    async def _report_end(self) -> None:
        """Await `on_close`, once, also when everything is being cancelled."""
        if self._is_reported:
            return
        self._is_reported = True
        if self.on_close is not None:
            deadline = trio.current_time() + _ON_CLOSE_BOUND
            with trio.CancelScope(deadline=deadline, shield=True):
                await self._listed()
                await call_foreign("on_close", self.on_close)
        self._is_over.set()

    async def _listed(self) -> None:
        """Wait until the swarm has this connection in its list, if there is a swarm.

        py-libp2p 0.8.1 lists a connection one pass after it began to accept streams of it
        (`Swarm.add_conn`). What it hears of the end before that it takes for done: it would
        list the dead connection afterwards, and never remove it.
        """
        if hasattr(self, "swarm"):
            with trio.move_on_after(_LISTING_BOUND):
                await self._is_accepting.wait()
            await trio.lowlevel.checkpoint()

    async def _drain(self) -> None:
        """Give readers time for the streams that the peer finished before it was gone.

        The swarm resets all streams as soon as it hears of the end, and what has arrived
        whole would be lost. Over when all is read or given up, or when nobody has read for
        the configured CONNECTION_CLOSE_TIMEOUT (where only ends of streams are left unread,
        for the linger time: many a protocol knows its end without looking).
        """
        self._progress = trio.Event()
        for stream in list(self._streams):
            stream.gather()
        with self._drain_scope:
            while owed := [stream for stream in self._streams if stream.is_owed]:
                has_bytes = any(stream.has_unread for stream in owed)
                patience = self._transport.limits.drain_timeout if has_bytes else self._endpoint.linger
                # The list would keep alive what its reader has dropped.
                del owed
                self._progress = trio.Event()
                with trio.move_on_after(patience) as pause:
                    await self._progress.wait()
                if pause.cancelled_caught:
                    break

    def note_progress(self) -> None:
        """A stream was read from or closed."""
        if self._progress is not None:
            self._progress.set()

    def _note_verdict(self, lost: ConnectionLostError) -> None:
        if self.is_initiator and (lost.by, lost.kind) == ("peer", "closed") and lost.code in _KEPT_OUT:
            self._transport.turned_away(self.peer_id, trio.current_time() - self.began)

    def _log_end(self, lost: ConnectionLostError) -> None:
        whose = {"local": "us", "peer": "the peer", "network": "the network"}[lost.by]
        logger.debug("connection to %s closed by %s: %s", self.peer_id, whose, lost)

    # Streams

    # The timeouts are part of py-libp2p's interface.
    async def open_stream(self, timeout: float | None = None) -> QUICStream:  # noqa: ASYNC109
        """A new stream, as soon as the peer allows one more.

        Always a checkpoint; cancelling opens nothing. Raises ConnectionClosed,
        QUICStreamTimeoutError when ``timeout`` seconds have passed (default: the configured
        STREAM_OPEN_TIMEOUT, which is none unless it was set), and QUICStreamLimitError beyond
        the configured MAX_OUTGOING_STREAMS, if that was set.
        """
        limit = self._limits.outgoing_streams
        if limit < MOST_STREAMS and self._opening + self._count_opened() >= limit:
            await trio.lowlevel.checkpoint()
            raise QUICStreamLimitError(f"Maximum outbound streams: MAX_OUTGOING_STREAMS is {limit}")
        if timeout is None:
            timeout = self._limits.open_timeout
        verb = self._engine.open_stream_nowait
        self._opening += 1
        try:
            stream = await self._within(timeout, "open", verb, self._engine.openable)
        finally:
            self._opening -= 1
        return self._stream(stream, StreamDirection.OUTBOUND)

    async def accept_stream(self, timeout: float | None = None) -> QUICStream:  # noqa: ASYNC109
        """The next stream of the peer; those that came before the end still come.

        Always a checkpoint; cancelling loses no stream. Raises ConnectionClosed (which is a
        MuxedConnUnavailable), and QUICStreamTimeoutError when ``timeout`` seconds have
        passed (default: no limit).
        """
        self._is_accepting.set()
        verb = self._engine.accept_stream_nowait
        stream = await self._within(timeout, "accept", verb, self._engine.acceptable)
        return self._stream(stream, StreamDirection.INBOUND)

    def _count_opened(self) -> int:
        return sum(each.is_initiator and (each.can_read() or each.can_write()) for each in self._streams)

    async def _within(self, limit: float | None, what: str, verb: Callable[[], T | None], token: int) -> T:
        with trio.move_on_after(float("inf") if limit is None else limit):
            try:
                return await self.driver.ready(verb, token)
            except ConnectionLostError as error:
                # The swarm takes this error for the end and resets all streams.
                if what == "accept":
                    await self._is_drained.wait()
                    await self._listed()
                raise connection_error(error) from error
        raise QUICStreamTimeoutError(f"no stream to {what} within {limit} s")

    def _stream(self, engine: Stream, direction: StreamDirection) -> QUICStream:
        stream = QUICStream(engine, self, direction, self._limits)
        self._streams.add(stream)
        if self._progress is not None:
            stream.gather()
        return stream

    # What py-libp2p asks about a connection

    @property
    def is_initiator(self) -> bool:  # type: ignore[override]  # an attribute in one base
        return self._engine.is_initiator

    @property
    def is_established(self) -> bool:
        return not self._is_closed

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def get_remote_address(self) -> tuple[str, int]:
        """Address literal and port where the peer is now."""
        return self._engine.remote_address

    def get_transport_addresses(self) -> list[Multiaddr]:
        """What was dialed, or where the peer came from."""
        return [self._maddr]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def statistics(self) -> dict[str, float]:
        """The engine's counters: rtt (s), congestion_window, bytes_sent and so on."""
        return self._engine.statistics()

    async def read(self, n: int | None = None) -> bytes:
        """Not for a connection that has streams: read from one of those."""
        raise NotImplementedError("read from a stream of this connection")

    async def write(self, data: bytes) -> None:
        """Not for a connection that has streams: write to one of those."""
        raise NotImplementedError("write to a stream of this connection")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<QUICConnection to {self.peer_id} at {self._maddr}, {state}>"
