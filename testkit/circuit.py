"""Two hosts that meet through a relay of py-libp2p, all in the test's own process."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.peerinfo import PeerInfo
from libp2p.relay.circuit_v2.config import RelayConfig
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, HEADER_SIZE, YAMUX_HEADER_FORMAT
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching._upgrade import Upgrades
from testkit.near import IP4, near_host, swarm

# The first message of an exchange, with no addresses.
CONNECT = encode_varint_prefixed(HolePunch(type=HolePunch.CONNECT).SerializeToString())


@asynccontextmanager
async def circuit(*punching: str) -> AsyncIterator[tuple[IHost, IHost, Callable[[], Awaitable[object]]]]:
    """The hosts "asking" and "asked", and a call that dials the second through a relay of py-libp2p.

    Those that are named punch holes. On loopback there are no addresses to punch to.
    """
    async with near_host(IP4) as relay, near_host(IP4) as asking, near_host(IP4) as asked:
        for name, host in (("asking", asking), ("asked", asked)):
            if name in punching:
                enable_hole_punching(host)
        async with AsyncExitStack() as stack:

            async def circuits_of(host: IHost, is_relay: bool = False) -> CircuitV2Transport:
                protocol = CircuitV2Protocol(host, allow_hop=is_relay)
                await stack.enter_async_context(background_trio_service(protocol))
                return CircuitV2Transport(host, protocol, RelayConfig())

            await circuits_of(relay, is_relay=True)
            reached, dialing = await circuits_of(asked), await circuits_of(asking)
            nursery = await stack.enter_async_context(trio.open_nursery())
            stack.callback(nursery.cancel_scope.cancel)
            for host in (asked, asking):
                await host.connect(PeerInfo(relay.get_id(), list(relay.get_addrs())))
            reservation = await asked.new_stream(relay.get_id(), [PROTOCOL_ID])
            assert await reached.reserve(reservation, relay.get_id(), nursery)
            address = Multiaddr(f"{relay.get_addrs()[0]}/p2p-circuit/p2p/{asked.get_id()}")
            yield asking, asked, partial(dialing.dial, address)


def upgrades_of(host: IHost) -> Upgrades:
    """The upgrades of a host that punches holes."""
    (found,) = (each for each in swarm(host).notifees if isinstance(each, Upgrades))
    return found


def relayed(host: IHost, peer: IHost) -> Any:
    """The one connection of ``host`` to ``peer``."""
    (only,) = swarm(host).get_connections(peer.get_id())
    return only


async def opened(host: IHost, peer: IHost, first: bytes) -> INetStream:
    """A new stream whose first bytes arrive with it, as go-libp2p's do."""
    connection = relayed(host, peer)
    muxed = connection.muxed_conn
    stock, held = muxed._write_frame, dict[int, bytes]()

    async def write_frame(frame: bytes) -> None:
        _, _, flags, stream_id, _ = struct.unpack(YAMUX_HEADER_FORMAT, frame[:HEADER_SIZE])
        if flags & FLAG_SYN:
            held[stream_id] = frame
        else:
            await stock(held.pop(stream_id, b"") + frame)

    # For all its streams, and never undone: the host may be opening another one.
    muxed._write_frame = write_frame
    stream: INetStream = await connection.new_stream()
    await stream.write(first)
    return stream
