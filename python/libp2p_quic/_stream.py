"""py-libp2p's muxed stream over one stream of the engine.

Lives here: short reads from a small buffer (protocols above read lengths byte by byte),
writes that wait for room, the two half-closes, and which error means what. No timeout
unless the program asks for one: streams of pubsub and the like are rightly silent for hours.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IMuxedStream
from libp2p.custom_types import TProtocol
from libp2p.transport.quic.exceptions import QUICStreamTimeoutError
from libp2p.transport.quic.stream import StreamDirection, StreamState

from libp2p_quic._engine import Stream
from libp2p_quic._errors import ConnectionLostError, EngineError, StreamResetError, StreamStoppedError
from libp2p_quic._exceptions import StreamEOF, StreamLost, StreamReset, stream_error

if TYPE_CHECKING:
    from libp2p_quic._config import Limits
    from libp2p_quic._connection import QUICConnection

# A read for less than this takes what has arrived, up to _FETCH bytes, out of the engine
# at once, and serves the next reads from it.
_SMALL_READ = 16 * 1024
_FETCH = 64 * 1024
# No read returns more, whatever was asked for.
_MAX_READ = 1024 * 1024


class QUICStream(IMuxedStream):
    """A bidirectional QUIC stream. One task may read while another one writes.

    A stream that is dropped without `close` is reset, so that the peer never takes a part
    for the whole. The peer hears of a new stream with its first bytes.
    """

    def __init__(
        self, engine: Stream, connection: QUICConnection, direction: StreamDirection, limits: Limits
    ) -> None:
        self.muxed_conn = connection
        self.direction = direction
        self.protocol: TProtocol | None = None
        self._connection = connection
        self._engine = engine
        self._driver = connection.driver
        self._touch = connection.touch
        # Bytes that left the engine and that nobody has read; those before _start are read.
        self._buffer = b""
        self._start = 0
        # The peer's end has left the engine; and it was told to a reader.
        self._has_end = False
        self._is_end_told = False
        self._is_read_closed = False
        self._is_write_closed = False
        self._is_reset_here = False
        self._is_reset_by_peer = False
        # How long one wait may take, if the configuration says so. Seconds.
        self._read_timeout = limits.read_timeout
        self._write_timeout = limits.write_timeout
        self._ttl: float | None = None
        # Made when two tasks may write at once, so that their bytes do not mix.
        self._write_turn: trio.Lock | None = None

    # Reading

    async def read(self, n: int | None = None) -> bytes:
        """At least one and at most ``n`` bytes, as soon as there are any.

        ``None`` or a negative number stands for "what is there", at most 1 MiB; it does not
        wait for the end of the stream. Always a point where the task may be cancelled, which
        loses no byte; other tasks run when it waits, and otherwise at every sixteenth verb.

        Raises StreamEOF at the end of the stream, StreamReset when the peer or this program
        abandoned it, StreamLost when the connection is gone, StreamClosed after `close` or
        `close_read`; the last three only after what had arrived here is read.
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
            if self._driver.is_turn_over():
                await self._driver.cancel_shielded_checkpoint()
            return data
        while data is None:
            if await self._is_late(self._engine.readable, self._read_timeout):
                raise self._timeout("read", self._read_timeout)
            data = self._take(limit)
        return data

    async def _is_late(self, token: int, limit: float) -> bool:
        """Wait for the token, for ``limit`` seconds at most; whether it did not ring."""
        if limit == inf:
            await self._driver.wait(token)
            return False
        with trio.move_on_after(limit) as scope:
            await self._driver.wait(token)
        return scope.cancelled_caught

    def _timeout(self, what: str, limit: float) -> QUICStreamTimeoutError:
        message = f"stream {self.stream_id}: {what} came no further for {limit} s"
        return QUICStreamTimeoutError(message, self.stream_id)

    def _take(self, limit: int) -> bytes | None:
        """Up to ``limit`` bytes, or None for not yet."""
        if self._buffer:
            return self._take_buffered(limit)
        if limit == 0:
            return b""
        if self._has_end:
            self._is_end_told = True
            self._connection.note_progress()
            raise StreamEOF(f"end of stream {self.stream_id}")
        try:
            data = self._engine.read_nowait(limit if limit >= _SMALL_READ else _FETCH)
        except EngineError as error:
            self._note_reset(error)
            raise self._failure(error) from error
        if data is None:
            return None
        # The engine may want to tell the peer that there is room again.
        self._touch()
        if not data:
            self._has_end = True
            return self._take(limit)
        if len(data) > limit:
            self._buffer = data
            return self._take_buffered(limit)
        return data

    def _take_buffered(self, limit: int) -> bytes:
        buffer, start = self._buffer, self._start
        end = start + limit
        self._connection.note_progress()
        if end < len(buffer):
            self._start = end
            return buffer[start:end]
        self._buffer = b""
        self._start = 0
        return buffer[start:] if start else buffer

    def gather(self) -> None:
        """Take all that has arrived out of the engine, for readers to come."""
        chunks = [self._buffer[self._start :]]
        try:
            while not (self._has_end or self._is_read_closed):
                data = self._engine.read_nowait(_MAX_READ)
                if data is None:
                    break
                self._has_end = not data
                chunks.append(data)
        except EngineError as error:
            # The reader will meet it, after these bytes.
            self._note_reset(error)
        self._buffer, self._start = b"".join(chunks), 0

    def _note_reset(self, error: EngineError) -> None:
        if isinstance(error, StreamResetError):
            self._is_reset_by_peer = True

    @property
    def is_owed(self) -> bool:
        """Whether the peer finished this stream and its reader has not come to the end."""
        return self._has_end and not (self._is_end_told or self._is_read_closed)

    @property
    def has_unread(self) -> bool:
        """Whether bytes wait here for a reader."""
        return bool(self._buffer)

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand over all of ``data``, waiting for room.

        Always a point where the task may be cancelled; other tasks run when it waits, and
        otherwise at every sixteenth verb. When it raises or is cancelled, a part may have been
        sent; `reset` then tells the peer. Writes of several tasks do not mix.

        Raises StreamClosed after `close` or `close_write`, StreamReset when it was reset here
        or the peer stopped reading it (which leaves our reading alone), StreamLost when the
        peer reset it or the connection is gone.
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
                if self._driver.is_turn_over():
                    await self._driver.cancel_shielded_checkpoint()
                return
        if self._write_turn is None:
            self._write_turn = trio.Lock()
        async with self._write_turn:
            is_late = False
            while (reached := self._give(data, taken)) < size:
                # The engine rings when half of its buffer is free, which may take a slow peer
                # longer than the limit. So what counts is whether there is any room.
                if is_late and reached == taken:
                    raise self._timeout("write", self._write_timeout)
                taken = reached
                is_late = await self._is_late(self._engine.writable, self._write_timeout)

    def _give(self, data: bytes, taken: int) -> int:
        """Let the engine take ``data[taken:]`` until it says "not yet"; up to where it came."""
        before = taken
        try:
            while taken < len(data):
                more = self._engine.write_nowait(data, taken)
                if more is None:
                    break
                taken += more
        except EngineError as error:
            if isinstance(error, StreamStoppedError):
                # Did the peer only stop reading, or did it abandon the whole stream?
                self.gather()
                if self._is_reset_by_peer:
                    raise StreamLost(f"{self} was reset by the peer", self.stream_id, error.code) from error
            raise self._failure(error) from error
        if taken > before:
            self._touch()
        return taken

    def _failure(self, error: EngineError) -> Exception:
        if self._is_reset_here and not isinstance(error, ConnectionLostError):
            return StreamReset(f"{self} was reset here", self.stream_id)
        return stream_error(error, self.stream_id)

    # Ending

    async def close(self) -> None:
        """Send the end of our bytes, and read no more than what has already arrived.

        What was written is still delivered, and a peer that is writing its last words may
        finish them: only when that takes more than a second is it asked to stop, and never
        before it acknowledged our end, since some take that for the end of both directions.
        Never raises, whatever has become of the stream; idempotent.
        """
        self._finish()
        self._stop(0)
        await self._driver.checkpoint()

    async def close_write(self) -> None:
        """Send the end of our bytes; reading goes on. Never raises; idempotent."""
        self._finish()
        await self._driver.checkpoint()

    async def close_read(self) -> None:
        """Read no more than what has arrived and ask the peer to stop; writing goes on."""
        self._stop(0)
        await self._driver.checkpoint()

    async def reset(self, error_code: int = 0) -> None:
        """Abandon both directions: unsent bytes are dropped, and the peer reads an error.

        Wakes tasks that read or write here. Has no effect on a stream that is closed: that
        has been promised to be delivered. Never raises; idempotent.
        """
        if not self.is_closed():
            self._is_reset_here = True
            # With the connection gone there is nobody to tell, and a stream that was
            # finished in time must still be delivered by the closing connection. A task
            # that waits here must hear of the loss, not of the swarm tidying up after it.
            if not self._connection.is_closed:
                self._engine.reset(error_code)
                self._engine.stop(error_code)
            self._is_write_closed = self._is_read_closed = True
            self._touch()
            self._connection.note_progress()
        await self._driver.checkpoint()

    def _finish(self) -> None:
        if not self._is_write_closed:
            self._is_write_closed = True
            self._engine.finish()
            self._touch()

    def _stop(self, code: int) -> None:
        if not self._is_read_closed:
            self.gather()
            self._is_read_closed = True
            self._engine.stop(code)
            self._touch()
            self._connection.note_progress()

    # What py-libp2p asks about a stream

    @property
    def stream_id(self) -> str:
        return str(self._engine.id)

    @property
    def is_initiator(self) -> bool:
        return self.direction is StreamDirection.OUTBOUND

    @property
    def state(self) -> StreamState:
        if self.is_reset():
            return StreamState.RESET
        if self._is_read_closed and self._is_write_closed:
            return StreamState.CLOSED
        if self._is_write_closed:
            return StreamState.WRITE_CLOSED
        if self._is_read_closed or self._has_end:
            return StreamState.READ_CLOSED
        return StreamState.OPEN

    def is_closed(self) -> bool:
        """Whether this program has closed or reset both directions."""
        return self._is_read_closed and self._is_write_closed

    def is_reset(self) -> bool:
        """Whether the peer abandoned its direction, or this program the stream."""
        return self._is_reset_here or self._is_reset_by_peer

    def can_read(self) -> bool:
        """Whether a read may still give bytes."""
        is_over = self._is_read_closed or self._has_end or self._is_reset_by_peer
        return bool(self._buffer) or not is_over

    def can_write(self) -> bool:
        """Whether this program may still write; the peer may have stopped reading."""
        return not self._is_write_closed

    def get_remote_address(self) -> tuple[str, int]:
        return self._connection.get_remote_address()

    def set_deadline(self, ttl: int) -> None:
        """Let every later read and write fail after ``ttl`` seconds with
        QUICStreamTimeoutError, as in py-libp2p's mplex; 0 lifts the limit.

        A write that ran out of time may have sent a part. Note that py-libp2p's own
        NetStream gives a stream up for good after such an error.
        Raises ValueError for a negative ``ttl``.
        """
        if ttl < 0:
            raise ValueError(f"a deadline lies ahead: {ttl} s")
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
        """Close, but reset after an exception: the peer must not take a part for the whole."""
        await (self.close() if exc_val is None else self.reset())

    def __repr__(self) -> str:
        return f"<QUICStream {self.stream_id} {self.direction.value} {self.state.value}>"
