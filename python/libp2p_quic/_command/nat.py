"""What the address that a peer sees tells about a NAT between it and this machine.

It is one observation of one peer: whether a NAT gives each peer another port takes two of them.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import ip_address

# Names of multiaddr's protocols. py-libp2p 0.8 calls a UDP port a TCP port.
_HOSTS, _PORTS = ("ip4", "ip6"), ("udp", "tcp")


class NAT(Enum):
    """Its value is the name in JSON."""

    NONE = "none"
    PORT_KEPT = "port_kept"
    PORT_CHANGED = "port_changed"
    UNKNOWN = "unknown"


def between(own: str, observed: str) -> NAT:
    """``own`` is the multiaddr of our end, ``observed`` what the peer says of it, or nothing."""
    try:
        (host, port), (seen_host, seen_port) = _parts(own), _parts(observed)
        is_same_host = ip_address(host) == ip_address(seen_host)
        if ip_address(host).is_unspecified:
            return NAT.UNKNOWN
    except (KeyError, ValueError):
        return NAT.UNKNOWN
    if port != seen_port:
        return NAT.PORT_CHANGED
    return NAT.NONE if is_same_host else NAT.PORT_KEPT


def told(nat: NAT, own: str) -> str:
    """The same for a reader, who has seen both addresses."""
    if nat is NAT.UNKNOWN:
        return "unknown whether a NAT is between us"
    if nat is NAT.NONE:
        return "no NAT between us"
    port = _parts(own)[1]
    if nat is NAT.PORT_KEPT:
        return f"NAT between us, port {port} kept; another peer may see another port"
    return f"NAT between us, port changed from {port}; another peer may see another port"


def _parts(address: str) -> tuple[str, str]:
    """IP address and port. Raises KeyError."""
    names = address.split("/")[1:]
    found = dict(zip(names[::2], names[1::2], strict=False))
    host = next((found[name] for name in _HOSTS if name in found), None)
    port = next((found[name] for name in _PORTS if name in found), None)
    if host is None or port is None:
        raise KeyError(address)
    return host, port
