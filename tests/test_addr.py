"""Multiaddrs that are ours, and those that are not: no engine and no network needed."""

from __future__ import annotations

import pytest
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr

PEER = ID.from_pubkey(create_new_key_pair().public_key)


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
def test_a_quic_address_comes_apart(text: str, expected: tuple[object, ...]) -> None:
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
        ("/ip6zone/eth0/ip6/fe80::1/udp/4001/quic-v1", "ip4"),
        (f"/p2p/{PEER}", "ip4"),
        ("/ip4/127.0.0.1/udp/4001/quic-v1/webtransport", "webtransport"),
        (f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit", "p2p-circuit"),
        (f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p/{PEER}", "p2p"),
        ("/ip4/127.0.0.1/udp/4001/quic-v1/quic-v1", "quic-v1"),
        ("/ip4/127.0.0.1/ip4/127.0.0.1/udp/4001/quic-v1", "udp"),
    ],
)
def test_what_is_not_ours_is_refused_by_the_part_that_is_wrong(text: str, part: str) -> None:
    maddr = Multiaddr(text)
    with pytest.raises(QUICInvalidMultiaddrError, match=rf"is not a QUIC address:.*/{part}"):
        QUICAddress.parse(maddr)


def test_bytes_that_are_no_multiaddr_are_refused() -> None:
    # A /p2p whose length runs beyond the end.
    truncated = Multiaddr(b"\x04\x7f\x00\x00\x01\x91\x02\x0f\xa1\xcc\x03\xa5\x03\x22\x01")
    with pytest.raises(QUICInvalidMultiaddrError, match="unreadable multiaddr"):
        QUICAddress.parse(truncated)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7"])
@pytest.mark.parametrize("protocol", ["quic-v1", "quic"])
def test_a_socket_address_goes_there_and_back(host: str, protocol: str) -> None:
    address = QUICAddress.parse(to_multiaddr(host, 4001, protocol))
    assert address == QUICAddress(host, 4001, protocol, None)
