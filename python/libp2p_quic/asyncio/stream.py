"""A stream of the engine with asyncio's methods.

Serves small reads from a buffer, waits for room to write, closes each direction, and sends and reads
the negotiation of a stream with one proposed protocol as part of its first write and first read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from libp2p_quic._driver._asyncio import AsyncioDriver
from libp2p_quic._engine import Stream as EngineStream
from libp2p_quic._engine_errors import (
    ConnectionLostError,
    EngineError,
    StreamResetError,
    StreamStoppedError,
)
from libp2p_quic._exception_types import (
    NegotiationError,
    StreamClosed,
    StreamError,
    StreamLimitError,
    StreamReset,
    stream_error,
)
from libp2p_quic.asyncio.negotiation import Proposer, Selector, unanswered

# A read of fewer bytes than this takes up to _FETCH received bytes out of the engine and serves
# the next reads from them.
_SMALL_READ = 16 * 1024
_FETCH = 64 * 1024
# The most that one read returns.
_MAX_READ = 1024 * 1024
# The default limit of `read_to_end`: the largest message of most libp2p protocols, and 64 of them
# at once fit into the default receive_budget.
_MAX_WHOLE = 4 * 1024 * 1024


@dataclass
class Owner:
    """What a stream knows of its connection."""

    peer: str
    # This program has closed the connection.
    is_closing: bool = False


class Stream:
    """A bidirectional QUIC stream. One task may read while another one writes.

    ``id`` is the QUIC stream id and ``protocol`` the negotiated protocol, None for a raw stream.
    A stream that is dropped without `finish` is reset, so that the peer never takes a part for the
    whole. The peer learns of a new stream from its first bytes.

    Every method may be canceled, and `asyncio.timeout` may surround it. A method that does not
    have to wait does not suspend, but at every sixteenth such call other tasks run first.
    """

    def __init__(
        self,
        engine: EngineStream,
        driver: AsyncioDriver,
        touch: Callable[[], None],
        owner: Owner,
        is_initiator: bool,
    ) -> None:
        self.id = engine.id
        self.is_initiator = is_initiator
        self.protocol: str | None = None
        self._engine = engine
        self._driver = driver
        self._touch = touch
        self._owner = owner
        # Bytes taken out of the engine. Those before _start are read.
        self._buffer = b""
        self._start = 0
        self._has_end = False
        self._is_reading = False
        self._is_reset_here = False
        self._is_finished = False
        # Sent before the first bytes of the program.
        self._prefix = b""
        # Until the peer has answered the only proposal.
        self._proposer: Proposer | None = None
        # What this side proposed, until the peer has agreed or its answer cannot be read any more.
        self._unconfirmed: Sequence[str] = ()
        self._negotiation_failure: NegotiationError | None = None
        # Made when a write has to wait, so that the bytes of two writes do not mix.
        self._write_turn: asyncio.Lock | None = None
        # Writes that have the turn or wait for it. A released asyncio.Lock is not locked, although a write
        # that waits will have it next.
        self._writers = 0

    # Reading

    async def read(self, n: int = _FETCH) -> bytes:
        """Read at least one and at most ``n`` bytes, waiting until there is one; b"" at the end of
        the stream.

        A negative ``n`` means all that has arrived, at most 1 MiB; it does not wait for the end of
        the stream (`read_to_end` does). Canceling loses no byte. There is no timeout by default, as
        streams of protocols like pubsub are silent for hours.

        Raises StreamReset if the peer or this program reset the stream, StreamLost if the
        connection ended, StreamClosed after `stop` (all of them only after the bytes that have
        arrived are read), ProtocolNotSupportedError if the peer does not speak the proposed protocol
        or reset the stream before it agreed (``error_code`` is its code then), another
        NegotiationError for an invalid answer, and RuntimeError if another task is reading.
        """
        if n == 0:
            return b""
        limit = _MAX_READ if n < 0 else min(n, _MAX_READ)
        if self._driver.count_call():
            # Before bytes are taken: asyncio may cancel wherever a task suspends.
            await self._driver.checkpoint()
        if self._proposer is not None or self._is_reading:
            await self._negotiated_lazily()
        data = self._take(limit)
        if data is not None:
            return data
        self._is_reading = True
        try:
            while data is None:
                await self._driver.wait(self._engine.readable)
                data = self._take(limit)
        finally:
            self._is_reading = False
        return data

    async def read_exactly(self, n: int) -> bytes:
        """Read exactly ``n`` bytes.

        Canceling loses no byte: the next read returns those that had arrived. Raises
        asyncio.IncompleteReadError, whose ``partial`` has the bytes read, if the stream ends
        before, and otherwise as `read`.
        """
        if n < 0:
            raise ValueError(f"n must be >= 0, got {n}")
        chunks: list[bytes] = []
        missing = n
        try:
            while missing:
                data = await self.read(missing)
                if not data:
                    partial = b"".join(chunks)
                    chunks.clear()
                    raise asyncio.IncompleteReadError(partial, n)
                chunks.append(data)
                missing -= len(data)
        finally:
            if missing:
                self._put_back(chunks)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def read_to_end(self, limit: int = _MAX_WHOLE) -> bytes:
        """Read all bytes up to the end of the stream, at most ``limit`` (default: 4 MiB).

        Canceling loses no byte. Raises StreamLimitError if there are more; the bytes stay in the
        stream, for other reads. Otherwise raises as `read`.
        """
        chunks: list[bytes] = []
        size = 0
        is_whole = False
        try:
            while data := await self.read(_MAX_READ):
                chunks.append(data)
                size += len(data)
                if size > limit:
                    raise StreamLimitError(f"{self} has more than {limit} bytes", str(self.id))
            is_whole = True
        finally:
            if not is_whole:
                self._put_back(chunks)
        return b"".join(chunks)

    def _put_back(self, chunks: list[bytes]) -> None:
        if chunks:
            self._buffer = b"".join([*chunks, self._buffer[self._start :]])
            self._start = 0

    def _take(self, limit: int) -> bytes | None:
        """Up to ``limit`` bytes, b"" at the end; None if there are none yet."""
        if self._buffer:
            return self._take_buffered(limit)
        if self._has_end:
            return b""
        try:
            data = self._engine.read_nowait(limit if limit >= _SMALL_READ else _FETCH)
        except EngineError as error:
            raise self._failure(error) from error
        if data is None:
            return None
        # The read may have freed credit that the engine must announce to the peer.
        self._touch()
        if not data:
            self._has_end = True
        elif len(data) > limit:
            self._buffer = data
            return self._take_buffered(limit)
        return data

    def _take_buffered(self, limit: int) -> bytes:
        buffer, start = self._buffer, self._start
        end = start + limit
        if end < len(buffer):
            self._start = end
            return buffer[start:end]
        self._buffer = b""
        self._start = 0
        return buffer[start:] if start else buffer

    # Writing

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of ``data`` to the send queue, waiting for room, which is the back-pressure.

        If it raises or is canceled, a part may have been sent; `reset` tells the peer. The bytes
        of concurrent writes do not mix.

        Raises StreamClosed after `finish`, StreamReset if this program reset the stream or the peer
        stopped reading it (reading continues then), ProtocolNotSupportedError if it did so before it
        agreed to the proposed protocol, and StreamLost if the connection ended.
        """
        if not isinstance(data, bytes):
            data = bytes(data)
        if self._driver.count_call():
            await self._driver.checkpoint()
        taken = 0
        if not self._writers:
            taken = self._give(data, 0)
            if taken == len(data):
                return
        if self._write_turn is None:
            self._write_turn = asyncio.Lock()
        self._writers += 1
        try:
            async with self._write_turn:
                while (taken := self._give(data, taken)) < len(data):
                    await self._driver.wait(self._engine.writable)
        finally:
            self._writers -= 1

    def _give(self, data: bytes, taken: int) -> int:
        """Write ``data[taken:]`` until the engine has no room. Returns the offset reached."""
        before = taken
        try:
            if self._prefix and not self._send_prefix():
                return taken
            while taken < len(data):
                more = self._engine.write_nowait(data, taken)
                if more is None:
                    break
                taken += more
        except EngineError as error:
            raise self._refusal() or self._failure(error) from error
        if taken > before:
            self._touch()
        return taken

    def _send_prefix(self) -> bool:
        """Write the negotiation's first bytes. Returns whether all of them are written."""
        while self._prefix:
            taken = self._engine.write_nowait(self._prefix)
            if taken is None:
                # Only now is the token registered.
                break
            self._prefix = self._prefix[taken:]
            self._touch()
        return not self._prefix

    def _refusal(self) -> NegotiationError | None:
        """Why the peer stopped reading, if it has answered that it does not speak the protocol."""
        if self._proposer is None or self._is_reading:
            return None
        try:
            self._answered(self._proposer)
        except NegotiationError as error:
            return error
        except StreamError:
            # No answer can be read any more; the caller raises what its write met.
            return None
        return None

    def _failure(self, error: EngineError) -> Exception:
        if self._negotiation_failure is not None:
            return self._negotiation_failure
        if self._is_reset_here and not isinstance(error, ConnectionLostError):
            return StreamReset(f"{self} was reset here", str(self.id))
        if self._unconfirmed and isinstance(error, StreamResetError):
            refusal = unanswered(self._unconfirmed, "reset", str(self.id), error.code)
            self._fail_negotiation(refusal)
            return refusal
        if self._unconfirmed and isinstance(error, StreamStoppedError):
            # Not final: the peer's answer may still be on its way to the reader.
            return unanswered(self._unconfirmed, "stopped reading", str(self.id), error.code)
        return stream_error(error, str(self.id))

    # Ending

    def finish(self) -> None:
        """Finish our direction (FIN): the peer reads the end after the last byte. Reading continues.

        Written bytes are still delivered; `finished` waits for that. Raises nothing; idempotent.
        """
        if self._is_finished:
            return
        self._is_finished = True
        if self._owner.is_closing:
            # The stream is lost. A connection that is closing would still deliver a clean end.
            return
        if not self.send_proposal():
            # A part of the proposal with a clean end would be a protocol error of ours.
            self.reset()
            return
        self._engine.finish()
        self._touch()

    async def finished(self) -> None:
        """Wait until the peer's QUIC has acknowledged everything up to `finish`.

        Canceling ends the wait only. Raises StreamReset, ProtocolNotSupportedError, StreamClosed or
        StreamLost as `write`.
        """
        if not self._is_finished:
            raise StreamClosed(f"{self} is not finished: call finish() first", str(self.id))
        try:
            await self._driver.ready(self._engine.finished_nowait, self._engine.finished)
        except EngineError as error:
            raise self._refusal() or self._failure(error) from error

    def reset(self, code: int = 0) -> None:
        """Reset both directions: unsent bytes are dropped, and the peer's read and write fail.

        ``code`` is the application error code, below 2**62 (0: not specified). Wakes tasks that
        read or write the stream. Raises nothing for a stream that is over; idempotent.
        """
        self._is_reset_here = True
        self._is_finished = True
        self._prefix = b""
        self._engine.reset(code)
        self._engine.stop(code)
        self._touch()

    def stop(self, code: int = 0) -> None:
        """Read no more, and ask the peer to stop writing (STOP_SENDING). Writing continues.

        ``code`` is the application error code, below 2**62. Raises nothing; idempotent.
        """
        self._unconfirmed = ()
        self._engine.stop(code)
        self._touch()

    def close(self) -> None:
        """`finish` and `stop`. Written bytes are still delivered. Raises nothing; idempotent."""
        self.finish()
        self.stop()

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close, or reset after an exception, so that the peer does not take a part for the whole."""
        if exc_val is None:
            self.close()
        else:
            self.reset()

    # Negotiation

    def propose_lazily(self, protocol: str) -> None:
        """Use ``protocol`` without waiting for the answer, which the first read takes."""
        self.protocol = protocol
        self._unconfirmed = (protocol,)
        self._proposer = Proposer(self._unconfirmed)
        self._prefix = self._proposer.take_outgoing()

    def send_proposal(self) -> bool:
        """Send what `propose_lazily` keeps for the first bytes. Returns whether nothing of it is left."""
        if self._prefix:
            try:
                self._send_prefix()
            except EngineError:
                # The stream is over, which the next read or write reports.
                self._prefix = b""
        return not self._prefix

    async def negotiate(self, side: Proposer | Selector, limit: float) -> str:
        """Agree on a protocol within ``limit`` seconds.

        Raises NegotiationError, after which the stream is reset, or closed if the peer is still to
        read that its protocol is not available; otherwise raises as `read`. Canceling loses nothing:
        a second call with the same ``side`` continues.
        """
        if isinstance(side, Proposer):
            self._unconfirmed = side.protocols
        timer = self._driver.loop.call_later(limit, self._fail_negotiation, _late(limit))
        try:
            while True:
                self._prefix += side.take_outgoing()
                while self._prefix and not self._try_to_send_prefix():
                    await self._driver.wait(self._engine.writable)
                if side.agreed is not None:
                    break
                data = await self.read(_FETCH)
                if not data:
                    raise NegotiationError("the peer finished the stream before it agreed on a protocol")
                side.receive(data)
        except NegotiationError as error:
            # What the peer sent after its proposal need not be a message: answers come before it.
            self._prefix += side.take_outgoing()
            self._fail_negotiation(error, must_be_read=side.has_refused)
            raise
        finally:
            timer.cancel()
        self._put_back([side.rest] if side.rest else [])
        self._unconfirmed = ()
        self.protocol = side.agreed
        return side.agreed

    def _try_to_send_prefix(self) -> bool:
        try:
            return self._send_prefix()
        except ConnectionLostError as error:
            if error.by == "local":
                raise self._failure(error) from error
            # A peer that proposed, finished and closed needs no answer. Its bytes are still read.
            self._prefix = b""
            return True
        except EngineError as error:
            raise self._failure(error) from error

    def _fail_negotiation(self, error: NegotiationError, must_be_read: bool = False) -> None:
        """``must_be_read``: a reset could overtake the last answer."""
        error.stream_id = str(self.id)
        self._negotiation_failure = error
        self._proposer = None
        if must_be_read:
            self.close()
        else:
            self.reset()

    async def negotiated(self) -> str | None:
        """Wait until the peer has agreed to ``protocol``. Returns it; None for a raw stream.

        Needed only by programs that neither want to read nor to trust that the peer speaks the one
        protocol that they proposed. Canceling ends the wait only. Raises as `read`.
        """
        if self._negotiation_failure is not None:
            raise self._negotiation_failure
        await self._negotiated_lazily()
        return self.protocol

    async def _negotiated_lazily(self) -> None:
        if self._is_reading:
            raise RuntimeError(f"{self}: another task is reading it already")
        while (proposer := self._proposer) is not None:
            self._is_reading = True
            try:
                while self._prefix:
                    # Nothing was written yet, and the peer answers only what it has read.
                    await self.write(b"")
                    if self._prefix:
                        await self._driver.wait(self._engine.writable)
                if self._answered(proposer):
                    return
                await self._driver.wait(self._engine.readable)
            finally:
                self._is_reading = False

    def _answered(self, proposer: Proposer) -> bool:
        """Take what the peer answered. Returns whether it agreed."""
        while (data := self._take(_FETCH)) is not None:
            try:
                if not data:
                    raise NegotiationError("the peer finished the stream before it agreed on a protocol")
                if proposer.receive(data) is None:
                    continue
            except NegotiationError as error:
                self._fail_negotiation(error)
                raise
            self._put_back([proposer.rest] if proposer.rest else [])
            self._proposer = None
            self._unconfirmed = ()
            return True
        return False

    def __repr__(self) -> str:
        protocol = f" of {self.protocol}" if self.protocol else ""
        return f"<Stream {self.id}{protocol} with {self._owner.peer}>"


def _late(limit: float) -> NegotiationError:
    return NegotiationError(f"no protocol was agreed on within {limit:g} s")
