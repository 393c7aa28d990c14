"""Resolves multiaddrs to IP literals: names that are dialed, and wildcards that are listened on.
Only this module queries DNS or the system's network interfaces.
"""

from __future__ import annotations

import socket
from typing import Any

import trio
from libp2p.utils.address_validation import get_available_interfaces
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._exceptions import DialError

_FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_WILDCARDS = {"0.0.0.0": "ip4", "::": "ip6"}
_LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


async def resolved(address: QUICAddress) -> list[str]:
    """The IP literals of the host of ``address``, best first (RFC 6724).

    A literal is returned unchanged; a zone is replaced by the index of its interface, as in
    "fe80::1%2". Always a checkpoint. Raises DialError if the name or the zone is unknown.
    """
    await trio.lowlevel.checkpoint()
    if address.zone is not None:
        return [f"{address.host}%{_interface_index(address.zone)}"]
    if address.name_protocol is None:
        return [address.host]
    family = _FAMILIES[address.name_protocol]
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, family=family, type=socket.SOCK_DGRAM
        )
    except (OSError, UnicodeError) as error:
        # UnicodeError: an invalid name, for instance one with a label of 64 letters.
        raise DialError(f"cannot resolve /{address.name_protocol}/{address.host}: {error}") from error
    return list(dict.fromkeys(_literal(each[4]) for each in found))


def _literal(sockaddr: tuple[Any, ...]) -> str:
    host, scope = str(sockaddr[0]).partition("%")[0], sockaddr[3] if len(sockaddr) > 3 else 0
    return f"{host}%{scope}" if scope else host


def _interface_index(zone: str) -> int:
    """The index of the interface that ``zone`` names or numbers (RFC 4007 section 11)."""
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError) as error:
        raise DialError(f"/ip6zone/{zone}: this machine has no such interface") from error


def reachable(host: str, port: int, protocol: str) -> tuple[Multiaddr, ...]:
    """The addresses at which a socket bound to ``host`` can be dialed. A wildcard has one for each
    interface, the loopback's last. Queried on each call, as interfaces come and go.
    """
    if host not in _WILDCARDS:
        return (to_multiaddr(host, port, protocol),)
    interfaces = get_available_interfaces(port, "udp")
    found = [each for each in interfaces if str(each).startswith(f"/{_WILDCARDS[host]}/")]
    if not found:
        # In a container with only the loopback, py-libp2p returns nothing.
        return (to_multiaddr(_LOOPBACKS[host], port, protocol),)
    return tuple(each.encapsulate(Multiaddr(f"/{protocol}")) for each in found)
