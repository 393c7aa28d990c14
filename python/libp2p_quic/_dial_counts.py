"""Counts the dials of one transport or endpoint, and why they failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from libp2p_quic._exception_types import (
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    PeerIdMismatchError,
    UnreachableError,
)
from libp2p_quic._gate import GATED, GATED_BY_GO

DialCause = Literal[
    "canceled",  # by the program
    "gated",  # by a gate of either side
    "limit",  # of the peer, after the handshake
    "peer_id_mismatch",
    "refused",  # in the handshake
    "timeout",
    "unreachable",
    "other",
]

# libp2p's connection error code for a limit.
_LIMIT_REACHED = 0x1001
_CAUSES: dict[type[DialError], DialCause] = {
    PeerIdMismatchError: "peer_id_mismatch",
    HandshakeRefusedError: "refused",
    HandshakeTimeoutError: "timeout",
    UnreachableError: "unreachable",
}


def no_failures() -> dict[DialCause, int]:
    """A zero for each cause."""
    return dict.fromkeys(get_args(DialCause), 0)


def cause_of(error: DialError) -> DialCause:
    """Why a dial failed."""
    if error.error_code in (GATED, GATED_BY_GO):
        return "gated"
    if error.error_code == _LIMIT_REACHED:
        return "limit"
    found = (cause for cls, cause in _CAUSES.items() if isinstance(error, cls))
    return next(found, "other")


class DialCounts:
    """The dials of one transport or endpoint."""

    def __init__(self) -> None:
        self.started = 0
        self.succeeded = 0
        self.failed = no_failures()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the dial of the ``with`` block."""
        self.started += 1
        cause: DialCause | None = "canceled"
        try:
            yield
            cause = None
        except DialError as error:
            cause = cause_of(error)
            raise
        finally:
            if cause is None:
                self.succeeded += 1
            else:
                self.failed[cause] += 1
