"""Many tasks open streams of one connection at once: each gets one in the order of the calls, and no task is
woken for nothing.

Transports and asyncio endpoints in one process. The peer's limit itself is tested in `simulation limits::*`.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from libp2p_quic import QUICConnection
from libp2p_quic._driver._trio import TrioDriver
from libp2p_quic.asyncio import Connection, EndpointConfig, Stream
from libp2p_quic.exceptions import ConnectionClosed as TrioConnectionClosed
from testkit.asyncio_ends import ends, raw_streams
from testkit.census import PATIENCE, eventually
from testkit.linked import linked
from testkit.loops import on_both, passes

FOUR = {"MAX_INCOMING_STREAMS": 4}
# Longer than a test waits.
SILENT = {"keep_alive_interval": 3 * PATIENCE, "idle_timeout": 6 * PATIENCE}
FOUR_STREAMS = EndpointConfig(max_concurrent_streams=4)


def count_calls(connection: QUICConnection | Connection, patch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call for a stream got one, from now on."""
    got = []
    method: Callable[[], Any] = connection._open_nowait

    def counted() -> Any:
        stream = method()
        got.append(stream is not None)
        return stream

    patch.setattr(connection, "_open_nowait", counted)
    return got


async def until_waiting(connection: QUICConnection, tasks: int) -> None:
    driver = connection._driver
    assert isinstance(driver, TrioDriver)
    assert await eventually(lambda: len(driver._turns.get(connection._engine.openable, ())) == tasks)


# trio


async def test_a_burst_beyond_the_limit_costs_no_call_for_each_waiting_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = 400
    called: list[int] = []
    opened: list[tuple[int, int]] = []
    async with linked(far={"MAX_INCOMING_STREAMS": 32}) as link:
        got = count_calls(link.dialed, monkeypatch)

        async def answer() -> None:
            async with trio.open_nursery() as handlers:
                for _ in range(count):
                    handlers.start_soon(echo, await link.accepted.accept_stream())

        async def echo(stream: Any) -> None:
            await stream.write(await stream.read(5))
            await stream.close()

        async def request(number: int) -> None:
            called.append(number)
            stream = await link.dialed.open_stream()
            opened.append((int(stream.stream_id), number))
            await stream.write(b"hello")
            assert await stream.read(5) == b"hello"
            await stream.close()

        with trio.fail_after(100):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer)
                for number in range(count):
                    nursery.start_soon(request, number)
    assert [number for _, number in sorted(opened)] == called
    # One call for each stream, and at most one more for each wake-up, which brings at least one.
    assert got.count(True) == count
    assert len(got) <= 2 * count + 1, "tasks were woken for nothing"


async def test_a_canceled_task_in_the_line_takes_no_stream_and_loses_none() -> None:
    async with linked(far=FOUR) as link:
        open_ = [await link.stream() for _ in range(4)]
        got: dict[str, Any] = {}
        scope = trio.CancelScope()

        async def wait(name: str) -> None:
            got[name] = await link.dialed.open_stream()

        async def be_canceled() -> None:
            with scope:
                await wait("canceled")

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, "first")
                await until_waiting(link.dialed, 1)
                nursery.start_soon(be_canceled)
                await until_waiting(link.dialed, 2)
                nursery.start_soon(wait, "last")
                await until_waiting(link.dialed, 3)
                scope.cancel()
                await until_waiting(link.dialed, 2)
                for ours, theirs in open_[:2]:
                    await ours.close()
                    await theirs.close()
        assert {name: stream.stream_id for name, stream in got.items()} == {"first": "16", "last": "20"}
        await until_waiting(link.dialed, 0)


async def test_the_end_of_the_connection_reaches_every_task_in_the_line() -> None:
    failed = []
    async with linked(far=FOUR) as link:
        held = [await link.stream() for _ in range(4)]

        async def wait() -> None:
            try:
                await link.dialed.open_stream()
            except TrioConnectionClosed as error:
                failed.append(error)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(wait)
                await until_waiting(link.dialed, 20)
                await link.accepted.close(0x1234)
        assert len(held) == 4
    assert [error.error_code for error in failed] == [0x1234] * 20


async def test_streams_that_write_nothing_open_without_waiting_for_other_work() -> None:
    # Nothing else is sent in this test: what the engine opens ahead is all that a pass may use up.
    async with linked(near=SILENT, far=SILENT) as link:
        with trio.fail_after(PATIENCE):
            streams = [await link.dialed.open_stream() for _ in range(16)]
    assert len(streams) == 16


