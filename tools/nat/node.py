"""Our program of the NAT laboratory: a relay, or a home that listens or dials through a relay.

Every fact is a line of JSON. The program ends with its standard input. ``--transport stock`` takes
py-libp2p's own QUIC transport and repairs nothing. With ``--wait`` the first line of its input has options
that were not known when it was started.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import AsyncExitStack, suppress
from typing import Any

import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.ping import PingService
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig, RelayRole
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.resources import RelayLimits
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.transport import QUICTransport as StockTransport
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic._repair import is_relayed
from testkit.census import PATIENCE, Census, census, eventually
from tools.nat.watch import Watch, tell

# How long an upgrade takes whose time is compared. Seconds.
_SOON = 0.5
_LIMITS = RelayLimits(duration=3600, data=1 << 30, max_circuit_conns=64, max_reservations=64)


async def end_of_input() -> None:
    stdin = trio.lowlevel.FdStream(0)
    while await stdin.receive_some(4096):
        pass


def make_host(is_stock: bool) -> IHost:
    key_pair = create_new_key_pair()
    transport: Any = (
        StockTransport(key_pair.private_key, StockConfig())
        if is_stock
        else libp2p_quic.QUICTransport(key_pair.private_key)
    )
    host = new_host(key_pair=key_pair, transports=[transport])
    if not is_stock:
        libp2p_quic.enable_hole_punching(host)
    return host


async def relay(host: IHost) -> None:
    protocol = CircuitV2Protocol(host, _LIMITS, allow_hop=True)
    async with background_trio_service(protocol):
        tell("ready", peer=str(host.get_id()))
        await end_of_input()


async def home(host: IHost, told: argparse.Namespace) -> None:
    info = info_from_p2p_addr(Multiaddr(told.relay))
    watch = Watch(info.peer_id)
    host.get_network().register_notifee(watch)
    protocol = CircuitV2Protocol(host, _LIMITS)
    config = RelayConfig(roles=RelayRole.STOP | RelayRole.CLIENT, limits=_LIMITS)
    circuits = CircuitV2Transport(host, protocol, config)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(background_trio_service(protocol))
        if told.transport == "stock":
            await stack.enter_async_context(background_trio_service(DCUtRProtocol(host)))
        nursery = await stack.enter_async_context(trio.open_nursery())
        await host.connect(info)
        if told.dial is None:
            stream = await host.new_stream(info.peer_id, [PROTOCOL_ID])
            assert await circuits.reserve(stream, info.peer_id, nursery), "the relay refuses a reservation"
            await stream.close()
            tell("ready", peer=str(host.get_id()))
        else:
            tell("ready", peer=str(host.get_id()))
            await dial(host, circuits, watch, told)
        await end_of_input()
        nursery.cancel_scope.cancel()


async def dial(host: IHost, circuits: CircuitV2Transport, watch: Watch, told: argparse.Namespace) -> None:
    peer = ID.from_string(told.dial)
    await circuits.dial(Multiaddr(f"{told.relay}/p2p-circuit/p2p/{peer}"))
    # To tell it takes as long as a message through the relay: later, unless the upgrade takes long.
    with trio.move_on_after(_SOON):
        await watch.direct.wait()
    tell("relayed")
    with trio.move_on_after(told.limit):
        await watch.direct.wait()
    if watch.direct.is_set():
        # Nothing passes but what the transport itself sends.
        await trio.sleep(told.hold)
    try:
        (milliseconds,) = await PingService(host).ping(peer, 1)
    except BaseLibp2pError as error:
        tell("unusable", error=str(error))
    else:
        connections = host.get_network().get_connections(peer)
        is_direct = any(not is_relayed(each) for each in connections if not each.is_closed)
        tell("pinged", ms=milliseconds / 1000, direct=is_direct)


async def main(told: argparse.Namespace) -> None:
    # The first host of a run of trio makes what all of them share, and keeps it until the run ends.
    async with make_host(False).run(listen_addrs=[Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]):
        pass
    before = census()
    connections = await run(told)
    await eventually(lambda: not left_since(before, connections), PATIENCE)
    tell("left", what=left_since(before, connections))


async def run(told: argparse.Namespace) -> list[str]:
    """The peers whose connections are open though the host is closed.

    Without relayed ones: py-libp2p 0.8.1 ends a swarm by canceling its task, which stops closing connections
    at the first wait. How many relayed ones are marked as closed by then depends on their order, so a count
    would not be stable. Each is a stream of a connection to the relay, which is counted here.
    """
    host = make_host(told.transport == "stock")
    async with host.run(listen_addrs=[Multiaddr(told.listen)]):
        await (relay(host) if told.role == "relay" else home(host, told))
    swarm = host.get_network()
    return [
        str(peer)
        for peer in swarm.connections
        for each in swarm.get_connections(peer)
        if not each.muxed_conn.is_closed and not is_relayed(each)
    ]


def left_since(before: Census, connections: list[str]) -> dict[str, list[str]]:
    """What the host did not give back."""
    left = census().beyond(before)
    # trio keeps idle threads of its own for ten seconds.
    left["threads"] = [each for each in left.get("threads", []) if not each.startswith("Trio")]
    left["connections"] = connections
    return {kind: what for kind, what in left.items() if what}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.nat.node")
    parser.add_argument("role", choices=["relay", "home"])
    parser.add_argument("--transport", choices=["ours", "stock"], default="ours")
    parser.add_argument("--listen", required=True, help="the multiaddr to listen on")
    parser.add_argument("--relay", help="the relay's multiaddr, with its peer id")
    parser.add_argument("--dial", help="the peer to reach through the relay; without it, wait to be reached")
    parser.add_argument("--limit", type=float, default=20, help="seconds to wait for a direct connection")
    parser.add_argument("--hold", type=float, default=0, help="seconds of silence on it before the ping")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--wait", action="store_true", help="for a line with more options, as JSON")
    arguments = parser.parse_args()
    if arguments.wait:
        line = sys.stdin.readline()
        if not line:
            # The try ended before this program was needed.
            sys.exit()
        arguments = parser.parse_args([*sys.argv[1:], *json.loads(line)])
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%M:%S"
    )
    if arguments.debug:
        logging.getLogger("libp2p_quic").setLevel(logging.DEBUG)
        logging.getLogger("libp2p.host").setLevel(logging.DEBUG)
        logging.getLogger("libp2p.relay").setLevel(logging.DEBUG)
    with suppress(KeyboardInterrupt):
        trio.run(main, arguments)
