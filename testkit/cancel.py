"""Cancelling an operation at a moment counted in scheduler passes, not in seconds.

So the moment does not depend on how fast the machine is.
"""

from __future__ import annotations

import trio


def cancel_soon(nursery: trio.Nursery, scope: trio.CancelScope, passes: int) -> None:
    """At once, before the operation has begun, or that many scheduler passes later."""

    async def later() -> None:
        for _ in range(passes - 1):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    if passes:
        nursery.start_soon(later)
    else:
        scope.cancel()