# asyncio


@on_both
async def test_asyncio_burst_beyond_the_limit_costs_no_call_for_each_waiting_task() -> None:
    count = 400
    opened: list[tuple[int, int]] = []
    async with ends(far=EndpointConfig(max_concurrent_streams=32)) as both:
        near, far = await both.connected()
        with pytest.MonkeyPatch.context() as patch:
            got = count_calls(near, patch)

            async def echo(stream: Stream) -> None:
                await stream.write(await stream.read_exactly(5))

            async def request(number: int) -> None:
                stream = await near.open_stream("/echo")
                opened.append((stream.id, number))
                await stream.write(b"hello")
                assert await stream.read_exactly(5) == b"hello"
                stream.close()

            serving = asyncio.ensure_future(far.serve({"/echo": echo}))
            await asyncio.wait_for(asyncio.gather(*map(request, range(count))), 100)
            serving.cancel()
    assert [number for _, number in sorted(opened)] == list(range(count))
    assert got.count(True) == count
    assert len(got) <= 2 * count + 1, "tasks were woken for nothing"


async def until_served(connection: Connection) -> None:
    """Let the first waiting task get its stream, in this pass of the loop."""
    driver = connection._driver
    future = next(iter(driver._turns[connection._engine.openable]))
    end = time.monotonic() + PATIENCE
    while not future.done():
        assert time.monotonic() < end
        driver._flush()
        select.select([driver.ready_queue.fileno()], [], [], 1)
        driver._drain()


@on_both
async def test_asyncio_task_that_is_canceled_with_its_stream_passes_it_on() -> None:
    async with ends(far=FOUR_STREAMS) as both:
        near, far = await both.connected()
        open_ = [await raw_streams(near, far) for _ in range(4)]
        first, canceled, last = (asyncio.ensure_future(near.open_stream()) for _ in range(3))
        await passes(2)
        for stream in open_[0]:
            stream.close()
        await until_served(near)
        canceled.cancel()
        first.cancel()
        for task in (first, canceled):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await asyncio.wait_for(last, PATIENCE)).id == 16
        assert not near._driver.turns(near._engine.openable)


@on_both
async def test_asyncio_stream_of_a_canceled_task_is_reset_if_no_task_waits() -> None:
    async with ends(far=FOUR_STREAMS) as both:
        near, far = await both.connected()
        open_ = [await raw_streams(near, far) for _ in range(4)]
        canceled = [asyncio.ensure_future(near.open_stream()) for _ in range(2)]
        await passes(2)
        for stream in open_[0]:
            stream.close()
        await until_served(near)
        for task in canceled:
            task.cancel()
        await asyncio.wait(canceled)
        end = time.monotonic() + PATIENCE
        while near.statistics().streams_open != 3:
            assert time.monotonic() < end
            await passes(1)
        assert not near._driver.turns(near._engine.openable)
        # The peer takes the stream that was reset, and so allows another.
        (await asyncio.wait_for(far.accept_stream(), PATIENCE)).reset()
        assert (await asyncio.wait_for(near.open_stream(), PATIENCE)).id == 20


@on_both
async def test_asyncio_waiting_task_that_is_canceled_is_passed_over() -> None:
    async with ends(far=FOUR_STREAMS) as both:
        near, far = await both.connected()
        open_ = [await raw_streams(near, far) for _ in range(4)]
        canceled, waiting = (asyncio.ensure_future(near.open_stream()) for _ in range(2))
        await passes(2)
        canceled.cancel()
        for stream in open_[0]:
            stream.close()
        assert (await asyncio.wait_for(waiting, PATIENCE)).id == 16
        with pytest.raises(asyncio.CancelledError):
            await canceled


@on_both
async def test_asyncio_proposals_are_sent_while_other_tasks_wait_for_streams() -> None:
    # The peer's allowance grows from 16 with the streams that it knows; these write nothing else.
    async with ends() as both:
        near, far = await both.connected()
        opening = (near.open_stream("/quiet") for _ in range(200))
        streams = await asyncio.wait_for(asyncio.gather(*opening), PATIENCE)
        assert len({stream.id for stream in streams}) == 200
        assert not far.is_closed
