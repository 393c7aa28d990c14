"""Which addresses a host offers for a direct connection, and which of a peer's it tries.

The peer's list is not trusted: it may name any victim. No I/O here.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address

from libp2p.abc import IHost
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr

# As many as the engine punches to. go-libp2p and rust-libp2p offer some four.
MOST = 8

# Below are the ports of services (RFC 6335 section 6); no NAT maps to them.
_FIRST_USER_PORT = 1024


def own_addresses(host: IHost) -> list[Multiaddr]:
    """The QUIC addresses at which peers observe ``host``, and its public listening addresses.

    One observer suffices: in general it is the relay. The port is the observed one, as dials and
    punches leave from the listening socket.
    """
    manager = getattr(host, "_observed_addr_manager", None)
    observed = manager.addrs(min_observers=1) if manager is not None else []
    found = dict.fromkeys(_literals(observed))
    listened: list[Multiaddr] = getattr(host, "get_transport_addrs", list)()
    found.update(dict.fromkeys(each for each in _literals(listened) if _is_public(each)))
    return [to_multiaddr(*each) for each in list(found)[:MOST]]


def usable_addresses(offered: Iterable[Multiaddr], own: Iterable[Multiaddr]) -> list[tuple[str, int]]:
    """The IP literals and ports among ``offered`` that may be dialed and punched to, at most `MOST`.

    Not those of services, loopback, a link, or ourselves; and none that is not public, unless one of
    our ``own`` is not.
    """
    ours = list(_literals(own))
    has_private = any(not _is_public(each) for each in ours)
    return [
        each
        for each in dict.fromkeys(_literals(offered))
        if each not in ours and each[1] >= _FIRST_USER_PORT and (_is_public(each) or has_private)
    ][:MOST]


def public_addresses(known: Iterable[Multiaddr]) -> list[Multiaddr]:
    """The public QUIC addresses among ``known``, which can be dialed without punching first."""
    return [to_multiaddr(*each) for each in dict.fromkeys(_literals(known)) if _is_public(each)][:MOST]


def _literals(addresses: Iterable[Multiaddr]) -> Iterable[tuple[str, int]]:
    for maddr in addresses:
        found = _literal(maddr.to_bytes())
        if found is not None:
            yield found


# Those of the host and of a peer are asked about several times in each upgrade, which is timed.
@lru_cache(maxsize=256)
def _literal(raw: bytes) -> tuple[str, int] | None:
    try:
        address = QUICAddress.parse_literal(Multiaddr(raw))
    except QUICInvalidMultiaddrError:
        return None
    # Browsers dial it; the QUIC address of the same port is among the others.
    if address.is_webtransport:
        return None
    ip = ip_address(address.host)
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return None
    return address.host, address.port


@lru_cache(maxsize=256)
def _is_public(address: tuple[str, int]) -> bool:
    return ip_address(address[0]).is_global
