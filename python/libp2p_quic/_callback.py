"""The one place where code of the program and of py-libp2p is called: connection handlers,
close hooks and gates.

What such code raises cannot be foreseen, and none of it may take the swarm's nursery or
the whole run down. So here, and only here, any Exception is caught. Our own code is not
called through this: a defect of ours has to surface. Cancellations and interrupts pass.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

logger = logging.getLogger("libp2p_quic")


@dataclass(frozen=True)
class Outcome:
    """What foreign code returned, or the Exception that it raised."""

    value: object = None
    error: Exception | None = None


async def outcome_of(call: Callable[[], object]) -> Outcome:
    """Call it, and await what it returns if that can be awaited. Nothing is logged."""
    try:
        value = call()
        if inspect.isawaitable(value):
            value = await value
    except Exception as error:  # noqa: BLE001 - see above
        return Outcome(error=error)
    return Outcome(value)


async def call_foreign(what: str, call: Callable[[], Awaitable[None]]) -> bool:
    """Await ``call()`` and say whether it went well.

    If not, the Exception is logged with its traceback; ``what`` names the code there.
    """
    outcome = await outcome_of(call)
    if outcome.error is not None:
        logger.error("%s failed", what, exc_info=outcome.error)
    return outcome.error is None
