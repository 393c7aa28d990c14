"""asyncio's StreamReader and StreamWriter over a stream, for protocols that are written against them.

A transport without a task: it fills the reader and empties its write buffer in callbacks of the
driver. The reader's limit pauses reading, so that the peer's flow control holds the peer back; the
send queue's room resumes writing, so that `drain` is the stream's back-pressure.
"""

from __future__ import annotations

import asyncio
from typing import Any

from libp2p_quic._exception_types import QUICError
from libp2p_quic.asyncio.stream import Stream

# asyncio's default for a StreamReader. Bytes.
_LIMIT = 64 * 1024
# Bytes that one callback takes out of the engine.
_READ = 64 * 1024
# Bytes that are given to the engine in one call, and such calls in one callback: other callbacks run between.
_PIECE = 128 * 1024
_PIECES = 8


def reader_writer(stream: Stream, limit: int = _LIMIT) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A pair of `asyncio.StreamReader` and `asyncio.StreamWriter` over ``stream``.

    ``limit`` is the reader's buffer limit in bytes (default: 64 KiB, as asyncio's). ``drain`` waits
    for space in the send queue, ``write_eof`` is `Stream.finish`, and ``close`` is `Stream.close`. Do
    not use the other methods of the stream afterwards, except `Stream.reset`. Call it once.
    """
    loop = stream._driver.loop
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = StreamTransport(stream, protocol)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    protocol.connection_made(transport)
    transport.resume_reading()
    return reader, writer


class StreamTransport(asyncio.Transport):
    """asyncio's transport over one stream. `reader_writer` makes it."""

    def __init__(self, stream: Stream, protocol: asyncio.StreamReaderProtocol) -> None:
        super().__init__({"stream": stream})
        self._stream = stream
        self._protocol = protocol
        self._unsent = bytearray()
        self._is_paused = True
        self._is_eof_wanted = False
        self._is_closing = False
        self._is_lost = False
        self._has_end = False
        # The wait for bytes, and that for room: token and future.
        self._reading: tuple[int, asyncio.Future[None]] | None = None
        self._writing: tuple[int, asyncio.Future[None]] | None = None

    # Reading

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_lost:
            self._is_paused = False
            # Not at once: StreamReader resumes before it begins to wait for the bytes. A wait of
            # the time before the pause continues.
            if self._reading is None:
                self._stream._driver.loop.call_soon(self._read)

    def _read(self) -> None:
        if self._reading is not None and not self._reading[1].done():
            return
        self._reading = None
        stream = self._stream
        try:
            while not (self._is_paused or self._is_lost):
                proposer = stream._proposer
                if proposer is not None and not self._agree():
                    break
                data = stream._take(_READ)
                if data is None:
                    break
                if not data:
                    self._is_paused = True
                    self._end()
                    return
                self._protocol.data_received(data)
            else:
                return
        except QUICError as error:
            self._lose(error)
            return
        # The peer answers a proposal that it has read whole.
        token = stream._engine.writable if stream._prefix else stream._engine.readable
        self._reading = token, stream._driver.call_when(token, self._read)

    def _end(self) -> None:
        self._has_end = True
        self._protocol.eof_received()

    def _agree(self) -> bool:
        """Send the only proposal, if no write did, and take the answer."""
        stream = self._stream
        if stream._prefix:
            stream._give(b"", 0)
        return stream._proposer is None or stream._answered(stream._proposer)

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_eof_wanted or self._is_closing:
            raise RuntimeError("cannot write after write_eof or close")
        if self._is_lost:
            return
        if self._unsent or self._writing is not None:
            self._unsent += data
            return
        data = bytes(data)
        try:
            taken = self._stream._give(data, 0)
        except QUICError as error:
            self._fail(error)
            return
        if taken < len(data):
            self._unsent += data[taken:]
            self._protocol.pause_writing()
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        token = self._stream._engine.writable
        self._writing = token, self._stream._driver.call_when(token, self._write)

    def _write(self) -> None:
        self._writing = None
        if self._is_lost:
            return
        try:
            for _ in range(_PIECES):
                with memoryview(self._unsent) as unsent:
                    piece = bytes(unsent[:_PIECE])
                taken = self._stream._give(piece, 0)
                del self._unsent[:taken]
                if taken < len(piece):
                    self._wait_for_room()
                    return
                if not self._unsent:
                    break
        except QUICError as error:
            self._fail(error)
            return
        if self._unsent:
            self._stream._driver.loop.call_soon(self._write)
            return
        self._protocol.resume_writing()
        if self._is_eof_wanted or self._is_closing:
            self._finish()

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Has no effect: the configured ``write_buffer`` of the endpoint is the limit."""

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._is_eof_wanted:
            self._is_eof_wanted = True
            if not (self._unsent or self._is_lost):
                self._stream.finish()

    def _finish(self) -> None:
        if self._is_closing:
            self._stream.close()
            self._lose(None)
        else:
            self._stream.finish()

    # Ending

    def is_closing(self) -> bool:
        return self._is_closing or self._is_lost

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._is_paused = True
            if not (self._unsent or self._is_lost):
                self._finish()

    def abort(self) -> None:
        self._is_closing = True
        self._stream.reset()
        self._lose(None)

    def _fail(self, error: QUICError) -> None:
        """No more can be written. An answer that the peer completed before can still be read, for which the
        reader must get no error: `StreamReader` raises it before the bytes that it has. `drain` raises
        ConnectionResetError then."""
        is_whole = self._has_end or self._take_rest()
        self._stream.reset()
        self._lose(None if is_whole else error)

    def _take_rest(self) -> bool:
        """Feed what has arrived, also above the reader's limit. Returns whether the end was among it."""
        stream = self._stream
        try:
            if stream._proposer is not None and not stream._answered(stream._proposer):
                return False
            while (data := stream._take(_READ)) is not None:
                if not data:
                    self._end()
                    return True
                self._protocol.data_received(data)
        except QUICError:
            # The caller has the error of the write.
            return False
        return False

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        if error is not None:
            # The peer must not take a part for the whole.
            self._stream.reset()
        self._unsent.clear()
        for waiting in (self._reading, self._writing):
            if waiting is not None:
                self._stream._driver.withdraw(*waiting)
        self._reading = self._writing = None
        # Not at once, as asyncio's transports do: the caller may be the protocol.
        self._stream._driver.loop.call_soon(self._protocol.connection_lost, error)

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol
