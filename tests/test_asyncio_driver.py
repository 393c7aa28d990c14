"""The asyncio driver wakes the right tasks at the right time and leaves nothing behind.

On asyncio's loop and on uvloop, against real endpoints of the engine. Each test starts its own
loops, so none of them is async.
"""

from __future__ import annotations

import asyncio
import gc
import random
import select
import sys
import threading
from functools import partial
from typing import Any, cast

import pytest

from libp2p_quic._driver._asyncio import AsyncioDriver, current
from libp2p_quic._engine import Config, Connection, Endpoint, Listener, Stream
from libp2p_quic._engine_errors import EndpointClosedError
from testkit.census import PATIENCE, census, left_since
from testkit.engine import identity
from testkit.loops import LOOPS, on_both, passes, run, soon

on_both_loops = pytest.mark.parametrize("loop", LOOPS)


class Ends:
    """Two endpoints of this loop's driver, and connections and streams between them."""

    def __init__(self) -> None:
        self.driver = current()
        self.far_identity = identity()
        self.near = Endpoint(identity(), Config(), self.driver.ready_queue)
        self.far = Endpoint(self.far_identity, Config(), self.driver.ready_queue)
        for endpoint in (self.near, self.far):
            self.driver.adopt(endpoint)
        self.listener: Listener = self.far.listen("127.0.0.1", 0)

    async def connected(self) -> tuple[Connection, Connection]:
        near = self.near.connect(*self.listener.local_address, self.far_identity.peer_id)
        self.driver.touch(self.near)
        await soon(self.driver.ready(near.connected_nowait, near.connected))
        return near, await soon(self.driver.ready(self.listener.accept_nowait, self.listener.acceptable))

    async def streams(self, count: int = 1) -> list[tuple[Stream, Stream]]:
        near, far = await self.connected()
        found = []
        for _ in range(count):
            ours = await soon(self.driver.ready(near.open_stream_nowait, near.openable))
            assert ours.write_nowait(b".") == 1
            self.driver.touch(self.near)
            theirs = await soon(self.driver.ready(far.accept_stream_nowait, far.acceptable))
            assert await self.read(theirs) == b"."
            found.append((ours, theirs))
        return found

    async def read(self, stream: Stream) -> bytes:
        return await self.driver.ready(lambda: stream.read_nowait(65_536), stream.readable)

    def write(self, stream: Stream, data: bytes) -> None:
        assert stream.write_nowait(data) == len(data)
        self.driver.touch(self.near)
        self.driver.touch(self.far)


def test_no_driver_outside_of_a_loop() -> None:
    with pytest.raises(RuntimeError, match=r"asyncio\.run"):
        current()


@on_both_loops
def test_every_loop_has_its_own_driver(loop: str) -> None:
    async def main() -> AsyncioDriver:
        assert current() is current()
        return current()

    assert run(loop, main()) is not run(loop, main())


@on_both
async def test_ready_takes_nothing_when_it_is_canceled() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    reader = asyncio.ensure_future(ends.read(ours))
    await passes(1)
    ends.write(theirs, b"kept")
    # The bytes arrive, and the token wakes the task in the pass in which it is canceled.
    select.select([ends.driver.ready_queue.fileno()], [], [], 5)
    ends.driver._flush()
    select.select([ends.driver.ready_queue.fileno()], [], [], 5)
    ends.driver._drain()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await soon(ends.read(ours)) == b"kept"


@on_both
async def test_ready_passes_on_what_the_method_raises() -> None:
    ends = Ends()
    ends.near.close(0, b"")
    ends.driver.touch(ends.near)
    with pytest.raises(EndpointClosedError):
        await ends.driver.ready(lambda: ends.near.listen("127.0.0.1", 0), 1)


@on_both
async def test_tasks_run_between_calls_that_never_wait() -> None:
    driver = current()
    others = []

    async def other() -> None:
        others.append("ran")

    task = asyncio.ensure_future(other())
    for _ in range(16):
        await driver.ready(lambda: True, 1)
    assert others == ["ran"]
    await task


