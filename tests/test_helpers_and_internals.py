"""Small parts of the adapter: addresses, errors, and calls of application code.

Opens no connections. The driver is in test_driver, the binding in test_engine.
"""

from __future__ import annotations

from typing import get_args

import pytest
import trio
from libp2p.io.exceptions import IOException
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.quic.exceptions import (
    QUICConnectionTimeoutError,
    QUICDialError,
    QUICHandshakeError,
    QUICInvalidMultiaddrError,
    QUICPeerVerificationError,
)
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import exceptions
from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._callback import call_foreign
from libp2p_quic._engine_errors import (
    CloseKind,
    ConnectionLostError,
    EngineError,
    Party,
    StreamClosedError,
    StreamResetError,
    StreamStoppedError,
)
from libp2p_quic._error_mapping import connection_error, dial_error, stream_error
from libp2p_quic._last_failures import without_traceback
from libp2p_quic.exceptions import (
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    PeerIdMismatchError,
    UnreachableError,
)

PEER = ID.from_base58("12D3KooWNzx2uq73Er3PvFB5HaUTdUsHdeowy8FHTEU6hB9g6FZ5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/127.0.0.1/udp/4001/quic-v1", ("127.0.0.1", 4001, "quic-v1", None)),
        ("/ip4/127.0.0.1/udp/0/quic", ("127.0.0.1", 0, "quic", None)),
        ("/ip6/::1/udp/65535/quic-v1", ("::1", 65535, "quic-v1", None)),
        (f"/ip6/2001:db8::7/udp/1/quic-v1/p2p/{PEER}", ("2001:db8::7", 1, "quic-v1", PEER)),
        ("/dns/example.org/udp/4001/quic-v1", ("example.org", 4001, "quic-v1", None)),
    ],
)
def test_a_quic_address_is_parsed(text: str, expected: tuple[object, ...]) -> None:
    address = QUICAddress.parse(Multiaddr(text))
    assert (address.host, address.port, address.protocol, address.peer_id) == expected


@pytest.mark.parametrize("name", ["dns", "dns4", "dns6"])
def test_a_name_can_be_dialed_and_not_listened_on(name: str) -> None:
    maddr = Multiaddr(f"/{name}/localhost/udp/4001/quic-v1")
    assert QUICAddress.parse(maddr).name_protocol == name
    with pytest.raises(QUICInvalidMultiaddrError, match=f"/{name} cannot be listened on"):
        QUICAddress.parse_literal(maddr)
    literal = Multiaddr("/ip4/127.0.0.1/udp/4001/quic-v1")
    assert QUICAddress.parse_literal(literal) == QUICAddress.parse(literal)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("/ip4/127.0.0.1/tcp/4001", "udp"),
        ("/ip4/127.0.0.1/udp/4001", "quic-v1"),
        ("/ip4/127.0.0.1/udp/4001/ws", "quic-v1"),
        ("/ip4/127.0.0.1/udp/4001/webrtc-direct", "quic-v1"),
        ("/dnsaddr/example.org", "ip4"),
        ("/dns4/example.org/tcp/4001", "udp"),
        ("/udp/4001/quic-v1", "ip4"),
        ("/ip6zone/eth0/ip4/127.0.0.1/udp/4001/quic-v1", "ip6zone must be followed by /ip6"),
        ("/ip6zone/eth0/dns6/a/udp/4001/quic-v1", "ip6zone must be followed by /ip6"),
        (f"/p2p/{PEER}", "ip4"),
        ("/ip4/127.0.0.1/udp/4001/quic/webtransport", "webtransport"),
        (f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit", "p2p-circuit"),
        (f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p/{PEER}", "p2p"),
        ("/ip4/127.0.0.1/udp/4001/quic-v1/quic-v1", "quic-v1"),
        ("/ip4/127.0.0.1/ip4/127.0.0.1/udp/4001/quic-v1", "udp"),
    ],
)
def test_another_address_is_refused_with_its_wrong_part(text: str, part: str) -> None:
    maddr = Multiaddr(text)
    with pytest.raises(QUICInvalidMultiaddrError, match=rf"is not a QUIC address:.*/{part}"):
        QUICAddress.parse(maddr)


@pytest.mark.parametrize("host", ["/ip4/127.0.0.1", "/ip6/::1", "/ip6/::ffff:192.0.2.1"])
def test_a_dialed_literal_is_written_again_only_if_its_form_changes(host: str) -> None:
    maddr = Multiaddr(f"{host}/udp/4001/quic-v1/p2p/{PEER}")
    address = QUICAddress.parse(maddr)
    assert (address.at(address.host) is maddr) == ("ffff" not in host)
    assert address.at("192.0.2.1") == Multiaddr(f"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/{PEER}")


@pytest.mark.parametrize("zone", ["eth0", "2", "wlp3s0.100"])
def test_a_zone_is_read_and_cannot_be_listened_on(zone: str) -> None:
    maddr = Multiaddr(f"/ip6zone/{zone}/ip6/fe80::1/udp/4001/quic-v1/p2p/{PEER}")
    address = QUICAddress.parse(maddr)
    assert (address.host, address.zone, address.port, address.peer_id) == ("fe80::1", zone, 4001, PEER)
    # A zone has a meaning on this machine only, so published addresses have none.
    assert str(address.at("fe80::1%2")) == f"/ip6/fe80::1/udp/4001/quic-v1/p2p/{PEER}"
    with pytest.raises(QUICInvalidMultiaddrError, match="/ip6zone cannot be listened on"):
        QUICAddress.parse_literal(maddr)


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_zone_that_is_cut_short_is_refused(cut: int) -> None:
    whole = Multiaddr("/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1").to_bytes()
    with pytest.raises(QUICInvalidMultiaddrError):
        QUICAddress.parse(Multiaddr(whole[:cut]))


