"""py-libp2p's muxed connection over one connection of the engine, and its keeper task.

Each connection has one keeper. It waits until the connection ends and then lets readers take what
the peer finished (for a bounded time), awaits the swarm's `on_close` once, and cancels the swarm's
inbound handler, which would otherwise hold its slot as long as the swarm runs. I/O and limits are
the engine's.
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

# libp2p's connection error code for a peer that a gate denies.
GATED = 0x1007
# GATED, and the code for a limit: a listener refuses a verified peer with either.
_KEPT_OUT = (GATED, 0x1001)
# Time limit of the swarm's close hook, also while the run is canceled. Seconds.
_ON_CLOSE_BOUND = 5.0
# How long to wait until the swarm has added a new connection to its list. Seconds.
_LISTING_BOUND = 1.0


class QUICConnection(IRawConnection, IMuxedConn):
    """A connection to the verified peer ``peer_id``.

    The swarm assigns the attributes ``swarm``, ``remove_stream`` and ``on_close``.
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
        """``engine`` is connected. ``maddr`` is the dialed address, None for an inbound connection."""
        assert engine.peer_id is not None
        self.peer_id = ID(engine.peer_id)
        self.event_started = trio.Event()
        self.driver = endpoint.driver
        self.touch = endpoint.touch
        self.listener = listener
        # When this program learned that the handshake was complete.
        self.began = trio.current_time()
        self._engine = engine
        self._endpoint = endpoint
        self._transport = transport
        self._limits = transport.limits
        self._opening = 0
        self._maddr = maddr or to_multiaddr(*engine.remote_address)
        self._streams: WeakSet[QUICStream] = WeakSet()
        # Closed by this program or lost: no new stream can be opened.
        self._is_closed = False
        # Streams that the peer finished are read, or their time is over.
        self._is_drained = trio.Event()
        self._progress: trio.Event | None = None
        self._drain_scope = trio.CancelScope()
        # `accept_stream` was called, or the handler has ended.
        self._is_accepting = trio.Event()
        # on_close has returned.
        self._is_over = trio.Event()
        self._is_reported = False
        self._keeper: trio.lowlevel.Task | None = None
        self._keeper_scope = trio.CancelScope()

    # Lifetime

    def keep(self, handler: ConnectionHandler | None = None, nursery: trio.Nursery | None = None) -> None:
        """Start the keeper, and ``handler`` under it. Call once, directly after the constructor."""
        self.driver.follow_log_level()
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
        if not self._is_closed:
            self._is_closed = True
            self._engine.close(error_code, b"")
            self.touch()
        # A program that closes the connection no longer reads the peer's data.
        self._drain_scope.cancel()
        if trio.lowlevel.current_task() is self._keeper:
            # `on_close`, which the keeper awaits, called this: the keeper cannot wait for itself.
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
                        # A swarm's handler now only holds the slot. A handler that set no
                        # `on_close` may still be at work, and ends by itself.
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
        """Call the handler if the gates admit the peer; otherwise close with GATED."""
        if await self._transport.denial(self.peer_id, self._maddr) is None:
            await handler(self)
        else:
            self._is_closed = True
            if self.listener is not None:
                self.listener.note_gated()
            self._engine.close(GATED, b"gated")
            self.touch()

    async def _report_end(self) -> None:
        """Await `on_close` once, shielded from cancellation for a bounded time."""
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

        py-libp2p 0.8.1 lists a connection one scheduler pass after it began to accept its streams
        (`Swarm.add_conn`). If `on_close` ran before that, the swarm would list the closed
        connection afterwards and never remove it.
        """
        if hasattr(self, "swarm"):
            with trio.move_on_after(_LISTING_BOUND):
                await self._is_accepting.wait()
            await trio.lowlevel.checkpoint()

    async def _drain(self) -> None:
        """Give readers time for the streams that the peer finished before the connection ended.

        The swarm resets all streams when it learns of the end, and complete streams would be lost.
        Returns when all of them are read or closed, or when nothing was read for the configured
        CONNECTION_CLOSE_TIMEOUT. If only ends of streams are unread, `linger` is the limit: many
        protocols know the length of a message and never read its end.
        """
        self._progress = trio.Event()
        for stream in list(self._streams):
            stream.gather()
        with self._drain_scope:
            while owed := [stream for stream in self._streams if stream.is_owed]:
                has_bytes = any(stream.has_unread for stream in owed)
                patience = self._transport.limits.drain_timeout if has_bytes else self._endpoint.linger
                # The list would keep streams alive that their readers have dropped.
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
        verb = self._engine.open_stream_nowait
        self._opening += 1
        try:
            stream = await self._within(timeout, "open", verb, self._engine.openable)
        finally:
            self._opening -= 1
        return self._stream(stream, StreamDirection.OUTBOUND)

    async def accept_stream(self, timeout: float | None = None) -> QUICStream:  # noqa: ASYNC109
        """The peer's next stream. Streams that arrived before the connection ended come first.

        Always a checkpoint; canceling loses no stream. Raises ConnectionClosed (which is a
        MuxedConnUnavailable), and QUICStreamTimeoutError after ``timeout`` seconds (default: no
        limit).
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
                # On this error the swarm resets all streams.
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

    # py-libp2p's interface

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
        """The peer's current IP literal and port, which change when it migrates."""
        return self._engine.remote_address

    def get_transport_addresses(self) -> list[Multiaddr]:
        """The dialed address with the IP literal that was reached, or the address that the peer
        dialed from."""
        return [self._maddr]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def statistics(self) -> dict[str, float]:
        """The engine's counters: rtt and handshake in seconds; congestion_window, mtu, bytes_sent
        and bytes_received in bytes; datagrams_sent, datagrams_received, packets_lost,
        congestion_events and streams_open in numbers."""
        return self._engine.statistics()

    async def read(self, n: int | None = None) -> bytes:
        """Raises NotImplementedError: read from a stream of this connection."""
        raise NotImplementedError("read from a stream of this connection")

    async def write(self, data: bytes) -> None:
        """Raises NotImplementedError: write to a stream of this connection."""
        raise NotImplementedError("write to a stream of this connection")

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<QUICConnection to {self.peer_id} at {self._maddr}, {state}>"
