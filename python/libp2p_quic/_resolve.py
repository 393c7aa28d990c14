"""From what a multiaddr says to address literals: names that are dialed, and wildcards
that are listened on. The only place that asks DNS or the system's interfaces.
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
    """The literals that stand for the host of ``address``, best first (RFC 6724).

    A literal stands for itself, with the index of the interface that its zone names, as in
    "fe80::1%2". Always a checkpoint. Raises DialError when the name or the zone is not known.
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
        # UnicodeError: a name that cannot be one, for instance a label of 64 letters.
        raise DialError(f"cannot resolve /{address.name_protocol}/{address.host}: {error}") from error
    return list(dict.fromkeys(_literal(each[4]) for each in found))


def _literal(sockaddr: tuple[Any, ...]) -> str:
    host, scope = str(sockaddr[0]).partition("%")[0], sockaddr[3] if len(sockaddr) > 3 else 0
    return f"{host}%{scope}" if scope else host


def _interface_index(zone: str) -> int:
    """A zone is the name of an interface, or its index (RFC 4007 section 11)."""
    if zone.isascii() and zone.isdigit():
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError) as error:
        raise DialError(f"/ip6zone/{zone}: this machine has no such interface") from error


def reachable(host: str, port: int, protocol: str) -> tuple[Multiaddr, ...]:
    """Where a socket that is bound to ``host`` can be dialed: one address for each interface
    if it is a wildcard, the loopback's last. Asks anew each time, as interfaces come and go.
    """
    if host not in _WILDCARDS:
        return (to_multiaddr(host, port, protocol),)
    interfaces = get_available_interfaces(port, "udp")
    found = [each for each in interfaces if str(each).startswith(f"/{_WILDCARDS[host]}/")]
    if not found:
        # A container may have the loopback only, which py-libp2p leaves out then.
        return (to_multiaddr(_LOOPBACKS[host], port, protocol),)
    return tuple(each.encapsulate(Multiaddr(f"/{protocol}")) for each in found)
