"""Multiaddr to (host, port, peer) and back. Strict: what is not plainly QUIC is not ours.

Ours are /ip4|/ip6/.../udp/PORT/quic-v1|quic, optionally with one /p2p/PEER behind; and for
dialing, /dns|/dns4|/dns6 in front.
/webtransport rides on quic-v1 but is another transport, and an address that goes on with
/p2p-circuit is a relay's. /ip6zone is refused: py-multiaddr cannot read it back. No I/O here.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import multiaddr.exceptions
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

QUIC_V1 = "quic-v1"
# What py-libp2p calls draft 29. Addresses of that name are served by QUIC v1 (RFC 9000).
QUIC = "quic"

_NAMES = ("dns", "dns4", "dns6")

# A Multiaddr made of bytes is looked at only when it is used, and py-multiaddr has no one error
# for it: bytes that end in the middle of a number are a TypeError, for example.
_UNREADABLE = (multiaddr.exceptions.Error, EOFError, LookupError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class QUICAddress:
    """The parts of a QUIC multiaddr.

    ``host`` is a literal, or with ``name_protocol`` ("dns", "dns4" or "dns6") a name.
    """

    host: str
    port: int
    protocol: str
    peer_id: ID | None
    name_protocol: str | None = None

    @classmethod
    def parse(cls, maddr: Multiaddr) -> QUICAddress:
        """Raises QUICInvalidMultiaddrError, which names the part that is wrong."""
        parts = _parts(maddr)

        def take(*names: str) -> tuple[str, str] | None:
            return parts.pop(0) if parts and parts[0][0] in names else None

        if take("ip6zone"):
            raise _invalid(maddr, "/ip6zone is not supported, since py-multiaddr does not give the zone back")
        host = take("ip4", "ip6", *_NAMES)
        if host is None:
            raise _invalid(maddr, "it must start with /ip4 or /ip6, or /dns, /dns4 or /dns6")
        udp = take("udp")
        if udp is None:
            raise _invalid(maddr, f"/{host[0]} must be followed by /udp")
        quic = take(QUIC_V1, QUIC)
        if quic is None:
            raise _invalid(maddr, "/udp must be followed by /quic-v1 or /quic")
        peer = take("p2p")
        if parts:
            raise _invalid(maddr, f"/{parts[0][0]} is not part of a QUIC address")
        try:
            peer_id = ID.from_string(peer[1]) if peer else None
        except ValueError as error:
            raise _invalid(maddr, f"unreadable peer id: {error}") from error
        return cls(host[1], int(udp[1]), quic[0], peer_id, host[0] if host[0] in _NAMES else None)

    @classmethod
    def parse_literal(cls, maddr: Multiaddr) -> QUICAddress:
        """`parse`, for listening: no names. Raises QUICInvalidMultiaddrError."""
        address = cls.parse(maddr)
        if address.name_protocol is not None:
            raise _invalid(maddr, f"/{address.name_protocol} cannot be listened on, only /ip4 and /ip6")
        return address


def to_multiaddr(host: str, port: int, protocol: str = QUIC_V1) -> Multiaddr:
    """The multiaddr of a socket address; ``host`` is an IP literal."""
    return Multiaddr(f"/ip{ip_address(host).version}/{host}/udp/{port}/{protocol}")


def _parts(maddr: Multiaddr) -> list[tuple[str, str]]:
    try:
        return [(protocol.name, value or "") for protocol, value in maddr.items()]
    except _UNREADABLE as error:
        raise QUICInvalidMultiaddrError(f"unreadable multiaddr: {error}") from error


def _invalid(maddr: Multiaddr, why: str) -> QUICInvalidMultiaddrError:
    try:
        text = str(maddr)
    except _UNREADABLE:
        # `items` gives values that cannot be printed.
        text = f"the multiaddr {maddr.to_bytes().hex()}"
    return QUICInvalidMultiaddrError(f"{text} is not a QUIC address: {why}")
