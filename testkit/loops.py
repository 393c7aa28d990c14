"""Runs a coroutine on each of asyncio's event loops that the tests know: asyncio's own, and uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvloop

from testkit.census import PATIENCE

T = TypeVar("T")

LOOPS = ("asyncio", "uvloop")


def run(loop: str, main: Coroutine[Any, Any, T], *, debug: bool = False) -> T:
    """`asyncio.run`, on the loop of that name."""
    if loop == "uvloop":
        return uvloop.run(main, debug=debug)
    return asyncio.run(main, debug=debug)


async def soon(awaitable: Coroutine[Any, Any, T]) -> T:
    """Await it, within the time that a loaded machine needs."""
    return await asyncio.wait_for(awaitable, PATIENCE)


async def passes(count: int) -> None:
    """Let the loop make that many passes."""
    for _ in range(count):
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        await done


def on_both(test: Callable[[], Awaitable[None]]) -> Callable[[str], None]:
    """Make a test of a coroutine: it runs on both loops, in debug mode, where asyncio checks more."""

    @pytest.mark.parametrize("loop", LOOPS)
    def on_that(loop: str) -> None:
        async def main() -> None:
            await test()

        run(loop, main(), debug=True)

    on_that.__name__ = getattr(test, "__name__", "test")
    on_that.__doc__ = test.__doc__
    return on_that