@on_both
async def test_every_task_that_waits_for_a_token_wakes() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    assert ours.read_nowait(1) is None
    waiting = [asyncio.ensure_future(ends.driver.wait(ours.readable)) for _ in range(3)]
    await passes(1)
    assert not any(task.done() for task in waiting)
    ends.write(theirs, b"x")
    await asyncio.wait_for(asyncio.gather(*waiting), 20)


@on_both
async def test_canceled_wait_leaves_nothing_and_spares_the_others() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    canceled = asyncio.ensure_future(ends.read(ours))
    patient = asyncio.ensure_future(ends.read(ours))
    await passes(1)
    canceled.cancel()
    await passes(2)
    assert canceled.cancelled()
    assert len(ends.driver._waiting[ours.readable]) == 1
    ends.write(theirs, b"for the patient")
    assert await asyncio.wait_for(patient, 20) == b"for the patient"
    assert ends.driver._waiting == {}


@on_both
async def test_wait_any_ends_with_the_first_token_or_the_time() -> None:
    ends = Ends()
    ((one, one_far), (two, _)) = await ends.streams(2)
    tokens = [one.readable, two.readable]
    assert one.read_nowait(1) is two.read_nowait(1) is None
    await soon(ends.driver.wait_any(tokens, ends.driver.current_time()))
    assert ends.driver._waiting == {}
    # The task waits before the byte can arrive: a token that comes earlier is dropped.
    waiting = asyncio.ensure_future(ends.driver.wait_any(tokens, float("inf")))
    await passes(1)
    ends.write(one_far, b"x")
    await asyncio.wait_for(waiting, PATIENCE)
    assert ends.driver._waiting == {}
    assert one.read_nowait(1) == b"x"


@on_both
async def test_callback_of_a_token_runs_once_and_can_be_withdrawn() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    called = asyncio.Event()
    assert ours.read_nowait(1) is None
    withdrawn = ends.driver.call_when(ours.readable, lambda: pytest.fail("was withdrawn"))
    ends.driver.call_when(ours.readable, called.set)
    ends.driver.withdraw(ours.readable, withdrawn)
    ends.write(theirs, b"x")
    await asyncio.wait_for(called.wait(), 20)
    assert ends.driver._waiting == {}


@on_both
async def test_canceling_at_random_loses_no_byte() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    dice = random.Random(20)
    data = dice.randbytes(300_000)
    got = bytearray()

    async def write() -> None:
        start = 0
        while start < len(data):
            piece = data[start : start + dice.randrange(1, 3000)]
            start += await ends.driver.ready(partial(theirs.write_nowait, piece), theirs.writable)
            ends.driver.touch(ends.far)

    writer = asyncio.ensure_future(write())
    canceled = 0
    while len(got) < len(data):
        take = partial(ours.read_nowait, dice.randrange(1, 3000))
        reader = asyncio.ensure_future(ends.driver.ready(take, ours.readable))
        await passes(dice.randrange(2))
        if dice.random() < 0.5:
            reader.cancel()
        try:
            got += await reader
        except asyncio.CancelledError:
            canceled += 1
        ends.driver.touch(ends.near)
    await writer
    assert bytes(got) == data
    assert canceled > 20
    assert ends.driver._waiting == {}


