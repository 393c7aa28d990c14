"""The driver wakes each waiting task in time and leaves no resources.

Inside one trio run, against real endpoints of the engine. trio is observed by its instruments; nothing is
mocked.
"""

from __future__ import annotations

import random
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing
from trio.lowlevel import Task

from libp2p_quic._driver import current_driver, gather_writes, send_gathered
from libp2p_quic._driver._epoll import watch
from libp2p_quic._driver._trio import TrioDriver
from libp2p_quic._engine import Config, Connection, Endpoint, Listener, ReadyQueue, Stream
from libp2p_quic._engine_errors import EndpointClosedError
from testkit.cancel import cancel_soon
from testkit.census import PATIENCE
from testkit.engine import identity


class Loop:
    """Two endpoints of this run's driver, and a connection with a stream between them."""

    def __init__(self) -> None:
        driver = current_driver()
        assert isinstance(driver, TrioDriver)
        self.driver = driver
        self.far_identity = identity()
        self.near = Endpoint(identity(), Config(), driver.ready_queue)
        self.far = Endpoint(self.far_identity, Config(), driver.ready_queue)
        for endpoint in (self.near, self.far):
            driver.adopt(endpoint)
        self.listener: Listener = self.far.listen("127.0.0.1", 0)

    async def connected(self) -> tuple[Connection, Connection]:
        near = self.near.connect(*self.listener.local_address, self.far_identity.peer_id)
        self.driver.touch(self.near)
        await self.driver.ready(near.connected_nowait, near.connected)
        return near, await self.driver.ready(self.listener.accept_nowait, self.listener.acceptable)

    async def streams(self, count: int = 1) -> list[tuple[Stream, Stream]]:
        near, far = await self.connected()
        found = []
        for _ in range(count):
            ours = await self.driver.ready(near.open_stream_nowait, near.openable)
            assert ours.write_nowait(b".") == 1
            self.driver.touch(self.near)
            theirs = await self.driver.ready(far.accept_stream_nowait, far.acceptable)
            assert await self.read(theirs) == b"."
            found.append((ours, theirs))
        return found

    async def read(self, stream: Stream) -> bytes:
        return await self.driver.ready(lambda: stream.read_nowait(65_536), stream.readable)

    def write(self, stream: Stream, data: bytes) -> None:
        assert stream.write_nowait(data) == len(data)
        self.driver.touch(self.near)
        self.driver.touch(self.far)


async def test_one_driver_a_run() -> None:
    assert current_driver() is current_driver()


def test_no_driver_outside_of_a_run() -> None:
    with pytest.raises(RuntimeError, match=r"trio\.run"):
        current_driver()


def test_every_run_has_its_own_driver() -> None:
    async def main() -> object:
        return current_driver()

    assert trio.run(main) is not trio.run(main)


async def test_ready_returns_what_is_there_and_is_a_checkpoint() -> None:
    loop = Loop()
    with trio.testing.assert_checkpoints():
        assert await loop.driver.ready(lambda: 7, 1) == 7


async def test_ready_takes_nothing_if_already_canceled() -> None:
    loop = Loop()
    taken = []

    def take() -> bool:
        taken.append("something")
        return True

    with trio.CancelScope() as scope:
        scope.cancel()
        await loop.driver.ready(take, 1)
    assert scope.cancelled_caught
    assert taken == []


async def test_ready_passes_on_what_the_method_raises() -> None:
    loop = Loop()
    loop.near.close(0, b"")
    loop.driver.touch(loop.near)

    def method() -> None:
        loop.near.listen("127.0.0.1", 0)

    with pytest.raises(EndpointClosedError):
        await loop.driver.ready(method, 1)


async def test_every_task_that_waits_for_a_token_wakes() -> None:
    loop = Loop()
    ((ours, theirs),) = await loop.streams()
    woken = []

    async def wait(name: str) -> None:
        await loop.driver.wait(ours.readable)
        woken.append(name)

    assert ours.read_nowait(1) is None
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(wait, name)
            await trio.testing.wait_all_tasks_blocked()
            assert woken == []
            loop.write(theirs, b"x")
    assert sorted(woken) == ["a", "b", "c"]


async def test_a_canceled_wait_leaves_nothing_and_other_waits_continue() -> None:
    loop = Loop()
    ((ours, theirs),) = await loop.streams()
    scope = trio.CancelScope()
    read = []

    async def canceled() -> None:
        with scope:
            await loop.read(ours)

    async def patient() -> None:
        read.append(await loop.read(ours))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(canceled)
            nursery.start_soon(patient)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert len(loop.driver._waiting[ours.readable]) == 1
            loop.write(theirs, b"for the patient")
    assert read == [b"for the patient"]
    assert set(loop.driver._waiting) == {loop.driver._log.arrived}


