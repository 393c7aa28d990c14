"""Repeats a test that measures a time: other work on this machine only adds to it, so the least counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any


def quickest_takes(
    most: float, tries: int = 5
) -> Callable[[Callable[..., Awaitable[float]]], Callable[..., Awaitable[None]]]:
    """Make a test of a coroutine function that returns what it measured. It runs until a value is at most
    ``most``, and fails after ``tries`` larger ones. What a run raises ends the test."""

    def decorate(attempt: Callable[..., Awaitable[float]]) -> Callable[..., Awaitable[None]]:
        @wraps(attempt)
        async def test(**arguments: Any) -> None:
            found: list[float] = []
            while len(found) < tries and all(each > most for each in found):
                found.append(await attempt(**arguments))
            assert min(found) <= most, found

        return test

    return decorate
