"""What a dial has met so far, and the error of one that the program cancels.

The race of the dial notes it; this module only makes the text and chooses the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import DialError, HandshakeTimeoutError
from libp2p_quic._happy_eyeballs import Race


class DialProgress:
    """One dial of ``target``, the address that the program gave."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._race: Race[Any, Any, Any] | None = None
        self._address_of: Callable[[Any], str] = str

    def follow(self, race: Race[Any, Any, Any], address_of: Callable[[Any], str]) -> None:
        """The names are resolved, and ``race`` begins. ``address_of`` gives the address of a way."""
        self._race = race
        self._address_of = address_of

    def canceled(self) -> DialError:
        """The error of the dial, if it is canceled now."""
        failed = [] if self._race is None else self._race.causes
        interrupted = [] if self._race is None else self._race.interrupted
        told = [self._part(way, _failure(error)) for way, error in failed]
        told += [self._part(way, _interruption(error)) for way, error in interrupted]
        if told:
            is_unanswered = any(error is not None for _, error in interrupted)
            kind = HandshakeTimeoutError if is_unanswered else DialError
            how = ": " + "; ".join(told)
        else:
            kind = DialError
            waits = "while a gate decided"
            if self._race is None:
                waits = "while its name was resolved" if "/dns" in self._target else ""
            how = f" before its first datagram was sent {waits}".rstrip()
        return kind(f"failed to dial {self._target}: canceled by this program{how}")

    def _part(self, way: object, reason: str) -> str:
        address = self._address_of(way)
        # The text of a DialError begins with the address, and the target is told already.
        is_told = address == self._target or reason.startswith(address)
        return reason if is_told else f"{address}: {reason}"


def _failure(error: Exception) -> str:
    return str(error).removeprefix("failed to dial ")


def _interruption(error: ConnectionLostError | None) -> str:
    if error is None:
        return "the handshake was complete, and a gate had not decided"
    return error.reason if error.kind == "handshake_timeout" else str(error)
