"""Waits for a coroutine with a time limit.

`asyncio.wait_for` does not serve here: before Python 3.12 it drops a cancellation that comes in the pass in
which the coroutine ends, and in every version it waits without a limit for one that ignores its cancellation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def ended_within(seconds: float, awaitable: Awaitable[T]) -> asyncio.Future[T] | None:
    """The future of ``awaitable`` when it has ended, with its result, exception or cancellation; None after
    ``seconds``. It is canceled then, and if the caller is canceled, and not waited for."""
    future: asyncio.Future[Any] = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([future], timeout=seconds)
    finally:
        if not future.done():
            future.cancel()
        elif not future.cancelled():
            # A canceled caller does not look at it, which asyncio would log.
            future.exception()
    return future if future.done() else None
