"""Processes that are killed or stopped during a transfer, no free descriptors, an interpreter that exits
with open objects, Ctrl-C, and garbage collection in any order.

The other side gets an error in time, a lost connection and never a clean end, and continues.
Forks are in test_forks, trio runs that fail in test_runs.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from libp2p_quic import process_statistics
from libp2p_quic.exceptions import DialError, ListenError
from testkit.census import census, eventually, left_since
from testkit.engine import Pair, pair
from testkit.far import far_host
from testkit.linked import linked
from testkit.near import IP4, near_transport
from testkit.payload import MIB

ROOT = Path(__file__).parent.parent
# More descriptors than the I/O thread polls in these tests.
_LEFT = 32
SHORT: dict[str, Any] = {"idle_timeout": 1.5, "keep_alive_interval": 0.3}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(4))
async def test_a_peer_killed_at_a_random_moment_of_a_transfer(seed: int) -> None:
    dice = random.Random(seed)
    async with far_host(config=SHORT) as one, far_host(config=SHORT) as other:
        await one.do("connect", address=other.addresses[0])
        stream = await one.do("open", peer=other.peer, protocol="/test/park")
        theirs = await other.do("arrived")
        survivor, end, victim = (one, stream, other) if dice.random() < 0.5 else (other, theirs, one)
        ends: list[dict[str, Any]] = []

        async def read() -> None:
            ends.append(await survivor.do("drain", stream=end))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await victim.do("write", stream=theirs if victim is other else stream, seed=1, size=MIB)
            await trio.sleep(dice.random() * 0.3)  # scenario: a random moment
            await victim.kill()
        # It was killed, so it could not finish the stream.
        assert ends[0]["end"] != "StreamEOF"
        # The remaining process continues.
        async with far_host() as third:
            await survivor.do("connect", address=third.addresses[0])
            assert await survivor.do("connections") == [third.peer]


@pytest.mark.slow
async def test_a_peer_stopped_for_longer_than_the_idle_timeout() -> None:
    async with far_host(config=SHORT) as one, far_host(config=SHORT) as other:
        await one.do("connect", address=other.addresses[0])
        stream = await one.do("open", peer=other.peer, protocol="/test/park")
        theirs = await other.do("arrived")
        other.process.send_signal(signal.SIGSTOP)
        try:
            assert (await one.do("drain", stream=stream))["end"] == "StreamReset"
            assert await one.do("parted", peer=other.peer)
        finally:
            other.process.send_signal(signal.SIGCONT)
        # It resumes with a lost connection and gets the error, too.
        assert (await other.do("drain", stream=theirs))["end"] == "StreamReset"
        await one.do("connect", address=other.addresses[0])
        assert await one.do("ping", peer=other.peer, count=3) == 3


async def unused(_: object) -> None:
    raise AssertionError("this listener is never dialed")


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """The process can open no further descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as taken:
        # Every number below the limit is in use. Not lower: poll(2) takes at most as many descriptors.
        while (free := os.dup(0)) < _LEFT:
            taken.callback(os.close, free)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_out_of_descriptors_is_a_clear_error_and_the_endpoint_works_on() -> None:
    async with linked() as link:
        address = link.listener.get_addrs()[0]
        ours, theirs = await link.stream()
        other = near_transport()
        listener = other.create_listener(unused)
        # An endpoint of an earlier test that ends meanwhile would free the descriptors of its sockets.
        assert await eventually(lambda: gc.collect() >= 0 and process_statistics().endpoints == 2)
        with no_descriptors_left():
            with pytest.raises(DialError, match="Too many open files"):
                await other.dial(address)
            with pytest.raises(ListenError, match="Too many open files"):
                await listener.listen(Multiaddr(IP4))
            # Operations without a new descriptor work.
            await ours.write(b"still")
            assert await theirs.read(10) == b"still"
            again = await link.dialer.dial(address)
            await again.close()
        dialed = await other.dial(address)
        assert dialed.peer_id == link.dialed.peer_id
        await other.close()


# How the interpreter exits with open objects -> status, and text on standard error.
ENDINGS = {
    "falling off the end": ("pass", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "an exception": ("raise ValueError('the program failed')", 1, "the program failed"),
    "a thread that still waits": (
        "threading.Thread(target=select.select, args=([two.ready_queue], [], [], 60), daemon=True).start()",
        0,
        "",
    ),
    "os._exit": ("os._exit(4)", 4, ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends_with_live_connections(ending: str) -> None:
    statement, status, complaint = ENDINGS[ending]
    program = f"""
        import os, select, sys, threading
        from testkit.engine import Pair
        two = Pair()
        near, far = two.connected()
        ours, theirs = two.streams(near, far)
        ours.write_nowait(bytes(100_000))
        two.flush()
        {statement}
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.strip().endswith(complaint)
    assert bool(ended.stderr) == bool(complaint), ended.stderr


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_transfer() -> None:
    """KeyboardInterrupt and no other error; the peer sees the close at once."""
    program = """
        import sys
        import trio
        from multiaddr import Multiaddr
        from testkit.near import near_transport

        async def main():
            connection = await near_transport().dial(Multiaddr(sys.argv[1]))
            stream = await connection.open_stream()
            await stream.write(b".")
            while True:
                await stream.write(bytes(65_536))

        try:
            trio.run(main)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    with pair() as outside:
        host, port = outside.listener.local_address
        address = f"/ip4/{host}/udp/{port}/quic-v1"
        command = [sys.executable, "-c", textwrap.dedent(program), address]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                listener = outside.listener
                accepted = outside.take(listener.accept_nowait, listener.acceptable, within=60)
                theirs = outside.take(accepted.accept_stream_nowait, accepted.acceptable)
                while len(outside.read(theirs, 65_536)) < 1000:
                    continue
                process.send_signal(signal.SIGINT)
                lost = outside.take(accepted.closed_nowait, accepted.closed)
                assert (lost.by, lost.kind) == ("peer", "closed")
                _, complaints = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (process.returncode, complaints) == (130, "")


def test_garbage_in_any_order_leaves_nothing() -> None:
    with pair() as warm:
        warm.connected()
    del warm
    before = census()
    for seed in range(30):
        two = Pair()
        near, far = two.connected()
        ours, theirs = two.streams(near, far)
        kept: list[Any] = [two.ready_queue, two.near, two.far, two.listener, near, far, ours, theirs]
        # Some are in reference cycles, which only the collector ends.
        ring: list[Any] = [two]
        ring.append(ring)
        del two, near, far, ours, theirs
        random.Random(seed).shuffle(kept)
        if seed % 2:
            ring.append(kept.pop())
        while kept:
            kept.pop()
        del ring
        gc.collect()
    assert left_since(before) == {}
