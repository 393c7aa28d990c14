"""What the binding's verbs may answer, in whatever order they are called: a machine for hypothesis.

Two real endpoints on loopback. The model knows what was written, read and ended on every
stream, and what each side did to the connection. An answer is right when the model has a
cause for it; "not yet" is always right, except in the end, when everything that is owed comes.
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
from libp2p_quic._errors import (
    ConnectionLostError,
    StreamClosedError,
    StreamResetError,
    StreamStoppedError,
)
from peers.engine import Pair

T = TypeVar("T")

# Small buffers, so that a few verbs fill them.
NARROW = {
    "write_buffer": 5_000,
    "read_buffer": 2_000,
    "stream_receive_window": 8_000,
    "max_incoming_streams": 3,
}
# Longer than any stream gets here, and with no period that a mistake in order could hide in.
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


class Verbs(RuleBasedStateMachine):
    """Open, accept, read, write, finish, reset, stop, drop, flush and close."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(NARROW, NARROW)
        self.sides = [Side(connection) for connection in self.pair.connected()]

    # What the rules choose from.

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
        """The connection is over at this side: somebody closed it, and is named with the code."""
        ours, theirs = self.sides[at], self.sides[1 - at]
        assert error.kind == "closed", error
        closer = {"local": ours, "peer": theirs}[error.by]
        assert closer.closed is not None, error
        assert closer.closed == error.code, error

    # Rules: each calls one verb and judges its answer.

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
        # Nobody hears of a stream before something was said on it, or on a later one of the same
        # side (RFC 9000 section 3.2).
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
        self._judge(end, size, partial(stream.read_nowait, size))

    def _judge(self, end: End, size: int, verb: Callable[[], bytes | None]) -> bool:
        """Call a reading verb and judge it; whether there is nothing more to come."""
        way = end.inward
        try:
            got = verb()
        except StreamClosedError:
            assert way.stopped is not None
        except StreamResetError as error:
            assert error.code == way.reset
        except ConnectionLostError as error:
            self._lost(end.side, error)
        else:
            # After a stop of ours there is nothing to read, ever.
            assert way.stopped is None
            if got is None:
                return False
            if got:
                assert len(got) <= size
                assert got == BYTES[way.read : way.read + len(got)], "other bytes than were written"
                way.read += len(got)
                assert way.read <= way.written, "more bytes than were written"
                return False
            assert way.is_finished, "an end that nobody made"
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
        # A second one is not heard, and one after an acknowledged finish neither.
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
        # Seldom: after it there is little left to see.
        if chance != 9:
            return
        side = self.sides[at]
        side.connection.close(code, b"by the model")
        # The first word counts. Where the other side's was here before, ours is not heard.
        if side.closed is None:
            side.closed = code

    @rule(at=st.integers(0, 1))
    def closed(self, at: int) -> None:
        error = self.sides[at].connection.closed_nowait()
        if error is not None:
            self._lost(at, error)

    # The end: what is owed arrives, on every stream that nobody cut off.

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
            self._hear_of_stop(end)
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

    def _hear_of_stop(self, end: End) -> None:
        """Write until the peer's stop arrives, where there was one.

        One after a finish of the peer waits a second before it is sent: not waited for here.
        """
        stream, way = end.stream, end.out
        if stream is None or way.stopped is None or way.is_ended or end.inward.is_finished:
            return
        with pytest.raises(StreamStoppedError) as told:
            while True:
                self.pair.take(partial(stream.write_nowait, b"x"), stream.writable)
        assert told.value.code == way.stopped

    def _read_to_the_end(self, end: End) -> None:
        stream = end.stream
        assert stream is not None
        read = partial(self.pair.take, partial(stream.read_nowait, 20_000), stream.readable)
        while not self._judge(end, 20_000, read):
            pass
