"""Calls code of the program and of py-libp2p: connection handlers, close hooks and gates.

Such code may raise any exception, which must not cancel the swarm's nursery or the trio run. So
every Exception is caught here, and only here. This transport's own code is not called through
this module, so that its defects surface. Cancellation and KeyboardInterrupt pass through.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

logger = logging.getLogger("libp2p_quic")


@dataclass(frozen=True)
class Outcome:
    """What the callback returned, or the Exception that it raised."""

    value: object = None
    error: Exception | None = None


async def outcome_of(call: Callable[[], object]) -> Outcome:
    """Call ``call`` and, if it returns an awaitable, await that. Logs nothing."""
    try:
        value = call()
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:  # noqa: BLE001 - see above
        return Outcome(error=error)
    return Outcome(value)


async def call_foreign(what: str, call: Callable[[], Awaitable[object]]) -> bool:
    """Await ``call()``. Returns whether it succeeded.

    If it raises, the Exception is logged with its traceback; ``what`` names the callback.
    """
    outcome = await outcome_of(call)
    if outcome.error is not None:
        logger.error("%s failed", what, exc_info=outcome.error)
    return outcome.error is None
