"""A Python thread that computes for seconds without yielding loses no connection.

How the tests know: the computing process says from when to when it computed; the other
side keeps sending, with an idle timeout of half that time, so that a process that answered
nothing would be lost; and the QUIC packets that the other side received in that time are
counted by its own engine.
"""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol

from peers.far import far_host
from peers.near import IP4, addresses, connection, inbound, near_host, new_stream
from peers.payload import payload

PARK = TProtocol("/test/park")
ECHO = TProtocol("/test/echo")
CONFIG = {"idle_timeout": 1.5, "keep_alive_interval": 0.3}
SECONDS = 3.0


@pytest.mark.slow
@pytest.mark.parametrize("role", ["listener", "dialer"])
async def test_far_python_computes_and_nothing_is_lost(role: str) -> None:
    async with far_host(config=CONFIG) as far, near_host(IP4, config=CONFIG) as near:
        if role == "listener":
            await near.connect(far.info)
        else:
            await far.do("connect", address=addresses(near)[0])
        ours = await inbound(near, far.peer_id)
        stream = await new_stream(near, far.peer_id, ECHO)
        seen: list[tuple[float, float]] = []
        spans: list[dict[str, float]] = []

        async def compute() -> None:
            spans.append(await far.do("compute", seconds=SECONDS))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(compute)
            # Its Python answers nothing; its engine acknowledges every byte of this.
            await stream.write(b"hello")
            while not spans:
                await trio.sleep(0.05)  # scenario: the counter is read twenty times a second
                seen.append((time.monotonic(), ours.statistics()["datagrams_received"]))
        (span,) = spans
        assert span["ended"] - span["began"] >= SECONDS
        # Both halves of the computing, each as long as the idle timeout, brought packets from the other
        # side. In a shorter time a loaded machine may run neither process.
        for half in range(2):
            since = span["began"] + half * SECONDS / 2
            counts = [count for moment, count in seen if since <= moment <= since + SECONDS / 2]
            assert counts[-1] > counts[0], f"silence in half {half}"
        # The same connection is still there, and the echo that had to wait comes now.
        assert connection(near, far.peer_id) is ours
        assert not ours.is_closed
        assert await stream.read(10) == b"hello"


@pytest.mark.slow
@pytest.mark.parametrize("role", ["listener", "dialer"])
async def test_near_python_computes_and_nothing_is_lost(role: str) -> None:
    """The same with the computing in this process, and data on the way meanwhile."""
    async with far_host(config=CONFIG) as far, near_host(IP4, config=CONFIG) as near:
        if role == "dialer":
            await near.connect(far.info)
        else:
            await far.do("connect", address=addresses(near)[0])
        ours = await inbound(near, far.peer_id)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")

        async with trio.open_nursery() as nursery:

            async def far_writes() -> None:
                await far.do("write", stream=there, seed=4, size=4_000_000)
                await far.do("close_write", stream=there)

            nursery.start_soon(far_writes)
            await trio.testing.wait_all_tasks_blocked()
            before = ours.statistics()["datagrams_received"]
            began = time.monotonic()
            while time.monotonic() - began < SECONDS:
                pass
            # Read by this thread before trio could have done anything.
            received = ours.statistics()["datagrams_received"] - before
        # Keep-alives alone, from both sides, are some twenty.
        assert received > 8, "the engine took nothing while Python computed"
        assert connection(near, far.peer_id) is ours
        got = bytearray()
        while len(got) < 4_000_000:
            got += await stream.read(65_536)
        assert bytes(got) == payload(4, 4_000_000)
        # The far side saw no loss either: it still has its connection and its streams.
        assert await far.do("connections") == [str(near.get_id())]
        await stream.write(b"back")
        assert bytes.fromhex(await far.do("read", stream=there, n=4)) == b"back"
