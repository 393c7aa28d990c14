"""The one place where code of others is called: connection handlers and close hooks.

What such code raises cannot be foreseen, and none of it may take the swarm's nursery or
the whole run down. So here, and only here, any Exception ends in the log, with its
traceback, and the caller learns that it failed. Our own code is not called through this:
a defect of ours has to surface.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from types import TracebackType

logger = logging.getLogger("libp2p_quic")


class _Reported:
    """Log an Exception instead of raising it. Cancellations and interrupts pass."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.has_failed = False

    def __enter__(self) -> _Reported:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.has_failed = True
        logger.error("%s failed", self._what, exc_info=error)
        return True


async def call_foreign(what: str, call: Callable[[], Awaitable[None]]) -> bool:
    """Await ``call()`` and say whether it went well; ``what`` names it in the log."""
    with _Reported(what) as outcome:
        await call()
    return not outcome.has_failed
