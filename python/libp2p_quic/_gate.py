"""Asks one gate whether a peer is admitted, and fails closed: only ``True`` admits.

A gate is the program's or the swarm's code. A gate that raises, that takes too long, or that
answers with anything other than a bool keeps the peer out, and the log names the gate.
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
    """Why a gate kept a peer out. ``cause`` is what the gate raised, if it did."""

    reason: str
    cause: Exception | None = None


class Gate:
    """``call`` under the ``name`` that log lines and errors give it.

    ``call`` may be a function or any other callable, and may return its answer or an
    awaitable of it.
    """

    def __init__(self, name: str, call: Callable[..., object], timeout: float) -> None:
        """``timeout``: how long one answer may take, in seconds."""
        self.name = name
        self._call = call
        self._timeout = timeout
        self._defects = Throttle(logger, logging.WARNING)

    async def denial(self, peer: str, *arguments: object) -> Denial | None:
        """Why the gate denies ``peer``; None when it admits. ``arguments`` are the gate's.

        Cancelling cancels the gate. A plain function is never interrupted, but one that
        returns after the timeout denies.
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
    """What a log line calls it: the qualified name of a function, or else of its class."""
    call = call.func if isinstance(call, partial) else call
    named = call if hasattr(call, "__qualname__") else type(call)
    return f"{named.__module__}.{named.__qualname__}"
