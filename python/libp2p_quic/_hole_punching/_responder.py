"""Makes the swarm's `dial_addr_as_responder` punch and wait for the peer's connection.

py-libp2p 0.8.1 dials as a client, completes the handshake, and then closes the connection, since a
QUIC connection cannot change its role.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

from libp2p.abc import INetConn
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from libp2p_quic._connection import QUICConnection
from libp2p_quic._hole_punching._candidates import own_addresses
from libp2p_quic._hole_punching._upgrade import LIMIT, Upgrades, usable
from libp2p_quic._repair import Repair, result_in_run, stand_in_swarm

_PROBED = Multiaddr("/ip4/192.0.2.1/udp/4001/quic-v1")


def repair_responder(upgrades: Upgrades) -> Repair | None:
    """Wrap the method of this swarm, for addresses that our transport serves, unless py-libp2p's own gives a
    connection for them."""
    swarm: Any = upgrades.swarm
    stock = getattr(swarm, "dial_addr_as_responder", None)
    if stock is None or _is_mended():
        return None

    async def dial_addr_as_responder(
        addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None
    ) -> INetConn:
        if not upgrades.transport.can_dial(addr):
            connection: INetConn = await stock(addr, peer_id, source)
            return connection
        own = await own_addresses(upgrades.host)
        direct = await upgrades.serve(peer_id, usable(peer_id, [addr], own))
        if direct is None:
            raise SwarmException(f"{peer_id} did not come in from {addr} within {LIMIT:g} s")
        return direct

    swarm.dial_addr_as_responder = dial_addr_as_responder

    def undo() -> None:
        if vars(swarm).get("dial_addr_as_responder") is dial_addr_as_responder:
            del swarm.dial_addr_as_responder

    return Repair(
        "dial_addr_as_responder over QUIC punches, and gives the connection that comes in",
        undo,
        why="py-libp2p 0.8.1 dials as the client, and closes the connection after its handshake",
    )


@cache
def _is_mended() -> bool:
    return result_in_run(_given_by_stock) is not None


async def _given_by_stock() -> object:
    """The connection that py-libp2p gives if the transport's dial succeeds. It raises if it gives none."""
    # Not initialized: its class says that it is multiplexed, and that its role cannot change.
    dialed: Any = QUICConnection.__new__(QUICConnection)

    async def close() -> None:
        return None

    async def dial(*_: object) -> object:
        return dialed

    async def add_conn(*_: object, **__: object) -> object:
        return SimpleNamespace(muxed_conn=dialed)

    transport = SimpleNamespace(can_dial=lambda _: True, dial=dial, dial_with_source=dial)
    swarm, dialed.peer_id = stand_in_swarm(transport, [_PROBED])
    dialed.close = close
    swarm.add_conn = add_conn
    return await Swarm.dial_addr_as_responder(swarm, _PROBED, dialed.peer_id)
