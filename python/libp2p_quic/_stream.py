"""py-libp2p's muxed stream over one stream of the engine.

Serves short reads from a small buffer (protocols read lengths byte by byte), waits for room to
write, closes each direction, and raises py-libp2p's errors. There is no timeout by default, as
streams of protocols like pubsub may be silent for hours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from types import TracebackType

import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.custom_types import TProtocol
from libp2p.transport.quic.exceptions import QUICStreamTimeoutError
from libp2p.transport.quic.stream import StreamDirection, StreamState

from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Stream
from libp2p_quic._engine_errors import ConnectionLostError, EngineError, StreamResetError, StreamStoppedError
from libp2p_quic._error_mapping import stream_error
from libp2p_quic._state import RecvState, SendState
from libp2p_quic.exceptions import StreamEOF, StreamLost, StreamReset

# A read of fewer bytes than this takes up to _FETCH received bytes out of the engine and serves
# the next reads from them.
_SMALL_READ = 16 * 1024
_FETCH = 64 * 1024
# The most that one read returns.
_MAX_READ = 1024 * 1024
# Looked up once: before CPython 3.12 a member of an enum takes about 90 ns to find.
_SEND, _DATA_SENT, _RESET_SENT = SendState.SEND, SendState.DATA_SENT, SendState.RESET_SENT
_RECV, _DATA_RECVD = RecvState.RECV, RecvState.DATA_RECVD
_DATA_READ, _RESET_RECVD = RecvState.DATA_READ, RecvState.RESET_RECVD


class QUICStream(IMuxedStream):
    """A bidirectional QUIC stream. One task may read while another one writes.

    A stream that is dropped without `close` is reset, so that the peer never takes a part for the
    whole. The peer learns of a new stream from its first bytes.
    """

    muxed_conn: IMuxedConn
    """The `QUICConnection` of the stream."""
    direction: StreamDirection
    """OUTBOUND if this program opened the stream, else INBOUND."""
    protocol: TProtocol | None
    """The negotiated protocol. py-libp2p sets it; None until then."""

    def __init__(
        self,
        engine: Stream,
        connection: IMuxedConn,
        endpoint: LoopEndpoint,
        direction: StreamDirection,
        remote_address: Callable[[], tuple[str, int]],
        on_progress: Callable[[], None],
        on_lost: Callable[[], None],
        is_negotiating: Callable[[QUICStream], bool],
    ) -> None:
        """``on_progress`` is called when received bytes or the end were read, and on close.

        ``on_lost`` is called when a read or a write learns that the connection has ended.
        ``is_negotiating`` tells whether the protocol of this stream is still to be agreed on.
        """
        self.muxed_conn = connection
        self.direction = direction
        self.protocol = None
        self._engine = engine
        self._driver = endpoint.driver
        self._touch = endpoint.touch
        self._remote_address = remote_address
        self._on_progress = on_progress
        self._on_lost = on_lost
        self._is_negotiating = is_negotiating
        # Bytes taken out of the engine. Those before _start are read.
        self._buffer = b""
        self._start = 0
        self._send = _SEND
        self._recv = _RECV
        # This program reads no more than what has arrived (STOP_SENDING).
        self._is_stopped = False
        # Time limits of one wait. Seconds; infinity means no limit.
        self._read_timeout = endpoint.limits.read_timeout
        self._write_timeout = endpoint.limits.write_timeout
        self._ttl: float | None = None
        # Made when a write has to wait, so that the bytes of two writes do not mix.
        self._write_turn: trio.Lock | None = None

    # Reading

    async def read(self, n: int | None = None) -> bytes:
        """Read at least one and at most ``n`` bytes, waiting until there is one.

        ``None`` or a negative number means all that has arrived, at most 1 MiB; it does not wait
        for the end of the stream. Canceling is always possible and loses no byte. Other tasks run
        when the read waits, and otherwise at every sixteenth call that does not wait.

        Raises StreamEOF at the end of the stream, StreamReset if the peer or this program reset
        it, StreamLost if the connection ended, StreamClosed after `close` or `close_read` (the
        last three only after the bytes that have arrived are read), and QUICStreamTimeoutError
        after the configured STREAM_READ_TIMEOUT (default: no limit).
        """
        if self._ttl is None:
            return await self._read(n)
        with self._limited("read"):
            return await self._read(n)

    async def _read(self, n: int | None) -> bytes:
        limit = _MAX_READ if n is None or n < 0 else min(n, _MAX_READ)
        await self._driver.checkpoint_if_cancelled()
        data = self._take(limit)
        if data is not None:
            if self._driver.count_call(len(data)):
                await self._driver.cancel_shielded_checkpoint()
            return data
        while data is None:
            if await self._wait_at_most(self._engine.readable, self._read_timeout):
                raise self._timeout("read", self._read_timeout)
            data = self._take(limit)
        return data

    async def _wait_at_most(self, token: int, limit: float) -> bool:
        """Wait for the token, for at most ``limit`` seconds. Returns whether the time ran out."""
        if limit == inf:
            await self._driver.wait(token)
            return False
        with trio.move_on_after(limit) as scope:
            await self._driver.wait(token)
        return scope.cancelled_caught

    def _timeout(self, what: str, limit: float) -> QUICStreamTimeoutError:
        message = f"stream {self.stream_id}: {what} timed out: no progress for {limit} s"
        return QUICStreamTimeoutError(message, self.stream_id)

    def _take(self, limit: int) -> bytes | None:
        """Up to ``limit`` bytes; None if there are none yet."""
        if self._buffer:
            return self._take_buffered(limit)
        if limit == 0:
            return b""
        if self._recv is not _RECV and self._recv is not _RESET_RECVD:
            self._recv = _DATA_READ
            self._on_progress()
            raise StreamEOF(f"end of stream {self.stream_id}")
        try:
            data = self._engine.read_nowait(limit if limit >= _SMALL_READ else _FETCH)
        except EngineError as error:
            self._note_reset(error)
            raise self._failure(error) from error
        if data is None:
            return None
        # The read may have freed credit that the engine must announce to the peer.
        self._touch()
        if not data:
            self._recv = _DATA_RECVD
            return self._take(limit)
        if len(data) > limit:
            self._buffer = data
            return self._take_buffered(limit)
        return data

    def _take_buffered(self, limit: int) -> bytes:
        buffer, start = self._buffer, self._start
        end = start + limit
        self._on_progress()
        if end < len(buffer):
            self._start = end
            return buffer[start:end]
        self._buffer = b""
        self._start = 0
        return buffer[start:] if start else buffer

    def _gather(self) -> None:
        """Move everything that has arrived from the engine into the buffer."""
        chunks = [self._buffer[self._start :]]
        # The reads may free credit that the engine must announce to the peer.
        self._touch()
        try:
            while self._recv is _RECV and not self._is_stopped:
                # Nobody waits for more: a token that is registered would wake the event loop when the
                # stream is stopped.
                data = self._engine.read_nowait(_MAX_READ, False)
                if data is None:
                    break
                if not data:
                    self._recv = _DATA_RECVD
                chunks.append(data)
        except EngineError as error:
            # The next read past the buffer raises it.
            self._note_reset(error)
        self._buffer, self._start = b"".join(chunks), 0

    def _note_reset(self, error: EngineError) -> None:
        if isinstance(error, StreamResetError):
            self._recv = _RESET_RECVD

    @property
    def _is_unread(self) -> bool:
        """Whether the peer finished this stream and its reader has not reached the end."""
        return self._recv is _DATA_RECVD and not self._is_stopped

    @property
    def _has_bytes(self) -> bool:
        """Whether the buffer has unread bytes."""
        return bool(self._buffer)

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data`` to the send queue, waiting for room.

        Canceling is always possible. Other tasks run when the write waits, and otherwise at every
        sixteenth call that does not wait. If it raises or is canceled, a part may have been sent;
        `reset` tells the peer. The bytes of concurrent writes do not mix.

        Raises StreamClosed after `close` or `close_write`, StreamReset if this program reset the
        stream or the peer stopped reading it (reading continues then), StreamLost if the peer
        reset it or the connection ended, and QUICStreamTimeoutError after the configured
        STREAM_WRITE_TIMEOUT without progress (default: no limit).
        """
        if not isinstance(data, bytes):
            data = bytes(data)
        if self._ttl is None:
            await self._write(data)
        else:
            with self._limited("write"):
                await self._write(data)

    async def _write(self, data: bytes) -> None:
        await self._driver.checkpoint_if_cancelled()
        size = len(data)
        taken = 0
        if self._write_turn is None or not self._write_turn.locked():
            taken = self._give(data, 0)
            if taken == size:
                if self._driver.count_call(size):
                    await self._driver.cancel_shielded_checkpoint()
                return
        if self._write_turn is None:
            self._write_turn = trio.Lock()
        async with self._write_turn:
            is_late = False
            while (reached := self._give(data, taken)) < size:
                # The engine wakes a writer when half of its buffer is free, which may take a slow
                # peer longer than the limit. So the write times out only if there is no room at all.
                if is_late and reached == taken:
                    raise self._timeout("write", self._write_timeout)
                taken = reached
                is_late = await self._wait_at_most(self._engine.writable, self._write_timeout)

    def _give(self, data: bytes, taken: int) -> int:
        """Write ``data[taken:]`` until the engine has no room. Returns the offset reached."""
        before = taken
        try:
            while taken < len(data):
                more = self._engine.write_nowait(data, taken)
                if more is None:
                    break
                taken += more
        except EngineError as error:
            if isinstance(error, StreamStoppedError):
                # Find out whether the peer only stopped reading or also reset its direction.
                self._gather()
                if self._recv is _RESET_RECVD:
                    what = f"stream {self.stream_id}: reset by the peer"
                    raise StreamLost(what, self.stream_id, error.code) from error
            if isinstance(error, ConnectionLostError) and self._is_answer_unneeded(error):
                return len(data)
            raise self._failure(error) from error
        if taken > before:
            self._touch()
        return taken

    def _is_answer_unneeded(self, lost: ConnectionLostError) -> bool:
        """Whether a write may be dropped: it answers a proposal of a peer that has gone.

        A peer may propose a protocol, write its bytes, finish the stream and close the connection
        without waiting for the answer. What it finished is still delivered, so py-libp2p's negotiation,
        which answers first, must not fail.
        """
        if lost.by == "local" or not self._is_negotiating(self):
            return False
        self._gather()
        return self._is_unread

    def _failure(self, error: EngineError) -> Exception:
        if isinstance(error, ConnectionLostError):
            self._on_lost()
        if self._send is _RESET_SENT and not isinstance(error, ConnectionLostError):
            return StreamReset(f"stream {self.stream_id}: reset by this program", self.stream_id)
        return stream_error(error, self.stream_id)

    # Ending

    async def close(self) -> None:
        """Finish our direction, and read no more than what has already arrived.

        Written bytes are still delivered. The peer may finish what it is writing: STOP_SENDING is
        sent only if that takes more than a second, and not before the peer acknowledged our
        finish, as some peers take it as the end of both directions. Raises nothing in any state
        of the stream; idempotent.
        """
        self._finish()
        self._stop(0)
        await self._driver.checkpoint()

    async def close_write(self) -> None:
        """Finish our direction; reading continues. Raises nothing; idempotent."""
        self._finish()
        await self._driver.checkpoint()

    async def close_read(self) -> None:
        """Read no more than what has arrived and ask the peer to stop (STOP_SENDING). Writing
        continues. Raises nothing; idempotent."""
        self._stop(0)
        await self._driver.checkpoint()

    async def reset(self, error_code: int = 0) -> None:
        """Reset both directions: unsent bytes are dropped, and the peer's read fails.

        Wakes tasks that read or write the stream. Has no effect on a closed stream, as its bytes
        are still delivered. Raises nothing; idempotent.
        """
        if not self.is_closed():
            # On a closed connection the reset cannot be sent, and the closing connection must
            # still deliver a finished stream. A waiting task must get the error of the
            # connection, not that of the swarm's cleanup.
            if not self.muxed_conn.is_closed:
                self._engine.reset(error_code)
                self._engine.stop(error_code)
            self._send = _RESET_SENT
            self._is_stopped = True
            self._touch()
            self._on_progress()
        await self._driver.checkpoint()

    def _finish(self) -> None:
        if self._send is _SEND:
            self._send = _DATA_SENT
            self._engine.finish()
            self._touch()

    def _stop(self, code: int) -> None:
        if not self._is_stopped:
            if self._recv is _RECV:
                self._gather()
            self._is_stopped = True
            self._engine.stop(code)
            self._touch()
            self._on_progress()

    # py-libp2p's interface

    @property
    def stream_id(self) -> str:
        """The id of RFC 9000 section 2.1, in decimal digits."""
        return str(self._engine.id)

    @property
    def is_initiator(self) -> bool:
        """Whether this program opened the stream."""
        return self.direction is StreamDirection.OUTBOUND

    @property
    def state(self) -> StreamState:
        """py-libp2p's state of the stream. `OPEN` until one direction has ended."""
        if self.is_reset():
            return StreamState.RESET
        if self.is_closed():
            return StreamState.CLOSED
        if not self.can_write():
            return StreamState.WRITE_CLOSED
        if self._is_stopped or self._recv is not _RECV:
            return StreamState.READ_CLOSED
        return StreamState.OPEN

    def is_closed(self) -> bool:
        """Whether this program has closed or reset both directions."""
        return self._is_stopped and self._send is not _SEND

    def is_reset(self) -> bool:
        """Whether the peer reset its direction, or this program the stream."""
        return self._send is _RESET_SENT or self._recv is _RESET_RECVD

    def can_read(self) -> bool:
        """Whether a read may still return bytes."""
        return bool(self._buffer) or (self._recv is _RECV and not self._is_stopped)

    def can_write(self) -> bool:
        """Whether this program may still write; the peer may have stopped reading."""
        return self._send is _SEND

    def get_remote_address(self) -> tuple[str, int]:
        """`QUICConnection.get_remote_address`."""
        return self._remote_address()

    def set_deadline(self, ttl: int) -> None:
        """Make each later read and write raise QUICStreamTimeoutError after ``ttl`` seconds, as in
        py-libp2p's mplex. 0 removes the limit.

        A write that timed out may have sent a part. py-libp2p's NetStream refuses all further
        use of the stream after such an error. Raises ValueError for a negative ``ttl``.
        """
        if ttl < 0:
            raise ValueError(f"ttl must be >= 0, got {ttl}")
        self._ttl = ttl or None

    @contextmanager
    def _limited(self, what: str) -> Iterator[None]:
        with trio.move_on_after(self._ttl or 0) as scope:
            yield
        if scope.cancelled_caught:
            raise QUICStreamTimeoutError(
                f"stream {self.stream_id}: {what} took more than {self._ttl} s", self.stream_id
            )

    async def __aenter__(self) -> QUICStream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close, or reset after an exception, so that the peer does not take a part for the whole."""
        await (self.close() if exc_val is None else self.reset())

    def __repr__(self) -> str:
        return f"<QUICStream {self.stream_id} {self.direction.value} {self.state.value}>"
