"""A model of what the binding's methods may return in any order of calls: a state machine for hypothesis.

Two real endpoints on loopback. The model knows what was written, read and ended on every
stream, and what each side did to the connection. A result is right if the model has a cause for it. None is
always right, except at the end, when everything that was written must arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from libp2p_quic._engine import Connection, Stream
from libp2p_quic._engine_errors import (
    ConnectionLostError,
    StreamClosedError,
    StreamResetError,
    StreamStoppedError,
)
from testkit.engine import Pair

T = TypeVar("T")

# Small buffers, so that a few calls fill them.
NARROW = {
    "write_buffer": 5_000,
    "read_buffer": 2_000,
    "stream_receive_window": 8_000,
    "max_incoming_streams": 3,
}
# Longer than any stream here, and without a period, so that every mistake in order shows.
BYTES = bytes((i * i >> 3) % 256 for i in range(400_000))

CODES = st.integers(min_value=0, max_value=2**62 - 1)
SIZES = st.sampled_from([1, 2, 900, 5_000, 20_000])


@dataclass
class Way:
    """One direction of one stream, as a model."""

    written: int = 0
    read: int = 0
    is_finished: bool = False
    reset: int | None = None
    stopped: int | None = None

    @property
    def is_ended(self) -> bool:
        return self.is_finished or self.reset is not None


@dataclass
class End:
    """One side's handle of a stream, with both directions as seen from it."""

    side: int
    stream: Stream | None
    out: Way
    inward: Way

    def __hash__(self) -> int:
        return id(self)


@dataclass
class Side:
    """One end of the connection and what its program did to it."""

    connection: Connection
    closed: int | None = None
    ends: dict[int, End] = field(default_factory=dict)