def test_bytes_that_are_no_multiaddr_are_refused() -> None:
    # A /p2p whose length runs beyond the end.
    truncated = Multiaddr(b"\x04\x7f\x00\x00\x01\x91\x02\x0f\xa1\xcc\x03\xa5\x03\x22\x01")
    with pytest.raises(QUICInvalidMultiaddrError, match="unreadable multiaddr"):
        QUICAddress.parse(truncated)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7"])
@pytest.mark.parametrize("protocol", ["quic-v1", "quic"])
def test_a_socket_address_is_converted_in_both_directions(host: str, protocol: str) -> None:
    address = QUICAddress.parse(to_multiaddr(host, 4001, protocol))
    assert address == QUICAddress(host, 4001, protocol, None)


# Errors


def test_errors_are_documented() -> None:
    """Every class that a program can catch documents its cause."""
    ours = [
        each
        for each in vars(exceptions).values()
        if isinstance(each, type) and each.__module__ == exceptions.__name__
    ]
    assert len(ours) >= 8
    assert all(each.__doc__ for each in ours)
    assert libp2p_quic.QUICTransport.dial.__doc__


LOST = {
    # After the handshake: by a gate, or for a limit.
    "closed": (HandshakeRefusedError, QUICHandshakeError),
    "transport": (DialError, QUICDialError),
    "refused": (HandshakeRefusedError, QUICHandshakeError),
    "version": (HandshakeRefusedError, QUICHandshakeError),
    "peer_id_mismatch": (PeerIdMismatchError, QUICPeerVerificationError),
    "handshake_timeout": (HandshakeTimeoutError, QUICConnectionTimeoutError),
    "unreachable": (UnreachableError, QUICDialError),
    "idle_timeout": (HandshakeTimeoutError, QUICConnectionTimeoutError),
    "stateless_reset": (DialError, QUICDialError),
    "internal": (DialError, QUICDialError),
    "forked": (DialError, QUICDialError),
}


@pytest.mark.parametrize("kind", get_args(CloseKind))
def test_every_close_kind_has_its_error_of_a_dial(kind: CloseKind) -> None:
    ours, stock = LOST[kind]
    error = dial_error(ConnectionLostError("why", "peer", kind, 7, "reason"), "/ip4/192.0.2.1")
    assert type(error) is ours
    assert isinstance(error, stock)
    # The class that the swarm handles.
    assert isinstance(error, OpenConnectionError)
    assert error.error_code == 7
    assert "/ip4/192.0.2.1" in str(error)
    assert "why" in str(error)


def test_a_refusal_by_a_tls_alert_says_who_refused_what() -> None:
    """In every error, also in the copy that `last_failure` returns: the peer's text has neither."""
    lost = ConnectionLostError("invalid peer certificate", "peer", "refused", 0x12A, "")
    failed = dial_error(lost, "/ip4/192.0.2.1")
    for error in (failed, without_traceback(failed), connection_error(lost), stream_error(lost, "3")):
        assert "the peer does not accept our certificate (TLS alert bad_certificate)" in str(error)


@pytest.mark.parametrize(
    ("by", "kind", "code"),
    [("local", "refused", 0x12A), ("peer", "closed", 0x12A), ("peer", "refused", 0x2)],
)
def test_other_ends_are_told_as_the_engine_does(by: Party, kind: CloseKind, code: int) -> None:
    assert str(ConnectionLostError("why", by, kind, code, "")) == "why"


@pytest.mark.parametrize(
    ("error", "expected", "code"),
    [
        (StreamResetError("reset", 5), exceptions.StreamReset, 5),
        (StreamStoppedError("stopped", 6), exceptions.StreamReset, 6),
        (ConnectionLostError("gone", "network", "idle_timeout", None, ""), exceptions.StreamLost, None),
        (StreamClosedError("closed here"), exceptions.StreamClosed, None),
    ],
)
def test_every_end_of_a_stream_has_its_error(
    error: EngineError, expected: type[Exception], code: int | None
) -> None:
    translated = stream_error(error, "3")
    assert type(translated) is expected
    assert isinstance(translated, IOException)
    assert getattr(translated, "error_code", None) == code
    assert str(error) in str(translated)
    # Only a finish is an end of stream.
    assert not isinstance(translated, EOFError)


# Calls of application code


async def test_an_error_of_a_handler_is_logged_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ZeroDivisionError("by the application")

    async def works() -> None:
        pass

    assert await call_foreign("the handler", works)
    assert caplog.records == []
    assert not await call_foreign("the handler", fails)
    (record,) = caplog.records
    assert record.getMessage() == "the handler failed"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


async def test_a_cancellation_passes_through_application_code() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await call_foreign("the handler", trio.lowlevel.checkpoint)
    assert scope.cancelled_caught
