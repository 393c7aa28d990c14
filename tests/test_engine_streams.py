"""The binding does what its stub documents: streams, their ends and their errors.

Two endpoints on loopback in this process, without an event loop and without py-libp2p.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from libp2p_quic._engine_errors import (
    ConnectionLostError,
    StreamClosedError,
    StreamResetError,
    StreamStoppedError,
)
from testkit.engine import Pair, pair


@pytest.fixture
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made


def test_echo_and_the_end(two: Pair) -> None:
    ours, theirs = two.streams(*two.connected())
    assert ours.id == theirs.id
    two.write(ours, b"question")
    ours.finish()
    ours.finish()
    assert two.read(theirs, 3) == b"que"
    assert two.read(theirs, 100) == b"stion"
    assert two.read(theirs, 100) == b""
    assert two.read(theirs, 100) == b""
    two.write(theirs, b"answer")
    assert two.read(ours, 100) == b"answer"
    assert two.take(ours.finished_nowait, ours.finished) is True
    with pytest.raises(StreamClosedError):
        ours.write_nowait(b"more")


def test_not_yet_is_none(two: Pair) -> None:
    near, far = two.connected()
    ours, _ = two.streams(near, far)
    assert ours.read_nowait(1) is None
    assert ours.finished_nowait() is None
    assert near.accept_stream_nowait() is None
    assert far.accept_stream_nowait() is None
    assert two.listener.accept_nowait() is None
    assert near.closed_nowait() is None


def test_write_takes_what_fits_and_continues_from_start() -> None:
    with pair(near={"write_buffer": 10_000}, far={"stream_receive_window": 20_000}) as two:
        ours, theirs = two.streams(*two.connected())
        data = bytes(range(256)) * 1000
        taken = ours.write_nowait(data)
        assert taken is not None
        assert 0 < taken <= 10_000
        sent = taken
        got = bytearray()
        full = False
        while len(got) < len(data):
            two.flush()
            more = ours.write_nowait(data, sent) if sent < len(data) else 0
            full = full or more is None
            sent += more or 0
            # The peer reads only after the writer is held back.
            got += (theirs.read_nowait(65_536) or b"") if full else b""
            # No byte is accepted beyond the buffers of both sides.
            assert sent - len(got) <= 10_000 + 20_000 + 65_536
        assert full, "the writer was never held back"
        assert bytes(got) == data


def test_a_reset_has_its_code(two: Pair) -> None:
    ours, theirs = two.streams(*two.connected())
    ours.reset(2**40)
    ours.reset(1)
    with pytest.raises(StreamResetError) as reset:
        two.read(theirs, 1)
    assert reset.value.code == 2**40
    with pytest.raises(StreamClosedError):
        ours.write_nowait(b"x")
    # The other direction stays open.
    two.write(theirs, b"still")
    assert two.read(ours, 10) == b"still"


def test_a_stop_has_its_code(two: Pair) -> None:
    ours, theirs = two.streams(*two.connected())
    theirs.stop(99)
    theirs.stop(1)
    with pytest.raises(StreamClosedError):
        theirs.read_nowait(1)

    def stopped() -> int | None:
        # A stop wakes a waiting writer, and later writes raise it.
        return ours.write_nowait(bytes(1_000_000))

    with pytest.raises(StreamStoppedError) as stop:
        while True:
            two.take(stopped, ours.writable)
    assert stop.value.code == 99


@pytest.mark.parametrize("by", ["near", "far"])
def test_lost_connection_is_no_end_of_stream(two: Pair, by: str) -> None:
    near, far = two.connected()
    ours, theirs = two.streams(near, far)
    (near if by == "near" else far).close(5, b"")
    for stream, party in (
        (ours, "local" if by == "near" else "peer"),
        (theirs, "peer" if by == "near" else "local"),
    ):
        with pytest.raises(ConnectionLostError) as lost:
            two.read(stream, 1)
        assert (lost.value.by, lost.value.code) == (party, 5)
        with pytest.raises(ConnectionLostError):
            two.take(partial(stream.write_nowait, b"x"), stream.writable)


def test_opening_waits_for_the_peers_allowance_of_streams() -> None:
    with pair(far={"max_incoming_streams": 1}) as two:
        near, far = two.connected()
        ours, theirs = two.streams(near, far)
        assert near.open_stream_nowait() is None
        two.ready.clear()
        ours.finish()
        assert two.read(theirs, 10) == b""
        theirs.finish()
        assert two.read(ours, 10) == b""
        again = two.take(near.open_stream_nowait, near.openable)
        assert again.id != ours.id
        # `take` drains only if it has to wait.
        two.ready.update(two.ready_queue.drain())
        assert near.openable in two.ready


def test_dropped_stream_frees_its_place(two: Pair) -> None:
    near, far = two.connected()
    ours, theirs = two.streams(near, far)
    del ours
    with pytest.raises((StreamResetError, StreamClosedError)):
        two.read(theirs, 1)
