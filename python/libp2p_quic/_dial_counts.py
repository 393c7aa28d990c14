"""Counts the dials of one transport or endpoint, and why they failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from libp2p_quic._engine_errors import ConnectionLostError, session_refusal
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
    refused_by = _session_refusal(error)
    if refused_by is not None:
        return refused_by
    found = (cause for cls, cause in _CAUSES.items() if isinstance(error, cls))
    return next(found, "other")


def _session_refusal(error: DialError) -> DialCause | None:
    """Whether a gate or a limit of the peer refused a session of WebTransport: a listener asks them before
    there is one, so that the error has a status of HTTP and none of libp2p's codes."""
    cause: BaseException | None = error
    while isinstance(cause, DialError):
        cause = cause.__cause__
    if isinstance(cause, ConnectionLostError) and (cause.by, cause.kind) == ("peer", "refused"):
        return session_refusal(cause.code, cause.reason)
    return None


@dataclass
class _Dials:
    """The dials of one kind of address."""

    started: int = 0
    succeeded: int = 0
    failed: dict[DialCause, int] = field(default_factory=no_failures)


class DialCounts:
    """The dials of one transport or endpoint."""

    def __init__(self) -> None:
        # Apart: two counters of one dial could be read in another thread between their changes.
        self._quic = _Dials()
        self._webtransport = _Dials()

    def fields(self) -> dict[str, Any]:
        """The fields of `EndpointStatistics` that count dials. May be called in any thread."""
        quic, webtransport = deepcopy(self._quic), deepcopy(self._webtransport)
        return {
            "dials_started": quic.started + webtransport.started,
            "dials_succeeded": quic.succeeded + webtransport.succeeded,
            "dials_failed": {cause: n + webtransport.failed[cause] for cause, n in quic.failed.items()},
            "webtransport_dials_started": webtransport.started,
            "webtransport_dials_succeeded": webtransport.succeeded,
            "webtransport_dials_failed": webtransport.failed,
        }

    @contextmanager
    def counted(self, is_webtransport: bool = False) -> Iterator[None]:
        """Count the dial of the ``with`` block. ``is_webtransport`` (default: False) is the kind of its
        addresses."""
        dials = self._webtransport if is_webtransport else self._quic
        dials.started += 1
        cause: DialCause | None = "canceled"
        try:
            yield
            cause = None
        except DialError as error:
            cause = cause_of(error)
            raise
        finally:
            if cause is None:
                dials.succeeded += 1
            else:
                dials.failed[cause] += 1
