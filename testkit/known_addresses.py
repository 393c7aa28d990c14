"""What a host's peerstore has of a peer."""

from __future__ import annotations

from libp2p.abc import IHost
from libp2p.peer.id import ID


def has_address(host: IHost, peer: ID, beginning: str) -> bool:
    """Whether ``host`` knows an address of the peer that begins so. It may not know the peer yet."""
    store = host.get_peerstore()
    return peer in store.peers_with_addrs() and any(
        str(each).startswith(beginning) for each in store.addrs(peer)
    )
