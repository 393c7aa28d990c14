"""Event loops that receive datagrams themselves, by a lease of a socket: nothing is lost when it begins, when
it ends, when the loop is away, and when its process forks or closes.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import pytest
import trio

from libp2p_quic._driver import Driver, _asyncio, current_driver
from libp2p_quic._engine import Config, Endpoint, ReadyQueue, Stream
from testkit.census import PATIENCE, census, left_since
from testkit.engine import Pair, identity, pair
from testkit.fork import in_a_child
from testkit.loops import LOOPS, run, soon

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lends sockets to event loops")


def round_trip(two: Pair, ours: Stream, theirs: Stream) -> None:
    two.write(ours, b"ping")
    assert two.read(theirs, 10) == b"ping"
    two.write(theirs, b"pong")
    assert two.read(ours, 10) == b"pong"


def until_lent(two: Pair, ours: Stream, theirs: Stream) -> None:
    """Round trips in close succession, until the loop receives."""
    deadline = time.monotonic() + PATIENCE
    while not two.ready_queue.is_receiver:
        assert time.monotonic() < deadline, "no socket was lent"
        round_trip(two, ours, theirs)


def test_close_round_trips_lend_the_socket_and_lose_nothing() -> None:
    with pair(receives=True) as two:
        ours, theirs = two.streams(*two.connected())
        for _ in range(10):
            until_lent(two, ours, theirs)
            for _ in range(20):
                round_trip(two, ours, theirs)


def test_a_queue_that_does_not_receive_gets_no_socket() -> None:
    with pair() as two:
        ours, theirs = two.streams(*two.connected())
        for _ in range(200):
            round_trip(two, ours, theirs)
            assert not two.ready_queue.is_receiver


def test_the_thread_receives_while_the_loop_is_away() -> None:
    """The loop drains nothing: what arrives is read all the same, and acknowledged."""
    with pair(receives=True) as two:
        near, far = two.connected()
        ours, theirs = two.streams(near, far)
        until_lent(two, ours, theirs)
        two.write(ours, b"while you were away")
        deadline = time.monotonic() + PATIENCE
        while (got := theirs.read_nowait(100)) is None:
            assert time.monotonic() < deadline, "nobody received"
            time.sleep(0.001)  # scenario: the program computes and does not drain
        assert got == b"while you were away"
        while two.ready_queue.is_receiver:
            assert time.monotonic() < deadline, "the lease did not end"
            time.sleep(0.001)  # scenario: the same
        round_trip(two, ours, theirs)


def test_bulk_ends_the_lease_and_arrives() -> None:
    with pair(receives=True) as two:
        ours, theirs = two.streams(*two.connected())
        until_lent(two, ours, theirs)
        sent, received = 0, 0
        piece = bytes(range(256)) * 256
        while received < 64 * len(piece):
            if sent < 64 * len(piece):
                sent += ours.write_nowait(piece, sent % len(piece)) or 0
            two.flush()
            data = theirs.read_nowait(65_536)
            if data is None:
                two.ready.update(two.ready_queue.drain())
                continue
            start = received % 256
            assert data == (piece + piece)[start : start + len(data)]
            received += len(data)
        round_trip(two, ours, theirs)


def test_an_endpoint_closes_during_a_lease() -> None:
    before = census()
    with pair(receives=True) as two:
        port = two.listener.local_address[1]
        until_lent(two, *two.streams(*two.connected()))
    # The socket is closed, not only no longer used.
    again = Endpoint(identity(), Config(), ReadyQueue())
    assert again.listen("127.0.0.1", port).local_address[1] == port
    again.close(0, b"")
    del two, again
    assert not left_since(before)


def test_a_forked_child_takes_no_datagram_of_its_parent() -> None:
    with pair(receives=True) as two:
        ours, theirs = two.streams(*two.connected())
        for _ in range(3):
            until_lent(two, ours, theirs)
            two.write(ours, b"for the parent")
            assert in_a_child(two.ready_queue.drain) == []
            assert two.read(theirs, 100) == b"for the parent"
            round_trip(two, ours, theirs)


async def driver_until_lent(driver: Driver) -> None:
    """Round trips between two endpoints, until the loop receives. The caller limits the time."""
    far_identity = identity()
    near = Endpoint(identity(), Config(), driver.ready_queue)
    far = Endpoint(far_identity, Config(), driver.ready_queue)
    listener = far.listen("127.0.0.1", 0)
    connection = near.connect(*listener.local_address, far_identity.peer_id)
    driver.touch(near)
    accepted = await driver.ready(listener.accept_nowait, listener.acceptable)
    ours = await driver.ready(connection.open_stream_nowait, connection.openable)
    theirs: Stream | None = None
    while not driver.ready_queue.is_receiver:
        assert ours.write_nowait(b"ping") == 4
        driver.touch(near)
        if theirs is None:
            theirs = await driver.ready(accepted.accept_stream_nowait, accepted.acceptable)
        assert await driver.ready(partial(theirs.read_nowait, 10), theirs.readable) == b"ping"
        assert theirs.write_nowait(b"pong") == 4
        driver.touch(far)
        assert await driver.ready(partial(ours.read_nowait, 10), ours.readable) == b"pong"
    near.close(0, b"")
    far.close(0, b"")


async def test_a_trio_loop_receives() -> None:
    with trio.fail_after(PATIENCE):
        await driver_until_lent(current_driver())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_asyncio_loop_receives(loop: str) -> None:
    async def main() -> None:
        await soon(driver_until_lent(_asyncio.current()))

    run(loop, main())
