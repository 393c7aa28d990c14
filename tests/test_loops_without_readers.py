"""asyncio loops that cannot watch a descriptor, as Windows' default one: a thread watches for the driver."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar
from weakref import ref

import pytest

from libp2p_quic._driver._asyncio import AsyncioDriver, current
from libp2p_quic._driver._watch_thread import WatchThread
from testkit.asyncio_ends import ends
from testkit.census import PATIENCE
from testkit.loops import soon
from testkit.payload import MIB, payload

T = TypeVar("T")


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """It raises what the Proactor loop inherits from AbstractEventLoop."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    def remove_reader(self, fd: Any) -> bool:
        raise NotImplementedError


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on such a loop."""
    loop = LoopWithoutReaders()
    loop.set_debug(True)
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's descriptors: to read, to write."""
    both = os.pipe()
    yield both
    for each in both:
        os.close(each)


def watchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "libp2p-quic-watch"]


def test_bytes_arrive_and_the_thread_ends_with_the_loop() -> None:
    data = payload(1, MIB)

    async def main() -> None:
        async with ends() as both:
            near, far = await soon(both.streams())
            assert len(watchers()) == 1
            for _ in range(100):
                await soon(near.write(b"ping"))
                assert await soon(far.read_exactly(4)) == b"ping"
            writing = asyncio.ensure_future(near.write(data))
            assert await soon(far.read_exactly(len(data))) == data
            await asyncio.wait_for(writing, PATIENCE)

    run(main())
    assert watchers() == []


def test_it_is_called_once_for_each_time_that_it_is_readable(pipe: tuple[int, int]) -> None:
    """A call too many would block the loop in `os.read`."""
    source, target = pipe

    async def main() -> None:
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        watching = WatchThread(loop, source, lambda: arrived.put_nowait(os.read(source, 1)))
        for data in (b"abc", b"d"):
            os.write(target, data)
            assert b"".join([await soon(arrived.get()) for _ in data]) == data
        watching.end()
        os.write(target, b"e")
        assert arrived.empty()

    run(main())
    assert watchers() == []


def test_nothing_is_called_after_the_end(pipe: tuple[int, int]) -> None:
    source, target = pipe
    called: list[str] = []

    async def main() -> None:
        watching = WatchThread(asyncio.get_running_loop(), source, lambda: called.append("x"))
        os.write(target, b"x")
        watching.end()
        watching.end()
        # What the thread has scheduled before.
        watching._call()

    run(main())
    assert (called, watchers()) == ([], [])


def test_thread_of_a_loop_that_was_closed_ends(pipe: tuple[int, int]) -> None:
    source, target = pipe
    loop = LoopWithoutReaders()
    watching = WatchThread(loop, source, lambda: None)
    loop.close()
    os.write(target, b"x")
    watching._thread.join(PATIENCE)
    assert watchers() == []
    watching.end()


def test_loop_that_is_closed_without_notice_frees_its_driver_and_thread() -> None:
    """Without `shutdown_asyncgens`, as in test_asyncio_driver. Nothing wakes the thread afterwards."""

    async def main() -> ref[AsyncioDriver]:
        return ref(current())

    loop = LoopWithoutReaders()
    driver = loop.run_until_complete(main())
    (thread,) = watchers()
    loop.close()
    gc.collect()
    assert driver() is None
    thread.join(PATIENCE)
    assert watchers() == []


def test_it_watches_on_after_an_error_of_the_callback(pipe: tuple[int, int]) -> None:
    """As a loop does that watches descriptors itself."""
    source, target = pipe
    failures: list[str] = []

    async def main() -> None:
        arrived: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(repr(context["exception"])))

        def read() -> None:
            arrived.put_nowait(data := os.read(source, 1))
            if data == b"x":
                raise LookupError("a defect")

        watching = WatchThread(loop, source, read)
        os.write(target, b"xy")
        assert [await soon(arrived.get()) for _ in range(2)] == [b"x", b"y"]
        watching.end()

    run(main())
    assert (failures, watchers()) == (["LookupError('a defect')"], [])
