"""A dialer's address changes (RFC 9000 section 9), and the listener's program finds the new one: in
py-libp2p's swarm, which keeps a copy of it, and in asyncio.

Behind relays that change their port, as a NAT may. Changes of real interfaces and NATs are in test_moves.
"""

from __future__ import annotations

import asyncio
from typing import Any

from libp2p.abc import INetStream
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import PeerInfo

from testkit.asyncio_ends import ends, raw_streams
from testkit.census import PATIENCE, eventually
from testkit.loops import on_both, soon
from testkit.near import IP4, inbound, near_host, new_stream, swarm
from testkit.relay import Relay

PROTOCOL = "/test/address-changes"


async def test_the_swarms_connection_has_the_address_of_each_move() -> None:
    async def close(stream: INetStream) -> None:
        await stream.close()

    async with (
        near_host(IP4) as listener,
        near_host() as dialer,
        Relay.to(listener.get_addrs()[0]) as relay,
    ):
        listener.set_stream_handler(TProtocol(PROTOCOL), close)
        await dialer.connect(PeerInfo(listener.get_id(), [relay.address]))
        accepted = await inbound(listener, dialer.get_id())
        (listed,) = swarm(listener).get_connections(dialer.get_id())
        (dialed,) = swarm(dialer).get_connections(listener.get_id())
        target = dialed.get_transport_addresses()

        def is_current() -> bool:
            return listed.get_transport_addresses() == accepted.get_transport_addresses()

        # The handshake is confirmed, so that the peer may migrate.
        await new_stream(dialer, listener.get_id(), PROTOCOL)
        seen = [listed.get_transport_addresses()]
        for _ in range(2):
            await relay.move()
            await new_stream(dialer, listener.get_id(), PROTOCOL)
            assert accepted.get_transport_addresses() not in seen
            assert await eventually(is_current)
            seen.append(listed.get_transport_addresses())
        assert listed.get_connection_type() is ConnectionType.DIRECT
        assert dialed.get_transport_addresses() == target


class Nat(asyncio.DatagramProtocol):
    """Forwards the datagrams of one dialer to a listener, from a port that `rebind` changes."""

    def __init__(self, listener: tuple[str, int]) -> None:
        self._listener = listener
        self._dialer: Any = None
        self._inside: asyncio.DatagramTransport | None = None
        self._outside: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._inside, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        await self.rebind()

    async def rebind(self) -> None:
        loop, before = asyncio.get_running_loop(), self._outside
        answers = Answers(self)
        self._outside, _ = await loop.create_datagram_endpoint(lambda: answers, remote_addr=self._listener)
        if before is not None:
            before.close()

    def close(self) -> None:
        for each in (self._inside, self._outside):
            if each is not None:
                each.close()

    @property
    def inner(self) -> str:
        return _multiaddr(self._inside)

    @property
    def outer(self) -> str:
        return _multiaddr(self._outside)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._dialer = addr
        if self._outside is not None:
            self._outside.sendto(data)

    def answer(self, data: bytes) -> None:
        if self._inside is not None:
            self._inside.sendto(data, self._dialer)


class Answers(asyncio.DatagramProtocol):
    """What the listener sends to one port of a NAT."""

    def __init__(self, nat: Nat) -> None:
        self._nat = nat

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._nat.answer(data)


def _multiaddr(transport: asyncio.DatagramTransport | None) -> str:
    assert transport is not None
    host, port = transport.get_extra_info("sockname")
    return f"/ip4/{host}/udp/{port}/quic-v1"


@on_both
async def test_the_remote_address_in_asyncio_is_the_current_one() -> None:
    async with ends() as both:
        _, _, host, _, port, _ = both.listener.address.split("/")
        nat = Nat((host, int(port)))
        await nat.start()
        try:
            near = await soon(both.near.connect(f"{nat.inner}/p2p/{both.far.peer_id}"))
            far = await soon(both.listener.accept())
            ended = asyncio.ensure_future(far.closed())
            await soon(raw_streams(near, far))
            before = far.remote_address
            assert before == nat.outer
            await nat.rebind()
            await soon(raw_streams(near, far))
            assert far.remote_address == nat.outer != before
            assert near.remote_address == nat.inner
            # The move woke the task that waits for the end, and it waits again.
            assert not ended.done()
            near.close()
            assert (await asyncio.wait_for(ended, PATIENCE)).by == "peer"
        finally:
            nat.close()
