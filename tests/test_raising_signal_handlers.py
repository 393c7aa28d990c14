"""A signal handler of the program that raises inside the driver's instrument stops no connection of the run.

trio removes an instrument that raises. The handlers are real, and so are the signals: a callable that the
driver calls raises one in its own thread.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from libp2p_quic._driver import current_driver
from libp2p_quic._driver._trio import TrioDriver
from libp2p_quic._engine import Config, Endpoint, Stream
from libp2p_quic._engine_errors import EndpointClosedError
from testkit.census import PATIENCE
from testkit.engine import identity

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")


class HandlerError(Exception):
    """What the program's signal handler raises."""


@contextmanager
def handler_that_raises(error: BaseException) -> Iterator[None]:
    def handler(*_: object) -> None:
        raise error

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


class Ends:
    """Two endpoints of this run's driver, and the two ends of a stream between them."""

    ours: Stream
    theirs: Stream

    def __init__(self) -> None:
        driver = current_driver()
        assert isinstance(driver, TrioDriver)
        self.driver = driver
        self.near = Endpoint(identity(), Config(), driver.ready_queue)
        self._far_identity = identity()
        self._far = Endpoint(self._far_identity, Config(), driver.ready_queue)
        for endpoint in (self.near, self._far):
            driver.adopt(endpoint)

    async def connect(self) -> None:
        ready = self.driver.ready
        listener = self._far.listen("127.0.0.1", 0)
        near = self.near.connect(*listener.local_address, self._far_identity.peer_id)
        self.driver.touch(self.near)
        await ready(near.connected_nowait, near.connected)
        far = await ready(listener.accept_nowait, listener.acceptable)
        self.ours = await ready(near.open_stream_nowait, near.openable)
        self.write(b".")
        self.theirs = await ready(far.accept_stream_nowait, far.acceptable)
        assert await self.read(self.theirs) == b"."

    async def read(self, stream: Stream) -> bytes:
        return await self.driver.ready(lambda: stream.read_nowait(100), stream.readable)

    async def read_interrupted(self) -> bytes:
        """Read at the near endpoint. The driver's first read, while it drains the queue, is interrupted."""
        method = interrupted(lambda: self.ours.read_nowait(100))
        return await self.driver.in_turn(method, self.ours.readable)

    def write(self, data: bytes) -> None:
        """From the near endpoint."""
        assert self.ours.write_nowait(data) == len(data)
        self.driver.touch(self.near)

    def answer(self, data: bytes) -> None:
        assert self.theirs.write_nowait(data) == len(data)
        self.driver.touch(self._far)


def interrupted(method: Callable[[], T | None]) -> Callable[[], T | None]:
    """``method``, with a signal in its second call: a task that waits in turn makes the first one, and the
    driver the others, while it drains the queue."""
    calls = 0

    def call() -> T | None:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGUSR1)
        return method()

    return call


class Interrupted:
    """A real endpoint whose first flush is interrupted before it begins."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes == 1:
            signal.raise_signal(signal.SIGUSR1)
        self.endpoint.flush()


async def assert_serves_and_sleeps(ends: Ends) -> None:
    """Messages arrive both ways, and the run goes to sleep: with a readable descriptor it would not."""
    ends.write(b"there")
    assert await ends.read(ends.theirs) == b"there"
    ends.answer(b"back")
    assert await ends.read(ends.ours) == b"back"
    await wait_all_tasks_blocked(0.01)


async def test_a_handler_that_raises_while_the_queue_is_drained_costs_no_wakeup(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = Ends()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await ends.read_interrupted())

    with handler_that_raises(HandlerError("stop")), trio.fail_after(PATIENCE):
        await ends.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            ends.answer(b"x")
        assert got == [b"x"]
        assert "Instrument has been disabled" in caplog.text
        await assert_serves_and_sleeps(ends)


async def test_a_handler_that_raises_as_a_task_is_woken_costs_no_wakeup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = Ends()
    got: list[bytes] = []
    real, calls = trio.lowlevel.reschedule, 0

    def reschedule(task: trio.lowlevel.Task) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            signal.raise_signal(signal.SIGUSR1)
        real(task)

    async def read() -> None:
        got.append(await ends.read(ends.ours))

    with handler_that_raises(HandlerError("stop")), trio.fail_after(PATIENCE):
        await ends.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            monkeypatch.setattr(trio.lowlevel, "reschedule", reschedule)
            ends.answer(b"x")
        assert got == [b"x"]
        assert calls >= 2
        await assert_serves_and_sleeps(ends)


async def test_a_handler_that_raises_before_the_run_sleeps_loses_no_write(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ends = Ends()
    with handler_that_raises(HandlerError("stop")), trio.fail_after(PATIENCE):
        await ends.connect()
        flushed = Interrupted(ends.near)
        assert ends.ours.write_nowait(b"x") == 1
        ends.driver.touch(cast(Endpoint, flushed))
        assert await ends.read(ends.theirs) == b"x"
        assert flushed.flushes == 1
        assert "Instrument has been disabled" in caplog.text
        await assert_serves_and_sleeps(ends)


def test_a_handler_that_exits_ends_the_run_and_closes_its_endpoints() -> None:
    opened: list[Endpoint] = []

    async def main() -> None:
        ends = Ends()
        opened.append(ends.near)
        await ends.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ends.read_interrupted)
            await wait_all_tasks_blocked()
            ends.answer(b"x")
            with trio.fail_after(PATIENCE):
                await trio.sleep_forever()

    with handler_that_raises(SystemExit(1)), pytest.raises(trio.TrioInternalError):
        trio.run(main)
    with pytest.raises(EndpointClosedError):
        opened[0].listen("127.0.0.1", 0)
