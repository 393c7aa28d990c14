"""Event loops that begin and end in many threads at the same time, and the import without a GIL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import sysconfig
import threading
from typing import Any

import pytest

from libp2p_quic._repair import ClassPatch
from libp2p_quic.asyncio import Stream
from testkit.asyncio_ends import ends, raw_streams
from testkit.census import PATIENCE, census, left_since
from testkit.loops import soon
from testkit.payload import payload

THREADS, LOOPS, STREAMS, SIZE = 8, 4, 6, 50_000


async def carried(data: bytes, ours: Stream, theirs: Stream) -> bool:
    """Whether one end reads what the other one writes."""
    writing = asyncio.ensure_future(ours.write(data))
    got = await soon(theirs.read_exactly(len(data)))
    await writing
    return got == data


async def transferred(seed: int) -> bool:
    """Whether every stream of a connection carries bytes of its own, all at the same time."""
    async with ends() as both:
        near, far = await soon(both.connected())
        pairs = [await soon(raw_streams(near, far)) for _ in range(STREAMS)]
        numbered = enumerate(pairs, seed * STREAMS)
        transfers = [carried(payload(number, SIZE), *pair) for number, pair in numbered]
        return all(await asyncio.gather(*transfers))


@pytest.mark.slow
def test_loops_that_begin_and_end_in_many_threads_do_not_meet() -> None:
    """A loop of one thread may get the number (`id`) of one that another thread has just closed."""
    assert asyncio.run(transferred(0))
    before = census()
    results: list[bool] = []

    def run_loops(thread: int) -> None:
        for loop in range(LOOPS):
            results.append(asyncio.run(transferred(thread * LOOPS + loop)))

    threads = [threading.Thread(target=run_loops, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LOOPS * PATIENCE)
    assert results == [True] * (THREADS * LOOPS)
    assert left_since(before) == {}


class Host:
    """Ends as a host does: with its last reference."""


class Changed:
    """Has an attribute that hosts of several threads replace."""

    value = "its own"


def test_hosts_of_many_threads_change_a_class_and_leave_it_as_it_was() -> None:
    """Threads change places so often that two of them are within one change."""
    patch = ClassPatch(Changed, "value", "ours")
    seen: set[str] = set()

    def begin_and_end_hosts() -> None:
        for _ in range(20_000):
            host: Any = Host()
            undo = patch.apply(host)
            seen.add(Changed.value)
            undo()

    threads = [threading.Thread(target=begin_and_end_hosts) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(interval)
    assert (seen, Changed.value, patch.is_applied) == ({"ours"}, "its own", False)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this CPython always has a GIL")
def test_the_import_leaves_the_gil_off() -> None:
    """In a process of its own: what the tests import may have switched it on."""
    program = "import sys, libp2p_quic.asyncio; print(sys._is_gil_enabled())"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=3 * PATIENCE, check=False
    )
    assert (told.returncode, told.stdout) == (0, "False\n"), told.stderr
