"""Runs a command until it ends or Ctrl-C. A measurement that is interrupted still has its results."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from libp2p_quic._command.output import INTERRUPTED

T = TypeVar("T")


class Interruption:
    """What SIGINT and SIGTERM end: the innermost `measured` coroutine, or the whole command."""

    def __init__(self, command: asyncio.Task[Any]) -> None:
        self._running = [command]

    def interrupt(self) -> None:
        """Cancel what runs."""
        self._running[-1].cancel()

    async def measured(self, measurement: Coroutine[Any, Any, None]) -> bool:
        """Run ``measurement`` until it ends or is interrupted. Returns whether it was interrupted.

        Raises what it raises. Canceling this cancels it.
        """
        task = asyncio.create_task(measurement)
        self._running.append(task)
        try:
            await asyncio.wait([task])
        finally:
            self._running.remove(task)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if task.cancelled():
            return True
        task.result()
        return False


def run(command: Callable[[Interruption], Coroutine[Any, Any, T]]) -> T:
    """`asyncio.run` for a command. An interruption outside of a measurement exits with the status 130."""

    async def main() -> T:
        task = asyncio.current_task()
        assert task is not None
        interruption = Interruption(task)
        _call_on_signals(asyncio.get_running_loop(), interruption.interrupt)
        return await command(interruption)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit(INTERRUPTED)


def _call_on_signals(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Have SIGINT and SIGTERM call ``callback`` in ``loop``, from the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        if loop.is_closed():
            signal.default_int_handler(number, frame)
        loop.call_soon_threadsafe(callback)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, callback)
        except NotImplementedError:
            # Windows' loops have no such handlers, but Ctrl-C wakes them.
            signal.signal(number, handle)
