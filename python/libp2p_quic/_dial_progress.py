"""What a dial has met so far: its attempts for the program, and the error of one that the program cancels.

The race of the dial tells it; this module only records, makes the text, and chooses the class.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

from libp2p_quic._dial_attempt import DialAttempt, PeerCertificate
from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import DialError, HandshakeTimeoutError
from libp2p_quic._happy_eyeballs import Observer


class DialProgress(Observer[Any, EngineConnection]):
    """One dial of ``target``, the address that the program gave. It begins now.

    ``attempts`` (default: none) is a list of the program, to which each address is added when it is tried.
    """

    def __init__(self, target: str, attempts: list[DialAttempt] | None = None) -> None:
        self._target = target
        self._attempts = attempts
        self._began = time.monotonic()
        self._by_way: dict[object, DialAttempt] = {}
        self._failed: list[tuple[object, Exception]] = []
        self._interrupted: list[tuple[object, ConnectionLostError | None]] = []
        self._is_racing = False
        self._address_of: Callable[[Any], str] = str
        self._error_of: Callable[[Any, Exception], DialError] = _unchanged

    def follow(
        self,
        address_of: Callable[[Any], str],
        error_of: Callable[[Any, Exception], DialError] | None = None,
    ) -> None:
        """The names are resolved, and the race begins. ``address_of`` gives the address of a way, and
        ``error_of`` the error of an attempt; only ``attempts`` needs that."""
        self._is_racing = True
        self._address_of = address_of
        self._error_of = error_of or _unchanged

    # Called by the race

    def tried(self, way: object) -> None:
        if self._attempts is not None:
            made = self._by_way[way] = DialAttempt(self._address_of(way), self._elapsed())
            self._attempts.append(made)

    def started(self, way: object, attempt: EngineConnection) -> None:
        if self._attempts is not None:
            self._by_way[way]._engine = attempt

    def connected(self, way: object) -> None:
        self._end(way, "connected")

    def failed(self, way: object, error: Exception) -> None:
        self._failed.append((way, error))
        if self._attempts is not None:
            self._by_way[way].error = self._error_of(way, error)
        self._end(way, "failed")

    def abandoned(self, way: object) -> None:
        self._end(way, "abandoned")

    def interrupted(self, way: object, reason: ConnectionLostError | None) -> None:
        self._interrupted.append((way, reason))
        self._end(way, "abandoned")

    def _end(self, way: object, result: Literal["connected", "failed", "abandoned"]) -> None:
        if self._attempts is None:
            return
        attempt = self._by_way[way]
        attempt.ended = self._elapsed()
        attempt.result = result
        attempt._statistics = attempt.statistics()
        if result == "connected" and attempt._engine is not None:
            attempt.certificate = _certificate(attempt._engine)
        # An attempt must not keep a connection open that the program drops.
        attempt._engine = None

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    # The error of a canceled dial

    def canceled(self) -> DialError:
        """The error of the dial, if it is canceled now."""
        told = [self._part(way, _failure(error)) for way, error in self._failed]
        told += [self._part(way, _interruption(error)) for way, error in self._interrupted]
        if told:
            is_unanswered = any(error is not None for _, error in self._interrupted)
            kind = HandshakeTimeoutError if is_unanswered else DialError
            how = ": " + "; ".join(told)
        else:
            kind = DialError
            waits = "while a gate decided"
            if not self._is_racing:
                waits = "while its name was resolved" if "/dns" in self._target else ""
            how = f" before its first datagram was sent {waits}".rstrip()
        return kind(f"failed to dial {self._target}: canceled by this program{how}")

    def _part(self, way: object, reason: str) -> str:
        address = self._address_of(way)
        # The text of a DialError begins with the address, and the target is told already.
        is_told = address == self._target or reason.startswith(address)
        return reason if is_told else f"{address}: {reason}"


def _certificate(engine: EngineConnection) -> PeerCertificate | None:
    found = engine.certificate
    if found is None:
        return None
    not_before, not_after, serial, key_type = found
    return PeerCertificate(not_before, not_after, serial.hex(), key_type)


def _unchanged(_way: object, error: Exception) -> DialError:
    assert isinstance(error, DialError)
    return error


def _failure(error: Exception) -> str:
    return str(error).removeprefix("failed to dial ")


def _interruption(error: ConnectionLostError | None) -> str:
    if error is None:
        return "the handshake was complete, and a gate had not decided"
    return error.reason if error.kind == "handshake_timeout" else str(error)