class Counted:
    """A real endpoint whose flushes are counted on their way to it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.endpoint.flush()


@on_both
async def test_what_one_pass_writes_is_flushed_once() -> None:
    ends = Ends()
    streams = await ends.streams(20)
    counted = Counted(ends.near)
    for ours, _ in streams:
        assert ours.write_nowait(b"x") == 1
        ends.driver.touch(cast(Endpoint, counted))
    assert counted.flushes == 0
    for _, theirs in streams:
        assert await soon(ends.read(theirs)) == b"x"
    assert counted.flushes == 1


@on_both
async def test_what_a_woken_task_writes_is_flushed_in_its_pass() -> None:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    counted = Counted(ends.far)
    flushes = []

    async def answer() -> None:
        assert await ends.read(theirs) == b"question"
        # Runs in the next pass, before what is scheduled from here on.
        asyncio.get_running_loop().call_soon(lambda: flushes.append(counted.flushes))
        assert theirs.write_nowait(b"answer") == 6
        ends.driver.touch(cast(Endpoint, counted))

    answering = asyncio.ensure_future(answer())
    await passes(1)
    ends.write(ours, b"question")
    assert await soon(ends.read(ours)) == b"answer"
    await answering
    assert flushes == [1]


@on_both_loops
def test_end_of_the_loop_closes_endpoints_and_refuses_to_wait(loop: str) -> None:
    async def main() -> tuple[Ends, tuple[Connection, Connection]]:
        ends = Ends()
        return ends, await ends.connected()

    ends, (near, far) = run(loop, main())
    with pytest.raises(EndpointClosedError):
        ends.near.listen("127.0.0.1", 0)
    # The I/O thread brings that about, though nobody drains the ready queue any more.
    for connection in (near, far):
        while connection.closed_nowait() is None:
            assert select.select([ends.driver.ready_queue.fileno()], [], [], PATIENCE)[0], "never closed"
            ends.driver.ready_queue.drain()
    assert ends.driver._endpoints == set()

    async def too_late() -> None:
        await ends.driver.wait(near.closed)

    with pytest.raises(RuntimeError, match="ended"):
        run(loop, too_late())
    # Nothing is called in the closed loop.
    ends.driver.touch(ends.near)


async def talk() -> bytes:
    ends = Ends()
    ((ours, theirs),) = await ends.streams()
    ends.write(ours, b"hello")
    return await soon(ends.read(theirs))


@on_both_loops
def test_loops_one_after_another_leave_nothing(loop: str) -> None:
    run(loop, talk())
    before = census()
    for _ in range(5):
        assert run(loop, talk()) == b"hello"
    assert left_since(before) == {}


@on_both_loops
def test_loops_in_several_threads_do_not_meet(loop: str) -> None:
    run(loop, talk())
    before = census()
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(run(loop, talk()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [b"hello"] * 4
    assert left_since(before) == {}


@on_both_loops
def test_loop_that_is_closed_without_notice_frees_its_driver(loop: str) -> None:
    """A program may close its loop without `shutdown_asyncgens`, which `asyncio.run` calls."""
    import uvloop

    def once() -> None:
        made = uvloop.new_event_loop() if loop == "uvloop" else asyncio.new_event_loop()
        assert made.run_until_complete(talk()) == b"hello"
        made.close()

    once()
    before = census()
    for _ in range(3):
        once()
    gc.collect()
    assert left_since(before) == {}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_tasks() -> None:
    async def main() -> list[bytes]:
        factory: Any = asyncio.eager_task_factory  # type: ignore[attr-defined,unused-ignore]
        asyncio.get_running_loop().set_task_factory(factory)
        return list(await asyncio.gather(*(talk() for _ in range(3))))

    assert asyncio.run(main(), debug=True) == [b"hello"] * 3


@on_both
async def test_events_that_come_faster_than_they_are_logged_hold_up_no_task() -> None:
    driver = current()
    drained: list[bool] = []

    def drain() -> bool | None:
        drained.append(True)
        # Without an end, as long as nothing else runs.
        return None if after.done() else True

    after = driver.loop.create_future()
    stock = driver._log.drain_nowait
    driver._log.drain_nowait = drain  # type: ignore[method-assign]
    driver.loop.call_soon(after.set_result, None)
    driver._drain_log()
    await after
    await passes(2)
    driver._log.drain_nowait = stock  # type: ignore[method-assign]
    assert 1 < len(drained) < 5


@on_both
async def test_calls_that_are_canceled_behind_one_that_waits_leave_nothing() -> None:
    driver = current()
    token = 1 << 40

    def nothing() -> int | None:
        return None

    first = asyncio.ensure_future(driver.in_turn(nothing, token))
    others = [asyncio.ensure_future(driver.in_turn(nothing, token)) for _ in range(100)]
    await passes(1)
    for each in others:
        each.cancel()
    await passes(2)
    assert len(driver._turns[token]) == 1
    first.cancel()
    await passes(2)
    assert not driver.turns(token)