async def test_canceling_at_random_loses_no_byte() -> None:
    loop = Loop()
    ((ours, theirs),) = await loop.streams()
    dice = random.Random(20)
    data = dice.randbytes(300_000)
    got = bytearray()

    async def write() -> None:
        start = 0
        while start < len(data):
            piece = data[start : start + dice.randrange(1, 3000)]
            start += await loop.driver.ready(partial(theirs.write_nowait, piece), theirs.writable)
            loop.driver.touch(loop.far)

    canceled = 0
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while len(got) < len(data):
                with trio.CancelScope() as scope:
                    cancel_soon(nursery, scope, dice.randrange(5))
                    got += await loop.read(ours)
                canceled += scope.cancelled_caught
                loop.driver.touch(loop.near)
    assert bytes(got) == data
    assert canceled > 20
    assert set(loop.driver._waiting) == {loop.driver._log.arrived}


class Passes(trio.abc.Instrument):
    """In which pass of the scheduler each task ran."""

    def __init__(self) -> None:
        self.current = 0
        self.steps: list[tuple[int, str]] = []

    def before_io_wait(self, timeout: float) -> None:
        self.current += 1

    def before_task_step(self, task: Task) -> None:
        self.steps.append((self.current, task.name))


@contextmanager
def watched() -> Iterator[Passes]:
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    try:
        yield passes
    finally:
        trio.lowlevel.remove_instrument(passes)


