"""Has a relayed peer identified after its upgrade, so that both do not compete for the interpreter.

py-libp2p 0.8.1 identifies each peer at once. Over a relayed connection that takes three round trips and
some thirty frames, which both hosts encrypt and decrypt while they exchange addresses.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.peer.id import ID

from libp2p_quic._hole_punching._upgrade import Upgrades
from libp2p_quic._repair import Repair

# An upgrade that takes longer waits for round trips, not for the interpreter. Seconds.
_LONGEST = 0.5


def delay_identify(upgrades: Upgrades) -> Repair | None:
    """Delay it for peers of this host that are connected through a relay only."""
    host: Any = upgrades.host
    stock = getattr(host, "_schedule_identify", None)
    if stock is None:
        return None
    delayed: set[ID] = set()

    def schedule(peer_id: ID, *, reason: str) -> None:
        if not upgrades.is_only_relayed(peer_id):
            stock(peer_id, reason=reason)
        elif peer_id not in delayed:
            delayed.add(peer_id)
            upgrades.spawn(f"identify of {peer_id}", lambda: identify_later(peer_id, reason))

    async def identify_later(peer_id: ID, reason: str) -> None:
        try:
            with upgrades.expecting(peer_id) as direct, trio.move_on_after(_LONGEST):
                await direct.wait()
        finally:
            delayed.discard(peer_id)
        stock(peer_id, reason=reason)

    host._schedule_identify = schedule

    def undo() -> None:
        if vars(host).get("_schedule_identify") is schedule:
            del host._schedule_identify

    return Repair(
        "a peer that comes through a relay is identified after its upgrade",
        undo,
        why="py-libp2p 0.8.1 identifies it at once, and both compete for the interpreter",
        is_addition=True,
    )
