"""Judges what a gate answers about a peer, and what the deny list is. Only ``True`` admits.

If a gate raises, times out or returns something other than a bool, the peer is denied and the log
names the gate. How to wait for an answer is the event loop's: `_gates` and `asyncio.gate` do it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from libp2p_quic._callback import Outcome
from libp2p_quic._throttle import Throttle

logger = logging.getLogger("libp2p_quic.gate")

# libp2p's connection error code for a peer that a gate denies, and that of go-libp2p's gates before it had
# one, which go-libp2p's gate for WebTransport still has: "GATE" in ASCII.
GATED, GATED_BY_GO = 0x1007, 0x47415445


@dataclass(frozen=True)
class Denial:
    """Why a gate denied a peer. ``cause`` is the exception that the gate raised, if any.

    ``is_defect`` is whether the gate failed, of which a WARNING was logged.
    """

    reason: str
    cause: Exception | None = None
    is_defect: bool = False


class Gate:
    """A callable that admits or denies peers, with the ``name`` for log lines and errors.

    ``call`` returns a bool or an awaitable of one. A class for each event loop asks it.
    """

    def __init__(self, name: str, call: Callable[..., object], timeout: float) -> None:
        """``timeout`` is the time limit of one call, in seconds."""
        self.name = name
        self._call = call
        self._timeout = timeout
        self._defects = Throttle(logger, logging.WARNING)

    def _judge(self, peer: str, outcome: Outcome | None) -> Denial | None:
        """Why the gate denies ``peer``; None if it admits. No outcome: it did not answer in time."""
        if outcome is None:
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
        return Denial(f"{self.name} {what}", cause, is_defect=True)


class InboundDenials:
    """Warns of the inbound peers that gates denied, of which the program learns nothing else.

    One line in 10 s, as a peer can come again and again. The error of a dial says it anyway.
    """

    def __init__(self) -> None:
        self._lines = Throttle(logger, logging.WARNING)

    def report(self, peer: str, denial: Denial) -> None:
        """``peer`` was denied; it has its address."""
        if not denial.is_defect:
            self._lines.log("refused the inbound connection of %s: %s", peer, denial.reason)


def denied_networks(addresses: Iterable[str]) -> list[str]:
    """The deny list as the engine takes it. Raises ValueError for an invalid address."""
    if isinstance(addresses, str):
        raise ValueError(f"deny_addresses takes a list of addresses: [{addresses!r}]")
    return [str(ip_network(each, strict=False)) for each in addresses]
