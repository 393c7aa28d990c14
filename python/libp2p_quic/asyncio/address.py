"""QUIC multiaddrs as text, without py-multiaddr.

py-multiaddr 0.2 depends on trio, psutil, netaddr and ten other packages, and takes 18 ms to import. An
address of QUIC has six protocols: ip4, ip6, ip6zone, dns (dns4, dns6), udp, quic-v1 and p2p. That of
WebTransport has two more: webtransport and certhash. No I/O here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from libp2p_quic._exception_types import InvalidAddressError, InvalidPeerIdError
from libp2p_quic._peer_id import PeerId
from libp2p_quic._webtransport_address import (
    WEBTRANSPORT,
    certificate_hashes_text,
    parse_certificate_hash,
)

_NAMES = ("dns", "dns4", "dns6")
# RFC 1035 section 2.3.4, and the longest text of the other parts.
_LONGEST_NAME = 253
_LONGEST = 1024


@dataclass(frozen=True)
class Address:
    """A multiaddr of QUIC or WebTransport. ``str`` gives its text.

    ``host`` is an IP literal, or a name if ``name_protocol`` is "dns", "dns4" or "dns6". ``zone`` is
    the interface of a link-local IPv6 address (RFC 4007). ``protocol`` is "quic-v1", "quic" or
    "quic-v1/webtransport", and ``certificate_hashes`` the multihashes of the latter.
    """

    host: str
    port: int
    peer_id: PeerId | None = None
    name_protocol: str | None = None
    zone: str | None = None
    protocol: str = "quic-v1"
    certificate_hashes: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, address: object) -> Address:
        """Parse the text of an address to dial, or an object whose text it is, as py-multiaddr's.

        "/quic" is read as well, and dialed as QUIC version 1. Raises InvalidAddressError, which
        names the wrong part.
        """
        text = str(address)
        if not text.startswith("/") or len(text) > _LONGEST:
            raise InvalidAddressError(
                f"{text[:80]!r} is not a multiaddr: it looks like /ip4/192.0.2.1/udp/4001/quic-v1"
            )
        parts = text.removesuffix("/").split("/")[1:]

        def take(*names: str) -> tuple[str, str] | None:
            if not parts or parts[0] not in names:
                return None
            name = parts.pop(0)
            if not parts or not parts[0]:
                raise _invalid(text, f"/{name} must be followed by a value")
            return name, parts.pop(0)

        zone = take("ip6zone")
        host = take("ip6") if zone else take("ip4", "ip6", *_NAMES)
        if host is None and zone:
            raise _invalid(text, "/ip6zone must be followed by /ip6")
        if host is None:
            raise _invalid(text, "it must start with /ip4 or /ip6, or /dns, /dns4 or /dns6")
        udp = take("udp")
        if udp is None:
            raise _invalid(text, f"/{host[0]} must be followed by /udp")
        if not parts or parts[0] not in ("quic-v1", "quic"):
            raise _invalid(text, "/udp must be followed by /quic-v1")
        protocol = parts.pop(0)
        hashes: list[bytes] = []
        if parts and parts[0] == "webtransport" and protocol == "quic-v1":
            parts.pop(0)
            protocol = WEBTRANSPORT
            while found := take("certhash"):
                try:
                    hashes.append(parse_certificate_hash(found[1]))
                except ValueError as error:
                    raise _invalid(text, str(error)) from error
        peer = take("p2p", "ipfs")
        if parts:
            raise _invalid(text, f"/{parts[0]} is not part of a QUIC address")
        try:
            peer_id = PeerId.parse(peer[1]) if peer else None
        except InvalidPeerIdError as error:
            raise _invalid(text, str(error)) from error
        name_protocol = host[0] if host[0] in _NAMES else None
        value = _name(text, host[1]) if name_protocol else _literal(text, *host)
        return cls(
            value,
            _port(text, udp[1]),
            peer_id,
            name_protocol,
            zone[1] if zone else None,
            protocol,
            tuple(hashes),
        )

    @classmethod
    def parse_literal(cls, address: object) -> Address:
        """Parse an address to listen on: no name, no zone, no peer. Raises InvalidAddressError."""
        found = cls.parse(address)
        if found.name_protocol is not None:
            raise _invalid(str(address), f"/{found.name_protocol} cannot be listened on, only /ip4 and /ip6")
        if found.zone is not None:
            raise _invalid(
                str(address), "/ip6zone cannot be listened on; /ip6/:: has the link-local addresses"
            )
        if found.certificate_hashes:
            raise _invalid(str(address), "/certhash cannot be listened on: the certificates are our own")
        return found

    @property
    def is_webtransport(self) -> bool:
        """Whether it is an address of WebTransport."""
        return self.protocol == WEBTRANSPORT

    @classmethod
    def of_socket(cls, host: str, port: int, protocol: str = "quic-v1") -> Address:
        """The address of a socket. A zone is left out, as it is valid on this machine only. An
        IPv4-mapped IPv6 address becomes IPv4."""
        ip = ip_address(host.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return cls(str(ip), port, protocol=protocol)

    def at(self, host: str) -> Address:
        """This address with its host replaced by the IP literal ``host``."""
        protocol = WEBTRANSPORT if self.is_webtransport else "quic-v1"
        reached = Address.of_socket(host, self.port, protocol)
        return replace(reached, peer_id=self.peer_id, certificate_hashes=self.certificate_hashes)

    def __str__(self) -> str:
        zone = f"/ip6zone/{self.zone}" if self.zone is not None else ""
        kind = self.name_protocol or ("ip6" if ":" in self.host else "ip4")
        peer = f"/p2p/{self.peer_id}" if self.peer_id is not None else ""
        hashes = certificate_hashes_text(self.certificate_hashes)
        return f"{zone}/{kind}/{self.host}/udp/{self.port}/{self.protocol}{hashes}{peer}"


def _literal(text: str, kind: str, value: str) -> str:
    try:
        return str(IPv4Address(value) if kind == "ip4" else _ipv6(value))
    except (AddressValueError, ValueError) as error:
        raise _invalid(text, f"/{kind}/{value} is not an IP address") from error


def _ipv6(value: str) -> IPv6Address:
    if "%" in value:
        raise ValueError("a zone is written /ip6zone/ZONE/ip6/ADDRESS")
    return IPv6Address(value)


def _name(text: str, value: str) -> str:
    if len(value) > _LONGEST_NAME:
        raise _invalid(text, f"a name has at most {_LONGEST_NAME} characters")
    return value


def _port(text: str, value: str) -> int:
    if value.isascii() and value.isdigit() and len(value) <= 5 and int(value) < 65_536:
        return int(value)
    raise _invalid(text, f"/udp/{value} is not a port")


def _invalid(text: str, why: str) -> InvalidAddressError:
    return InvalidAddressError(f"{text} is not a QUIC address: {why}")
