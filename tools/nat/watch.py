"""Tells when a home of the laboratory has a direct connection, as a line of JSON."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

import trio
from libp2p.abc import INetConn, INetwork
from libp2p.peer.id import ID

from libp2p_quic._host_events import PromptNotifee
from libp2p_quic._repair import is_relayed


def tell(event: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


class Watch(PromptNotifee):
    """Tells of the first direct connection to a peer that is not the relay, with the time since the relayed
    one was in the swarm."""

    def __init__(self, relay: ID | None) -> None:
        self.began: float | None = None
        self.direct = trio.Event()
        self._relay = relay

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        peer = conn.muxed_conn.peer_id
        if peer == self._relay or self.direct.is_set():
            return
        if self.began is None:
            self.began = trio.current_time()
        if is_relayed(conn):
            return
        addresses = [str(each) for each in conn.get_transport_addresses()]
        seconds = trio.current_time() - self.began
        direction = cast(Any, conn).direction.name.lower()
        tell("direct", peer=str(peer), seconds=seconds, address=addresses[0], direction=direction)
        self.direct.set()
