"""Converts a multiaddr to host, port and peer id, and back. No I/O here.

Accepted: /ip4|/ip6/.../udp/PORT/quic-v1|quic, optionally followed by one /p2p/PEER. For dialing
also /dns|/dns4|/dns6 as the host, and /ip6zone/eth0/ip6/fe80::1/... for a link-local address. After
/quic-v1 an address of WebTransport has /webtransport and, for dialing, one /certhash or more.
Everything else is rejected: an address that continues with /p2p-circuit belongs to the relay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address

import multiaddr.exceptions
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._webtransport_address import (
    WEBTRANSPORT,
    certificate_hashes_text,
    parse_certificate_hash,
)

QUIC_V1 = "quic-v1"
# py-libp2p's name for draft 29. Its addresses are served by QUIC v1 (RFC 9000).
QUIC = "quic"

_NAMES = ("dns", "dns4", "dns6")
# How a peer id begins that is a base58 multihash: identity and sha2-256 (libp2p peer-ids spec).
_BASE58_PEER_IDS = ("1", "Qm")
# The code of ip6zone in the multicodec table.
_IP6ZONE = 0x2A

# py-multiaddr parses a Multiaddr made of bytes only when it is used, and raises no single class
# for a malformed one: bytes that end inside a number are a TypeError, for example.
UNREADABLE = (multiaddr.exceptions.Error, EOFError, LookupError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class QUICAddress:
    """The parts of a QUIC multiaddr.

    ``host`` is an IP literal, or a name if ``name_protocol`` is "dns", "dns4" or "dns6". ``zone`` is
    the interface of a link-local IPv6 address (RFC 4007). ``protocol`` is "quic-v1", "quic" or
    "quic-v1/webtransport", and ``certificate_hashes`` the multihashes of the latter.
    """

    host: str
    port: int
    protocol: str
    peer_id: ID | None
    name_protocol: str | None = None
    zone: str | None = None
    certificate_hashes: tuple[bytes, ...] = ()
    # The parsed multiaddr, if `at` would only write it again. Parsing one costs some 25 µs.
    literal: Multiaddr | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of_peer(cls, host: str, port: int, peer_id: ID) -> QUICAddress:
        """The address of a peer at an IP literal without a zone."""
        literal = to_multiaddr(host, port).encapsulate(Multiaddr(f"/p2p/{peer_id}"))
        return cls(host, port, QUIC_V1, peer_id, literal=literal)

    @classmethod
    def parse(cls, maddr: Multiaddr) -> QUICAddress:
        """Parse an address to dial. Raises QUICInvalidMultiaddrError, which names the wrong part."""
        parts = _parts(maddr)

        def take(*names: str) -> tuple[str, str] | None:
            return parts.pop(0) if parts and parts[0][0] in names else None

        zone = take("ip6zone")
        host = take("ip6") if zone else take("ip4", "ip6", *_NAMES)
        if host is None and zone:
            raise _invalid(maddr, "/ip6zone must be followed by /ip6")
        if host is None:
            raise _invalid(maddr, "it must start with /ip4 or /ip6, or /dns, /dns4 or /dns6")
        udp = take("udp")
        if udp is None:
            raise _invalid(maddr, f"/{host[0]} must be followed by /udp")
        quic = take(QUIC_V1, QUIC)
        if quic is None:
            raise _invalid(maddr, "/udp must be followed by /quic-v1 or /quic")
        protocol, hashes = quic[0], list[bytes]()
        if protocol == QUIC_V1 and take("webtransport"):
            protocol = WEBTRANSPORT
            while found := take("certhash"):
                try:
                    hashes.append(parse_certificate_hash(found[1]))
                except ValueError as error:
                    raise _invalid(maddr, str(error)) from error
        peer = take("p2p")
        if parts:
            raise _invalid(maddr, f"/{parts[0][0]} is not part of a QUIC address")
        try:
            peer_id = ID.from_string(peer[1]) if peer else None
        except ValueError as error:
            raise _invalid(maddr, f"unreadable peer id: {error}") from error
        name_protocol = host[0] if host[0] in _NAMES else None
        # `at` writes IPv4-mapped addresses and peer ids in the form of a CID differently.
        is_same = not host[1].startswith("::ffff:") and (not peer or peer[1].startswith(_BASE58_PEER_IDS))
        literal = maddr if is_same and host[0] not in _NAMES and not zone else None
        zone_name = zone[1] if zone else None
        return cls(host[1], int(udp[1]), protocol, peer_id, name_protocol, zone_name, tuple(hashes), literal)

    @classmethod
    def parse_literal(cls, maddr: Multiaddr) -> QUICAddress:
        """Parse an address to listen on: no name, no zone. Raises QUICInvalidMultiaddrError."""
        address = cls.parse(maddr)
        if address.name_protocol is not None:
            raise _invalid(maddr, f"/{address.name_protocol} cannot be listened on, only /ip4 and /ip6")
        if address.zone is not None:
            raise _invalid(maddr, "/ip6zone cannot be listened on; /ip6/:: has the link-local addresses")
        if address.certificate_hashes:
            raise _invalid(maddr, "/certhash cannot be listened on: the certificates are our own")
        return address

    @property
    def is_webtransport(self) -> bool:
        """Whether it is an address of WebTransport."""
        return self.protocol == WEBTRANSPORT

    @property
    def base_protocol(self) -> str:
        """The protocol of the configuration that serves it: "quic-v1" or "quic"."""
        return QUIC_V1 if self.is_webtransport else self.protocol

    def at(self, host: str) -> Multiaddr:
        """This address with its host replaced by the IP literal ``host``."""
        if self.literal is not None and host == self.host:
            return self.literal
        literal = with_certificates(to_multiaddr(host, self.port, self.protocol), self.certificate_hashes)
        return literal.encapsulate(Multiaddr(f"/p2p/{self.peer_id}")) if self.peer_id else literal


def with_certificates(maddr: Multiaddr, hashes: Sequence[bytes]) -> Multiaddr:
    """``maddr`` of WebTransport with these hashes."""
    text = certificate_hashes_text(hashes)
    return maddr.encapsulate(Multiaddr(text)) if text else maddr


class PeerAddresses(Multiaddr):  # type: ignore[misc] # py-multiaddr has no types
    """All QUIC addresses of a peer, for a caller of `QUICTransport.dial` that passes one multiaddr on.

    As a multiaddr it is the first of ``addresses``.
    """

    def __init__(self, addresses: Sequence[Multiaddr]) -> None:
        super().__init__(addresses[0])
        self.addresses = tuple(addresses)


def check_type(maddr: object, method: str) -> None:
    """Raise TypeError, which says what to pass, if ``maddr`` is no Multiaddr."""
    if not isinstance(maddr, Multiaddr):
        text = maddr if isinstance(maddr, str) else "/ip4/..."
        raise TypeError(f"{method} takes a Multiaddr, got a {type(maddr).__name__}: Multiaddr({text!r})")


# To make one takes some 15 µs, and a dial asks for that of the same address several times.
@lru_cache(maxsize=256)
def to_multiaddr(host: str, port: int, protocol: str = QUIC_V1) -> Multiaddr:
    """The multiaddr of a socket address; ``host`` is an IP literal.

    A zone is left out, as it is valid on this machine only. An IPv4-mapped IPv6 address becomes IPv4.
    """
    ip = ip_address(host.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return Multiaddr(f"/ip{ip.version}/{ip}/udp/{port}/{protocol}")


def _parts(maddr: Multiaddr) -> list[tuple[str, str]]:
    try:
        zone, rest = _split_zone(maddr)
        return zone + [(protocol.name, value or "") for protocol, value in rest.items()]
    except UNREADABLE as error:
        raise QUICInvalidMultiaddrError(f"unreadable multiaddr: {error}") from error


def _split_zone(maddr: Multiaddr) -> tuple[list[tuple[str, str]], Multiaddr]:
    """Split a leading /ip6zone off. py-multiaddr 0.2 writes a zone with its length, but reads it as a
    value without one and then misparses the rest."""
    code, length, *_ = maddr.to_bytes()[:2].ljust(2, b"\0")
    if code != _IP6ZONE:
        return [], maddr
    end = 2 + length
    zone = maddr.to_bytes()[2:end]
    if length >= 0x80 or len(zone) < length:
        raise ValueError("the zone is longer than the address")
    return [("ip6zone", zone.decode())], Multiaddr(maddr.to_bytes()[end:])


def _invalid(maddr: Multiaddr, why: str) -> QUICInvalidMultiaddrError:
    try:
        text = str(maddr)
    except UNREADABLE:
        # `Multiaddr.items` accepts values that `str` cannot print.
        text = f"the multiaddr {maddr.to_bytes().hex()}"
    return QUICInvalidMultiaddrError(f"{text} is not a QUIC address: {why}")
