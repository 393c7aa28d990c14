"""The addresses at which others reach a listener of this machine."""

from __future__ import annotations

import socket
from dataclasses import replace

from libp2p_quic.asyncio.address import Address

# Documentation addresses (RFC 5737, RFC 3849): nothing is sent to them.
_ELSEWHERE = {"0.0.0.0": (socket.AF_INET, "192.0.2.1"), "::": (socket.AF_INET6, "2001:db8::1")}
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def dialable(address: str) -> list[str]:
    """Addresses to dial for a bound ``address``: of a wildcard, loopback and the one with which this
    machine reaches the internet."""
    bound = Address.parse(address)
    if bound.host not in _ELSEWHERE:
        return [address]
    hosts = dict.fromkeys([_LOOPBACK[bound.host], *_default_source(*_ELSEWHERE[bound.host])])
    return [str(replace(bound, host=host)) for host in hosts]


def _default_source(family: socket.AddressFamily, elsewhere: str) -> list[str]:
    """The source address that the routing table chooses; nothing without a route."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((elsewhere, 9))
            return [str(asking.getsockname()[0])]
    except OSError:
        return []