async def test_waiting_task_runs_in_the_pass_that_saw_the_wakeup() -> None:
    loop = Loop()
    ((ours, theirs),) = await loop.streams()

    async def reader() -> None:
        await loop.read(ours)

    for _ in range(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await trio.testing.wait_all_tasks_blocked()
            with watched() as passes:
                loop.write(theirs, b"x")
                # No other task is runnable, so trio sleeps until the ready queue wakes it.
                while not any("reader" in name for _, name in passes.steps):
                    await trio.testing.wait_all_tasks_blocked(0.01)
        ran = next(number for number, name in passes.steps if "reader" in name)
        # The descriptor wakes the ready queue's task, which runs in the same pass.
        saw = next((number for number, name in passes.steps if "ready_queue" in name), ran)
        assert ran <= saw


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no epoll")
@pytest.mark.parametrize("is_watched", [True, False])
def test_a_sleeping_run_is_woken_without_a_task_where_trio_can_watch_the_queue(
    is_watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_watched:
        monkeypatch.setattr("libp2p_quic._driver._trio.watch", lambda _: None)

    async def main() -> list[str]:
        loop = Loop()
        ((ours, theirs),) = await loop.streams()
        with watched() as passes, trio.fail_after(20):
            for _ in range(5):
                loop.write(theirs, b"x")
                assert await loop.read(ours) == b"x"
        return [name for _, name in passes.steps if "ready_queue" in name]

    assert bool(trio.run(main)) is not is_watched


def test_a_descriptor_that_a_task_waits_for_is_not_watched_beside_it() -> None:
    async def main() -> None:
        queue = ReadyQueue()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, queue.fileno())
            await trio.testing.wait_all_tasks_blocked()
            assert watch(queue.fileno()) is None
            nursery.cancel_scope.cancel()

    trio.run(main)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no epoll")
def test_a_run_closes_its_endpoints_though_the_queue_is_watched_no_more() -> None:
    async def main() -> Endpoint:
        loop = Loop()
        await trio.testing.wait_all_tasks_blocked()
        # It also removes the descriptor from the epoll set.
        trio.lowlevel.notify_closing(loop.driver.ready_queue.fileno())
        return loop.near

    near = trio.run(main)
    with pytest.raises(EndpointClosedError):
        near.listen("127.0.0.1", 0)


class Counted:
    """A real endpoint that counts calls of flush."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.endpoint.flush()


async def test_what_one_pass_writes_is_flushed_once() -> None:
    loop = Loop()
    streams = await loop.streams(20)
    counted = Counted(loop.near)
    for ours, _ in streams:
        assert ours.write_nowait(b"x") == 1
        loop.driver.touch(cast(Endpoint, counted))
    assert counted.flushes == 0
    for _, theirs in streams:
        assert await loop.read(theirs) == b"x"
    assert counted.flushes == 1
    # Written to in several passes, they are flushed in each.
    for ours, theirs in streams:
        assert ours.write_nowait(b"y") == 1
        loop.driver.touch(cast(Endpoint, counted))
        assert await loop.read(theirs) == b"y"
    assert counted.flushes == 1 + len(streams)


async def test_gathered_writes_of_several_passes_are_flushed_once() -> None:
    loop = Loop()
    streams = await loop.streams(20)
    counted = Counted(loop.near)
    gather_writes(60)
    for ours, _ in streams:
        assert ours.write_nowait(b"x") == 1
        loop.driver.touch(cast(Endpoint, counted))
        await trio.lowlevel.checkpoint()
    assert counted.flushes == 0
    # No task is ready to run while this one waits.
    for _, theirs in streams:
        assert await loop.read(theirs) == b"x"
    assert counted.flushes == 1
    # It is over.
    for ours, _ in streams:
        assert ours.write_nowait(b"y") == 1
        loop.driver.touch(cast(Endpoint, counted))
        await trio.lowlevel.checkpoint()
    assert counted.flushes == 1 + len(streams)


async def test_what_is_gathered_leaves_in_the_pass_that_sends_it() -> None:
    loop = Loop()
    ((ours, _),) = await loop.streams()
    counted = Counted(loop.near)
    # Nothing is gathered: the next one gathers all the same.
    send_gathered()
    gather_writes(60)
    assert ours.write_nowait(b"x") == 1
    loop.driver.touch(cast(Endpoint, counted))
    await trio.lowlevel.checkpoint()
    assert counted.flushes == 0
    send_gathered()
    await trio.lowlevel.checkpoint()
    assert counted.flushes == 1


async def test_gathering_ends_after_its_limit_though_tasks_are_ready() -> None:
    loop = Loop()
    ((ours, _),) = await loop.streams()
    counted = Counted(loop.near)
    gather_writes(0)
    # The first one holds: a caller cannot hold back the writes of others for longer.
    gather_writes(60)
    assert ours.write_nowait(b"x") == 1
    loop.driver.touch(cast(Endpoint, counted))
    await trio.lowlevel.checkpoint()
    assert counted.flushes == 1


@pytest.mark.parametrize(("tasks", "hold", "flushes"), [(3, 60.0, 1), (3, 0.0, 3), (1, 60.0, 3)])
async def test_a_flush_waits_for_several_tasks_in_checkpoints_of_the_driver(
    tasks: int, hold: float, flushes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    streams = await loop.streams(tasks)
    counted = Counted(loop.near)
    monkeypatch.setattr("libp2p_quic._driver._trio._HOLD", hold)

    async def write(stream: Stream) -> None:
        for _ in range(3):
            assert stream.write_nowait(b"x") == 1
            loop.driver.touch(cast(Endpoint, counted))
            await loop.driver.checkpoint()

    async with trio.open_nursery() as nursery:
        for ours, _ in streams:
            nursery.start_soon(write, ours)
    assert counted.flushes == flushes
    for _, theirs in streams:
        got = b""
        while len(got) < 3:
            got += await loop.read(theirs)
        assert got == b"xxx"


async def test_every_sixteenth_call_of_a_pass_lets_others_run_and_each_one_beyond_its_bounds() -> None:
    driver = current_driver()

    async def counted(sizes: list[int]) -> list[int]:
        """Which of the calls of one pass let other tasks run."""
        await trio.lowlevel.checkpoint()
        return [number for number, size in enumerate(sizes, 1) if driver.count_call(size)]

    assert await counted([1] * 40) == [16, 32]
    assert await counted([1] * 131) == [*range(16, 129, 16), 129, 130, 131]
    assert await counted([65_536] * 18) == [16, 17, 18]
    assert await counted([1 << 20] * 2) == [1, 2]
    assert await counted([1] * 3) == []


async def test_unflushed_work_is_flushed_before_the_run_sleeps() -> None:
    loop = Loop()
    ((ours, theirs),) = await loop.streams()
    loop.write(ours, b"hello")
    # No await in between: only the driver can have flushed.
    with trio.fail_after(20):
        assert await loop.read(theirs) == b"hello"
    assert loop.driver._dirty == set()


def test_end_of_the_run_closes_endpoints_and_refuses_to_wait() -> None:
    loops = []

    async def main() -> None:
        loop = Loop()
        loops.append((loop, await loop.connected()))

    trio.run(main)
    ((loop, (near, far)),) = loops
    with pytest.raises(EndpointClosedError):
        loop.near.listen("127.0.0.1", 0)
    # The I/O thread closes them and signals the ready queue, which no task drains now.
    for connection in (near, far):
        while connection.closed_nowait() is None:
            assert select.select([loop.driver.ready_queue.fileno()], [], [], PATIENCE)[0], "never closed"
            loop.driver.ready_queue.drain()
    assert loop.driver._endpoints == set()
    assert loop.driver._waiting == {}

    async def too_late() -> None:
        await loop.driver.wait(near.closed)

    with pytest.raises(RuntimeError, match="ending"):
        trio.run(too_late)
