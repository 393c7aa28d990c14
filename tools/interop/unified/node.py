"""The libp2p node under test: py-libp2p's host on this project's transport."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, enable_hole_punching


@asynccontextmanager
async def running_node(listener_ip: str | None = None, hole_punching: bool = False) -> AsyncIterator[IHost]:
    """A host with a new key. With an IPv4 address it listens there, on a free port."""
    pair = create_new_key_pair()
    host = new_host(key_pair=pair, transports=[QUICTransport(pair.private_key)])
    if hole_punching:
        enable_hole_punching(host)
    listen = [Multiaddr(f"/ip4/{listener_ip}/udp/0/quic-v1")] if listener_ip else []
    async with host.run(listen_addrs=listen):
        yield host


def published_address(host: IHost) -> str:
    """The address for other containers: not loopback, unless there is no other.

    A host that listens on 0.0.0.0 has an address for every interface of the machine.
    """
    addresses = host.get_addrs()
    outward = [
        address
        for address in addresses
        if not ipaddress.ip_address(str(address.value_for_protocol("ip4"))).is_loopback
    ]
    return str((outward or addresses)[0])
