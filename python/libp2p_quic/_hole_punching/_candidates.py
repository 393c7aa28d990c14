"""Which addresses a host offers for a direct connection, and which of a peer's it tries.

The peer's list is not trusted: it may name any victim. No I/O here.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, cast

from libp2p.abc import IHost
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._callback import outcome_of

logger = logging.getLogger("libp2p_quic.hole_punching")

# As many as the engine punches to. go-libp2p and rust-libp2p offer some four.
MOST = 8
# Of one IP address: the port that its NAT maps, and one that is forwarded.
_MOST_PORTS = 2

# Below are the ports of services (RFC 6335 section 6); no NAT maps to them.
_FIRST_USER_PORT = 1024

# IP literal and port.
_Address = tuple[str, int]


async def own_addresses(host: IHost) -> list[Multiaddr]:
    """The QUIC addresses at which peers observe ``host``, and the public ones that it listens on or
    advertises.

    One observer suffices: in general it is the relay. The port is the observed one, as dials and
    punches leave from the listening socket. What peers report that came in by themselves is last, as
    any number of them may report addresses that are not ours.
    """
    dialed, others = _observed(host)
    known: list[Multiaddr] = list(getattr(host, "get_transport_addrs", list)())
    # Otherwise they would be the same again, and take 0.5 ms.
    if may_have_factory(host):
        advertised = await outcome_of(host.get_addrs)
        if advertised.error is None:
            known += cast("list[Multiaddr]", advertised.value)
        else:
            logger.debug("the addresses that the host advertises are unknown: %r", advertised.error)
    public = [each for each in _literals(known) if _is_public(each)]
    return [to_multiaddr(*each) for each in list(dict.fromkeys([*dialed, *public, *others]))[:MOST]]


def may_have_factory(host: IHost) -> bool:
    """Whether a program's `addrs_factory` may make what ``host`` advertises. Otherwise py-libp2p makes it of
    the listeners and of what peers observe."""
    return getattr(host, "_addrs_factory", True) is not None


def usable_addresses(offered: Iterable[Multiaddr], own: Iterable[Multiaddr]) -> list[_Address]:
    """The IP literals and ports among ``offered`` that may be dialed and punched to, at most `MOST`, and
    at most two ports of one IP address.

    Not those of services, loopback, a link, or ourselves; and none that is not public, unless one of
    our ``own`` is not.
    """
    ours = list(_literals(own))
    has_private = any(not _is_public(each) for each in ours)
    return _limited(
        each
        for each in _literals(offered)
        if each not in ours and each[1] >= _FIRST_USER_PORT and (_is_public(each) or has_private)
    )


def public_addresses(known: Iterable[Multiaddr]) -> list[_Address]:
    """The IP literals and ports of the public QUIC addresses among ``known``, which can be dialed without
    punching first: at most `MOST`, and at most two ports of one IP address."""
    return _limited(each for each in _literals(known) if _is_public(each))


def _limited(addresses: Iterable[_Address]) -> list[_Address]:
    ports: Counter[str] = Counter()
    found: list[_Address] = []
    for each in dict.fromkeys(addresses):
        if len(found) < MOST and ports[each[0]] < _MOST_PORTS:
            ports[each[0]] += 1
            found.append(each)
    return found


def _observed(host: IHost) -> tuple[list[_Address], list[_Address]]:
    """Our addresses as peers report them: the peers that we dialed, and the others.

    A private address counts only if it is reported from a private address: it makes us try such addresses
    of all peers. `ObservedAddrManager.addrs` says neither who reported an address nor more than three of
    them.
    """
    manager: Any = getattr(host, "_observed_addr_manager", None)
    records = getattr(manager, "_conn_observations", None)
    if records is None:
        return list(_literals(manager.addrs(min_observers=1))) if manager is not None else [], []
    dialed: dict[_Address, None] = {}
    others: dict[_Address, None] = {}
    for _, reported, _, reference in list(records.values()):
        connection = reference()
        if connection is None or "/udp/" not in reported:
            continue
        found = dialed if connection.direction.name == "OUTBOUND" else others
        # There may be thousands.
        if len(found) >= MOST:
            continue
        address = _reported_literal(reported)
        if address is not None and (_is_public(address) or _has_private_peer(connection)):
            found[address] = None
    return list(dialed), list(others)


@lru_cache(maxsize=256)
def _reported_literal(reported: str) -> _Address | None:
    """The IP literal and the port of ``reported``, which is like /ip4/192.0.2.1/udp/4001."""
    try:
        _, _, host, _, port = reported.split("/")
        return _routed(host, int(port))
    except ValueError:
        return None


def _has_private_peer(connection: Any) -> bool:
    remote: _Address | None = connection.muxed_conn.get_remote_address()
    return remote is not None and not _is_public(remote)


def _literals(addresses: Iterable[Multiaddr]) -> Iterable[_Address]:
    for maddr in addresses:
        found = _literal(maddr.to_bytes())
        if found is not None:
            yield found


# Those of the host and of a peer are asked about several times in each upgrade, which is timed.
@lru_cache(maxsize=256)
def _literal(raw: bytes) -> _Address | None:
    try:
        address = QUICAddress.parse_literal(Multiaddr(raw))
    except QUICInvalidMultiaddrError:
        return None
    # Browsers dial it; the QUIC address of the same port is among the others.
    if address.is_webtransport:
        return None
    return _routed(address.host, address.port)


def _routed(host: str, port: int) -> _Address | None:
    """The address, unless it is one of this machine or of a link."""
    ip = _ip(host)
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return None
    return str(ip), port


@lru_cache(maxsize=256)
def _is_public(address: _Address) -> bool:
    return _ip(address[0]).is_global


def _ip(host: str) -> IPv4Address | IPv6Address:
    """Of an IPv4-mapped IPv6 address the IPv4 address: Python takes ::ffff:127.0.0.1 for no loopback."""
    ip = ip_address(host.partition("%")[0])
    return getattr(ip, "ipv4_mapped", None) or ip
