"""What a peer refused, by its code and reason: a handshake, a session of WebTransport, or nothing."""

from __future__ import annotations

import pytest

from libp2p_quic._dial_counts import DialCause, cause_of
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import connection_error, dial_error, joint_dial_error

ADDRESS = "/ip4/192.0.2.1/udp/4001/quic-v1/webtransport"


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (None, "no WebTransport session: it answered with status 403", "gated"),
        (None, "no WebTransport session: it answered with status 429", "limit"),
        (None, "no WebTransport session: it answered with status 503", "limit"),
        (0x10B, "no WebTransport session: the request was reset", "limit"),
        (None, "it takes no more WebTransport sessions", "limit"),
        (None, "no WebTransport session: it answered with status 404", "refused"),
        (0x10C, "no WebTransport session: the request was reset", "refused"),
        # Of a handshake.
        (0x12A, "status 403", "refused"),
    ],
)
def test_a_dial_counts_by_what_refused_its_session(code: int | None, reason: str, cause: DialCause) -> None:
    error = dial_error(ConnectionLostError("why", "peer", "refused", code, reason), ADDRESS)
    assert cause_of(error) == cause
    assert cause_of(joint_dial_error("several addresses", [error])) == cause


def test_a_close_with_a_like_reason_is_no_refused_session() -> None:
    reason = "no WebTransport session: it answered with status 403"
    closed = ConnectionLostError("why", "peer", "closed", 0, reason)
    assert cause_of(dial_error(closed, ADDRESS)) == "refused"


@pytest.mark.parametrize(("code", "name"), [(0x10A, "unexpected_message"), (0x1FF, "255")])
def test_an_alert_that_ends_an_established_connection_is_named_and_refuses_nothing(
    code: int, name: str
) -> None:
    lost = ConnectionLostError("connection ended by the peer", "peer", "transport", code, "")
    assert lost.alert is None
    assert str(connection_error(lost)) == f"connection ended by the peer; TLS alert {name}"


def test_a_transport_error_that_carries_no_alert_is_told_as_the_engine_does() -> None:
    assert str(ConnectionLostError("why", "peer", "transport", 0xA, "")) == "why"
    assert str(ConnectionLostError("why", "local", "transport", 0x10A, "")) == "why"
