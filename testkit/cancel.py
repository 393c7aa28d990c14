"""Cancels an operation after a number of scheduler passes, not of seconds.

So the moment does not depend on the speed of the machine.
"""

from __future__ import annotations

import trio


def cancel_soon(nursery: trio.Nursery, scope: trio.CancelScope, passes: int) -> None:
    """Cancel ``scope`` after ``passes`` scheduler passes; with 0, before the operation starts."""

    async def later() -> None:
        for _ in range(passes - 1):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    if passes:
        nursery.start_soon(later)
    else:
        scope.cancel()
