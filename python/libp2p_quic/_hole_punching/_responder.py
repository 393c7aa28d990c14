"""Makes the swarm's `dial_addr_as_responder` punch and wait for the peer's connection.

py-libp2p 0.8.1 dials as a client, completes the handshake, and then closes the connection, since a
QUIC connection cannot change its role.
"""

from __future__ import annotations

from typing import Any

from libp2p.abc import INetConn
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from libp2p_quic._hole_punching._repair import Repair
from libp2p_quic._hole_punching._upgrade import LIMIT, Upgrades


def repair_responder(upgrades: Upgrades) -> Repair | None:
    """Wrap the method of this swarm, for addresses that our transport serves."""
    swarm: Any = upgrades.swarm
    stock = getattr(swarm, "dial_addr_as_responder", None)
    if stock is None:
        return None

    async def dial_addr_as_responder(
        addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None
    ) -> INetConn:
        if not upgrades.transport.can_dial(addr):
            connection: INetConn = await stock(addr, peer_id, source)
            return connection
        direct = await upgrades.serve(peer_id, [addr])
        if direct is None:
            raise SwarmException(f"{peer_id} did not come in from {addr} within {LIMIT:g} s")
        return direct

    swarm.dial_addr_as_responder = dial_addr_as_responder

    def undo() -> None:
        if vars(swarm).get("dial_addr_as_responder") is dial_addr_as_responder:
            del swarm.dial_addr_as_responder

    return Repair("dial_addr_as_responder over QUIC punches, and gives the connection that comes in", undo)
