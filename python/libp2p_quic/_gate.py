"""Calls a gate that decides whether a peer is admitted. Only ``True`` admits.

A gate is the program's or the swarm's code. If it raises, times out or returns something other
than a bool, the peer is denied and the log names the gate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import trio

from libp2p_quic._callback import outcome_of
from libp2p_quic._throttle import Throttle

logger = logging.getLogger("libp2p_quic.gate")


@dataclass(frozen=True)
class Denial:
    """Why a gate denied a peer. ``cause`` is the exception that the gate raised, if any."""

    reason: str
    cause: Exception | None = None


class Gate:
    """A callable that admits or denies peers, with the ``name`` for log lines and errors.

    ``call`` returns a bool or an awaitable of one.
    """

    def __init__(self, name: str, call: Callable[..., object], timeout: float) -> None:
        """``timeout`` is the time limit of one call, in seconds."""
        self.name = name
        self._call = call
        self._timeout = timeout
        self._defects = Throttle(logger, logging.WARNING)

    async def denial(self, peer: str, *arguments: object) -> Denial | None:
        """Why the gate denies ``peer``; None if it admits. ``arguments`` are passed to the gate.

        Canceling cancels the gate. A plain function cannot be interrupted; if it returns after
        the timeout, the peer is denied.
        """
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            outcome = await outcome_of(lambda: self._call(*arguments))
        if scope.cancel_called:
            return self._defect(peer, f"did not answer within {self._timeout:g} s")
        if outcome.error is not None:
            return self._defect(peer, f"raised {outcome.error!r}", outcome.error)
        if outcome.value is True:
            return None
        if outcome.value is False:
            logger.debug("%s denied %s", self.name, peer)
            return Denial(f"{self.name} denied it")
        return self._defect(peer, f"returned {outcome.value!r}, and only True admits")

    def _defect(self, peer: str, what: str, cause: Exception | None = None) -> Denial:
        self._defects.log("%s %s: %s is kept out", self.name, what, peer, exc_info=cause)
        logger.debug("%s %s: %s is kept out", self.name, what, peer)
        return Denial(f"{self.name} {what}", cause)


def name_of(call: Callable[..., object]) -> str:
    """The name for log lines: the qualified name of a function, otherwise of the callable's class."""
    call = call.func if isinstance(call, partial) else call
    named = call if hasattr(call, "__qualname__") else type(call)
    return f"{named.__module__}.{named.__qualname__}"
