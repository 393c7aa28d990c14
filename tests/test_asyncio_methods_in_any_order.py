"""Methods of streams in orders that nobody thought of, canceled at any moment, on both loops.

hypothesis draws the steps; a model knows what was written, read and ended in each direction. An answer
is right when the model has a cause for it. A step that has to wait is canceled, and must have taken nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libp2p_quic.asyncio import EndpointConfig, Stream, StreamClosed, StreamLost, StreamReset
from testkit.asyncio_ends import Ends, ends, raw_streams
from testkit.loops import LOOPS, passes, run, soon

# Longer than any direction gets here, and with no period that a mistake in order could hide in.
BYTES = bytes((i * i >> 3) % 256 for i in range(2_000_000))
NARROW = EndpointConfig(write_buffer=5_000, stream_window=8_000, connection_window=20_000)

STEPS = st.tuples(
    st.sampled_from(
        ["write"] * 4 + ["read"] * 3 + ["read_exactly"] * 3 + ["finish", "reset", "stop", "close"]
    ),
    st.integers(0, 1),
    st.sampled_from([1, 900, 5_000, 20_000]),
    st.sampled_from([0, 1, 2, 3, 20]),
)


@dataclass
class Way:
    """One direction. ``attempted`` bytes may have been written: a canceled write took a part."""

    attempted: int = 0
    certain: int = 0
    read: int = 0
    is_finished: bool = False
    is_reset: bool = False
    is_stopped: bool = False


class Model:
    """Both ends of one stream."""

    def __init__(self, streams: tuple[Stream, Stream]) -> None:
        self.streams = streams
        # Way n leads from end n to the other one.
        self.ways = (Way(), Way())

    async def step(self, what: str, at: int, size: int, wait: int) -> None:
        stream, out, inward = self.streams[at], self.ways[at], self.ways[1 - at]
        if what == "write":
            if out.attempted != out.certain:
                # How much of a canceled write was taken is not known to its caller.
                return
            data = BYTES[out.certain : out.certain + size]
            try:
                out.attempted += size
                if await self.tried(stream.write(data), wait) is None:
                    # One that never ran took nothing.
                    out.attempted -= 0 if wait else size
                    return
                out.certain += size
            except StreamClosed:
                assert out.is_finished
            except StreamReset:
                assert out.is_reset or out.is_stopped or inward.is_reset
        elif what in ("read", "read_exactly"):
            method = stream.read(size) if what == "read" else stream.read_exactly(size)
            await self.judge_read(method, inward, out, wait)
        elif what == "finish":
            stream.finish()
            out.is_finished = True
        elif what == "stop":
            stream.stop(3)
            inward.is_stopped = True
        elif what == "reset":
            stream.reset(4)
            out.is_reset = inward.is_stopped = True
        else:
            stream.close()
            out.is_finished = inward.is_stopped = True

    async def judge_read(self, method: Coroutine[Any, Any, bytes], way: Way, back: Way, wait: int) -> None:
        try:
            got = await self.tried(method, wait)
        except asyncio.IncompleteReadError as error:
            got = error.partial
            assert way.is_finished
        except StreamClosed:
            assert way.is_stopped
            return
        except StreamReset:
            assert way.is_reset or way.is_stopped or back.is_reset
            return
        if got is None:
            return
        assert got == BYTES[way.read : way.read + len(got)], "other bytes than were written"
        way.read += len(got)
        assert way.read <= way.attempted, "more bytes than were written"
        if not got:
            assert way.is_finished
            assert way.read >= way.certain, "an end before the last byte"

    async def tried(self, method: Coroutine[Any, Any, Any], wait: int) -> Any:
        """The result, () for none; None if it was canceled after ``wait`` passes."""
        task = asyncio.ensure_future(method)
        await passes(wait)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            return None
        result = task.result()
        return () if result is None else result

    async def settle(self) -> None:
        """What is owed arrives, in every direction that nobody cut off."""
        for at, (way, back) in enumerate(zip(self.ways, self.ways[::-1], strict=True)):
            if way.is_reset or way.is_stopped or back.is_reset:
                continue
            self.streams[at].finish()
            rest = await soon(self.streams[1 - at].read_to_end(len(BYTES)))
            assert rest == BYTES[way.read : way.read + len(rest)]
            assert way.certain <= way.read + len(rest) <= way.attempted


async def walk(steps: list[tuple[str, int, int, int]], loses: bool) -> None:
    async def on(both: Ends) -> None:
        near, far = await both.connected()
        model = Model(await raw_streams(near, far))
        for step in steps:
            await model.step(*step)
        if loses:
            near.close(9)
            for stream in model.streams:
                with pytest.raises((StreamLost, StreamClosed, StreamReset)):
                    while await soon(stream.read_exactly(1)):
                        pass
        else:
            await model.settle()

    async with ends(NARROW, NARROW) as both:
        await on(both)
        assert both.near._open is not None
    # Nothing waits any more.
    assert both.near._open[0]._waiting == {}


def orders(examples: int) -> settings:
    return settings(
        max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )


@pytest.mark.parametrize("loop", LOOPS)
@orders(25)
@given(st.lists(STEPS, min_size=15, max_size=40), st.integers(0, 4))
def test_a_few_orders(loop: str, steps: list[tuple[str, int, int, int]], chance: int) -> None:
    run(loop, walk(steps, loses=chance == 0 and not any(step[0] in ("finish", "close") for step in steps)))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("loop", LOOPS)
@orders(400)
@given(st.lists(STEPS, min_size=15, max_size=60), st.integers(0, 4))
def test_many_orders(loop: str, steps: list[tuple[str, int, int, int]], chance: int) -> None:
    run(loop, walk(steps, loses=chance == 0 and not any(step[0] in ("finish", "close") for step in steps)))
