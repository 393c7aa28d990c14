"""A Python thread that computes for seconds without yielding loses no connection.

The computing process reports when it started and ended. The other side keeps sending, with an idle timeout
of two thirds of that time, so a process that answered nothing would be lost. The other side's engine counts
the QUIC packets that it received in that time.
"""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol

from testkit.census import PATIENCE
from testkit.far import far_host
from testkit.near import IP4, addresses, connection, inbound, near_host, new_stream
from testkit.payload import payload

PARK = TProtocol("/test/park")
ECHO = TProtocol("/test/echo")
# Longer than other work on this machine keeps a whole process from running. Seconds.
IDLE_TIMEOUT = 4.0
CONFIG = {"idle_timeout": IDLE_TIMEOUT, "keep_alive_interval": 0.3}
SECONDS = 1.5 * IDLE_TIMEOUT


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
            # Its Python code answers nothing; its engine acknowledges every byte.
            await stream.write(b"hello")
            while not spans:
                await trio.sleep(0.05)  # scenario: the counter is read twenty times a second
                seen.append((time.monotonic(), ours.statistics().datagrams_received))
        (span,) = spans
        assert span["ended"] - span["began"] >= SECONDS
        # The beginning and the end of the computing, each as long as the idle timeout, had packets from the
        # other side. In a shorter time a loaded machine may run neither process.
        for part, since in (("beginning", span["began"]), ("end", span["ended"] - IDLE_TIMEOUT)):
            counts = [count for moment, count in seen if since <= moment <= since + IDLE_TIMEOUT]
            assert counts[-1] > counts[0], f"silence at the {part}"
        # The connection is still open, and the delayed echo arrives now.
        assert connection(near, far.peer_id) is ours
        assert not ours.is_closed
        assert await stream.read(10) == b"hello"


@pytest.mark.slow
@pytest.mark.parametrize("role", ["listener", "dialer"])
async def test_near_python_computes_and_nothing_is_lost(role: str) -> None:
    """This process computes while the peer sends data."""
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
            before = ours.statistics().datagrams_received
            began = time.monotonic()
            while time.monotonic() - began < SECONDS:
                pass
            # Read before trio runs again.
            received = ours.statistics().datagrams_received - before
        # Keep-alives of both sides are about forty, and half of that if the peer does not run for 3 s.
        assert received > 8, "the engine received nothing while Python computed"
        assert connection(near, far.peer_id) is ours
        got = bytearray()
        while len(got) < 4_000_000:
            got += await stream.read(65_536)
        assert bytes(got) == payload(4, 4_000_000)
        # The far side has kept its connection and its streams, too.
        with trio.fail_after(PATIENCE):
            while await far.do("connections") != [str(near.get_id())]:
                await trio.lowlevel.checkpoint()
        await stream.write(b"back")
        assert bytes.fromhex(await far.do("read", stream=there, n=4)) == b"back"
