"""The command explains ends of connections by kind, code and reason, for peers that the tests do not have.

Ends that a real peer makes here are in test_command_dial.
"""

from __future__ import annotations

import asyncio

import pytest

from libp2p_quic._command.explanation import of_close, of_dial, of_stream
from libp2p_quic._engine_errors import CloseKind, ConnectionLostError, Party
from libp2p_quic._exception_types import connection_error, dial_error
from testkit.asyncio_ends import LOOPBACK

PEER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"


def of_lost(by: Party, kind: CloseKind, code: int | None, reason: str, address: str = LOOPBACK) -> str:
    """The cause of a dial that the engine ends so."""
    return of_dial(dial_error(ConnectionLostError("why", by, kind, code, reason), address)).cause


@pytest.mark.parametrize(
    ("code", "reason", "cause"),
    [
        (None, "no WebTransport session: it answered with status 404", "no_webtransport"),
        (None, "no WebTransport session: it answered with status 403", "gated"),
        (None, "no WebTransport session: it answered with status 503", "limit"),
        (0x10B, "no WebTransport session: the request was reset", "limit"),
        # HTTP/3's code, and no TLS alert.
        (0x10C, "no WebTransport session: the request was reset", "no_webtransport"),
        (None, "it takes no more WebTransport sessions", "limit"),
    ],
)
def test_server_that_gives_no_session_of_webtransport(code: int | None, reason: str, cause: str) -> None:
    assert of_lost("peer", "refused", code, reason, f"{LOOPBACK}/webtransport") == cause
    assert "TLS" not in str(ConnectionLostError("why", "peer", "refused", code, reason))


@pytest.mark.parametrize(
    ("by", "kind", "code", "reason", "cause"),
    [
        (
            "local",
            "transport",
            0x212C_0D48,
            "the server's SETTINGS do not offer WebTransport",
            "no_webtransport",
        ),
        (
            "local",
            "refused",
            None,
            f"peer {PEER} does not confirm the certificate hash 12 of the dialed address: the address is old",
            "certhash",
        ),
        ("local", "internal", None, "out of connection ids", "internal"),
        # An application's codes are no QUIC transport errors.
        ("peer", "closed", 0x2, "", "closed"),
        ("peer", "closed", 0x12D, "", "closed"),
        ("peer", "closed", 0x4741_5445, "connection gated", "gated"),
        ("network", "handshake_timeout", None, "", "no_answer"),
    ],
)
def test_cause_is_that_of_the_kind_and_its_codes(
    by: Party, kind: CloseKind, code: int | None, reason: str, cause: str
) -> None:
    assert of_lost(by, kind, code, reason) == cause


def test_datagrams_that_are_too_long_for_the_path_are_no_missing_route() -> None:
    told = "no handshake in time: the peer did not answer within 2.0 s (10 datagrams sent, 0 received)"
    for symbol, cause in (("EMSGSIZE", "mtu"), ("EHOSTUNREACH", "no_route")):
        text = f"{told}; the system said last: why ({symbol})"
        lost = ConnectionLostError(text, "network", "handshake_timeout", None, "")
        assert of_dial(dial_error(lost, LOOPBACK)).cause == cause


@pytest.mark.parametrize(("code", "step"), [(0x1004, "another"), (0x1005, "has many"), (0x1006, "ends")])
def test_close_codes_of_libp2p_have_a_next_step(code: int, step: str) -> None:
    lost = ConnectionLostError("connection closed by the peer", "peer", "closed", code, "")
    assert step in of_close(connection_error(lost)).next_step


def test_stream_that_ends_early_says_who_ended_it() -> None:
    told = of_stream(asyncio.IncompleteReadError(b"", 32))
    assert (told.cause, told.text.partition(":")[0]) == ("stream", "the peer ended the stream too early")
