"""The program for unified-testing's hole-punch suite: relay, listener and dialer, as the environment says.

`python -m tools.interop.unified.hole_punch`. The listener reserves a slot at the relay, the dialer comes
through it, and DCUtR connects both directly; the dialer prints how long that took, and a ping.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from libp2p.abc import IHost, INetConn, INetwork
from libp2p.host.ping import ID as PING
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from libp2p_quic._host_events import Notifee
from libp2p_quic._repair import is_relayed
from tools.interop.unified.harness import Harness, HarnessError, run
from tools.interop.unified.node import published_address, running_node

_LIMITS = RelayLimits(duration=3600, data=1 << 27, max_circuit_conns=16, max_reservations=16)
# For the direct connection: three attempts of 5 s each, and their exchanges. Seconds.
_PATIENCE = 30.0


class Direct(Notifee):
    """Waits for a connection to a peer that goes through no relay."""

    def __init__(self, peer: ID) -> None:
        self.arrived = trio.Event()
        self._peer = peer

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        if conn.muxed_conn.peer_id == self._peer and not is_relayed(conn):
            self.arrived.set()


def route_to_the_relay() -> None:
    """The harness gives a home two networks and no route: its program sets it."""
    subnet, router = os.environ.get("WAN_SUBNET"), os.environ.get("WAN_ROUTER_IP")
    if not subnet or not router:
        return
    command = ["ip", "route", "replace", subnet, "via", router]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode != 0:
        raise HarnessError(
            f"no route to WAN_SUBNET {subnet} via WAN_ROUTER_IP {router}: {ended.stderr.strip()}"
        )


async def relay(harness: Harness) -> None:
    async with (
        running_node(os.environ.get("RELAY_IP") or "0.0.0.0", hole_punching=True) as host,
        background_trio_service(CircuitV2Protocol(host, _LIMITS, allow_hop=True)),
    ):
        harness.set_fact("relay_multiaddr", published_address(host))
        await trio.sleep_forever()


@asynccontextmanager
async def home(harness: Harness, ip: str) -> AsyncIterator[tuple[IHost, CircuitV2Transport, PeerInfo]]:
    """A host behind its router, connected to the relay."""
    route_to_the_relay()
    relay_info = info_from_p2p_addr(Multiaddr(await harness.get_fact("relay_multiaddr")))
    async with running_node(ip, hole_punching=True) as host:
        protocol = CircuitV2Protocol(host, _LIMITS)
        config = RelayConfig(roles=RelayRole.STOP | RelayRole.CLIENT, limits=_LIMITS)
        circuits = CircuitV2Transport(host, protocol, config)
        async with background_trio_service(protocol):
            await host.connect(relay_info)
            yield host, circuits, relay_info


async def listen(harness: Harness) -> None:
    async with home(harness, harness.listener_ip) as (host, circuits, info), trio.open_nursery() as nursery:
        stream = await host.new_stream(info.peer_id, [PROTOCOL_ID])
        if await circuits.reserve(stream, info.peer_id, nursery):
            await stream.close()
            harness.set_fact("listener_peer_id", str(host.get_id()))
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    raise HarnessError(f"the relay {info.peer_id} refuses a reservation")


async def dial(harness: Harness) -> None:
    async with home(harness, os.environ.get("DIALER_IP") or "0.0.0.0") as (host, circuits, info):
        peer = ID.from_string(await harness.get_fact("listener_peer_id"))
        through = Multiaddr(f"{info.addrs[0]}/p2p/{info.peer_id}/p2p-circuit/p2p/{peer}")
        measured = await measure(host, circuits, through, peer)
    # Raised here: the host's nurseries would wrap it.
    if measured is None:
        raise HarnessError(f"no direct connection to {peer} within {_PATIENCE:g} s")
    handshake, ping = measured
    print(
        "latency:",
        f"  handshake_plus_one_rtt: {handshake * 1e3:.3f}",
        f"  ping_rtt: {ping * 1e3:.3f}",
        "  unit: ms",
        sep="\n",
    )


async def measure(
    host: IHost, circuits: CircuitV2Transport, through: Multiaddr, peer: ID
) -> tuple[float, float] | None:
    """Seconds from the relayed dial until a ping over the direct connection, and of the ping alone.

    None if there is no direct connection in time, or the ping would go through the relay.
    """
    direct = Direct(peer)
    host.get_network().register_notifee(direct)
    began = time.perf_counter()
    await circuits.dial(through)
    with trio.move_on_after(_PATIENCE):
        await direct.arrived.wait()
    if not direct.arrived.is_set():
        return None
    stream = await host.new_stream(peer, [PING])
    if is_relayed(stream.muxed_conn):
        return None
    ping_began = time.perf_counter()
    await perform_ping_roundtrip(stream)
    ended = time.perf_counter()
    await stream.close()
    return ended - began, ended - ping_began


if __name__ == "__main__":
    about = "The hole-punch program of libp2p's unified-testing, on libp2p-quic."
    sys.exit(run(about, listen, dial, relay))