class StreamMethods(RuleBasedStateMachine):
    """Open, accept, read, write, finish, reset, stop, drop, flush and close."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(NARROW, NARROW)
        self.sides = [Side(connection) for connection in self.pair.connected()]

    # The streams that the rules choose from.

    def _ends(self) -> list[End]:
        return [end for side in self.sides for end in side.ends.values() if end.stream is not None]

    def _pick(self, number: int) -> tuple[End, Stream]:
        # No rule has a precondition: what hypothesis draws must not depend on what the network
        # has done by then, or it cannot draw it again. One stream is opened in the beginning
        # and never dropped, so there is always one to choose.
        ends = self._ends()
        end = ends[number % len(ends)]
        assert end.stream is not None
        return end, end.stream

    def _lost(self, at: int, error: ConnectionLostError) -> None:
        """One side closed the connection, and the error has that side and its code."""
        ours, theirs = self.sides[at], self.sides[1 - at]
        assert error.kind == "closed", error
        closer = {"local": ours, "peer": theirs}[error.by]
        assert closer.closed is not None, error
        assert closer.closed == error.code, error

    # Rules: each calls one method and checks the result.

    @initialize()
    def a_first_stream(self) -> None:
        near = self.sides[0].connection
        self._opened(0, self.pair.take(near.open_stream_nowait, near.openable))
        self.write(0, 900)

    @rule(at=st.integers(0, 1))
    def open(self, at: int) -> None:
        side = self.sides[at]
        try:
            stream = side.connection.open_stream_nowait()
        except ConnectionLostError as error:
            self._lost(at, error)
            return
        if stream is not None:
            self._opened(at, stream)

    def _opened(self, at: int, stream: Stream) -> None:
        side = self.sides[at]
        assert stream.id not in side.ends
        side.ends[stream.id] = End(at, stream, Way(), Way())

    @rule(at=st.integers(0, 1))
    def accept(self, at: int) -> None:
        side = self.sides[at]
        try:
            stream = side.connection.accept_stream_nowait()
        except ConnectionLostError as error:
            self._lost(at, error)
            return
        if stream is not None:
            self._accepted(at, stream)

    def _accepted(self, at: int, stream: Stream) -> None:
        side, other = self.sides[at], self.sides[1 - at]
        opened = other.ends[stream.id]
        assert stream.id not in side.ends, "accepted twice"
        # A peer learns of a stream by a frame on it, or on a later one of the same side (RFC 9000 section
        # 3.2).
        later = (e for number, e in other.ends.items() if number >= stream.id and number % 4 == stream.id % 4)
        assert any(e.out.written or e.out.is_ended or e.inward.stopped is not None for e in later)
        side.ends[stream.id] = End(at, stream, opened.inward, opened.out)

    @rule(which=st.integers(0, 7), size=SIZES)
    def write(self, which: int, size: int) -> None:
        end, stream = self._pick(which)
        way = end.out
        try:
            taken = stream.write_nowait(BYTES[: way.written + size], way.written)
        except StreamClosedError:
            assert way.is_ended
        except StreamStoppedError as error:
            assert error.code == way.stopped
        except ConnectionLostError as error:
            self._lost(end.side, error)
        else:
            assert not way.is_ended
            assert taken is None or 1 <= taken <= size
            way.written += taken or 0

    @rule(which=st.integers(0, 7), size=SIZES)
    def read(self, which: int, size: int) -> None:
        end, stream = self._pick(which)
        self._check_read(end, size, partial(stream.read_nowait, size))

    def _check_read(self, end: End, size: int, method: Callable[[], bytes | None]) -> bool:
        """Call a method that reads and check the result; returns whether the stream has ended."""
        way = end.inward
        try:
            got = method()
        except StreamClosedError:
            assert way.stopped is not None
        except StreamResetError as error:
            assert error.code == way.reset
        except ConnectionLostError as error:
            self._lost(end.side, error)
        else:
            # After a local stop there is nothing to read.
            assert way.stopped is None
            if got is None:
                return False
            if got:
                assert len(got) <= size
                assert got == BYTES[way.read : way.read + len(got)], "other bytes than were written"
                way.read += len(got)
                assert way.read <= way.written, "more bytes than were written"
                return False
            assert way.is_finished, "an end without a finish"
            assert way.read == way.written, "an end before the last byte"
        return True

    @rule(which=st.integers(0, 7))
    def finish(self, which: int) -> None:
        end, stream = self._pick(which)
        stream.finish()
        if end.out.reset is None:
            end.out.is_finished = True

    @rule(which=st.integers(0, 7))
    def finished(self, which: int) -> None:
        end, stream = self._pick(which)
        try:
            is_acknowledged = stream.finished_nowait()
        except StreamClosedError:
            assert end.out.reset is not None
        except StreamStoppedError as error:
            assert error.code == end.out.stopped
        except ConnectionLostError as error:
            self._lost(end.side, error)
        else:
            assert is_acknowledged is None or end.out.is_finished

    @rule(which=st.integers(0, 7), code=CODES)
    def reset(self, which: int, code: int) -> None:
        end, stream = self._pick(which)
        stream.reset(code)
        # A second reset has no effect, nor has one after an acknowledged finish.
        if end.out.reset is None:
            end.out.reset = code

    @rule(which=st.integers(0, 7), code=CODES)
    def stop(self, which: int, code: int) -> None:
        end, stream = self._pick(which)
        stream.stop(code)
        if end.inward.stopped is None:
            end.inward.stopped = code

    @rule(which=st.integers(0, 7))
    def drop(self, which: int) -> None:
        end, stream = self._pick(which)
        if end is self._ends()[0]:
            return
        end.stream = None
        del stream
        if not end.out.is_ended:
            end.out.reset = 0
        if end.inward.stopped is None:
            end.inward.stopped = 0

    @rule()
    def flush(self) -> None:
        self.pair.flush()

    @rule(at=st.integers(0, 1), code=CODES, chance=st.integers(0, 9))
    def close(self, at: int, code: int, chance: int) -> None:
        # Rarely: few operations have an effect after a close.
        if chance != 9:
            return
        side = self.sides[at]
        side.connection.close(code, b"by the model")
        # The first close counts. If the peer's arrived before, this one has no effect.
        if side.closed is None:
            side.closed = code

    @rule(at=st.integers(0, 1))
    def closed(self, at: int) -> None:
        error = self.sides[at].connection.closed_nowait()
        if error is not None:
            self._lost(at, error)

    # The end: everything written arrives, on every stream that was not reset or stopped.

    def teardown(self) -> None:
        try:
            if any(side.closed is not None for side in self.sides):
                for at, side in enumerate(self.sides):
                    connection = side.connection
                    self._lost(at, self.pair.take(connection.closed_nowait, connection.closed))
            else:
                self._settle()
        finally:
            self.pair.close()

    def _settle(self) -> None:
        for at, side in enumerate(self.sides):
            heard = self.sides[1 - at].ends
            for number, end in list(side.ends.items()):
                while (
                    end.stream is not None and number not in heard and (end.out.written or end.out.is_ended)
                ):
                    self._accept_one(1 - at)
        for end in self._ends():
            self._wait_for_stop(end)
        for end in self._ends():
            assert end.stream is not None
            end.stream.finish()
            end.out.is_finished = end.out.is_finished or end.out.reset is None
        for end in self._ends():
            if end.inward.is_ended and end.inward.stopped is None:
                self._read_to_the_end(end)

    def _accept_one(self, at: int) -> None:
        connection = self.sides[at].connection
        self._accepted(at, self.pair.take(connection.accept_stream_nowait, connection.acceptable))

    def _wait_for_stop(self, end: End) -> None:
        """Write until the peer's STOP_SENDING arrives, if it sent one.

        A stop after the peer's finish is sent a second later: not awaited here.
        """
        stream, way = end.stream, end.out
        if stream is None or way.stopped is None or way.is_ended or end.inward.is_finished:
            return
        with pytest.raises(StreamStoppedError) as caught:
            while True:
                self.pair.take(partial(stream.write_nowait, b"x"), stream.writable)
        assert caught.value.code == way.stopped

    def _read_to_the_end(self, end: End) -> None:
        stream = end.stream
        assert stream is not None
        read = partial(self.pair.take, partial(stream.read_nowait, 20_000), stream.readable)
        while not self._check_read(end, 20_000, read):
            pass
