"""Two py-libp2p hosts, each in its own process, meet over this transport.

Handshakes, identities, addresses, and what the host does on top of a connection. How
streams behave is in test_streams.
"""

from __future__ import annotations

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.quic.exceptions import QUICPeerVerificationError

from libp2p_quic._exceptions import PeerIdMismatchError
from peers.census import eventually
from peers.far import far_host
from peers.near import (
    IP4,
    IP6,
    addresses,
    connection,
    gone,
    inbound,
    near_host,
    near_transport,
    new_stream,
    reasons,
    swarm,
)
from peers.payload import BLOCK, MIB, Drained, echoed, payload, sha256

ECHO = TProtocol("/test/echo")


def another_peer() -> ID:
    return ID.from_pubkey(create_new_key_pair().public_key)


@pytest.mark.parametrize("key", ["ed25519", "secp256k1", "rsa"])
async def test_handshake_proves_both_peers(key: str) -> None:
    async with far_host(key=key) as far, near_host() as near:
        await near.connect(far.info)
        proven = connection(near, far.peer_id)
        assert proven.peer_id == far.peer_id
        assert proven.is_initiator
        assert proven.is_established
        assert proven.get_transport_addresses() == far.info.addrs
        # What the other process proved about us.
        assert await far.do("connections") == [str(near.get_id())]


async def test_listener_learns_who_dialed() -> None:
    async with far_host() as far, near_host(IP4) as near:
        await far.do("connect", address=addresses(near)[0])
        dialed_us = await inbound(near, far.peer_id)
        assert dialed_us.peer_id == far.peer_id
        assert not dialed_us.is_initiator
        host, port = dialed_us.get_remote_address()
        assert host == "127.0.0.1"
        # It dialed from the socket that it listens on.
        assert far.addresses[0].startswith(f"/ip4/{host}/udp/{port}/quic-v1")


async def test_wrong_peer_id_is_refused_and_named() -> None:
    async with far_host() as far, near_host() as near:
        wrong = PeerInfo(another_peer(), [far.info.addrs[0].decapsulate_code(421)])
        with pytest.raises(SwarmException) as refused:
            await near.connect(wrong)
        (mismatch,) = (each for each in reasons(refused.value) if isinstance(each, PeerIdMismatchError))
        assert "Peer ID mismatch" in str(mismatch)
        # The swarm recognised it: it dialed once and forgot the address.
        assert near.get_peerstore().peer_info(wrong.peer_id).addrs == []
        assert not swarm(near).get_connections(wrong.peer_id)
        assert await eventually(lambda: not swarm(near).connections, 5)


async def test_wrong_peer_id_has_its_own_error_class() -> None:
    transport = near_transport()
    async with far_host() as far:
        wrong = far.info.addrs[0].decapsulate_code(421).encapsulate(f"/p2p/{another_peer()}")
        with pytest.raises(PeerIdMismatchError, match="Peer ID mismatch") as refused:
            await transport.dial(wrong)
        assert isinstance(refused.value, QUICPeerVerificationError)
        await transport.close()
        # The listener does not keep a connection to a peer that turned away.
        assert await far.do("connections") == []


async def test_ipv6_in_both_roles() -> None:
    async with far_host(IP6) as far, near_host(IP6) as near:
        await near.connect(far.info)
        assert connection(near, far.peer_id).get_remote_address()[0] == "::1"
        stream = await new_stream(near, far.peer_id, ECHO)
        data = payload(6, 100_000)
        assert await echoed(stream, data) == Drained(len(data), sha256(data), "StreamEOF")
    async with far_host(IP6) as far, near_host(IP6) as near:
        await far.do("connect", address=addresses(near)[0])
        assert (await inbound(near, far.peer_id)).get_remote_address()[0] == "::1"
        assert await far.do("ping", peer=str(near.get_id()), count=1) == 1


async def test_several_listen_addresses() -> None:
    async with far_host(IP4, IP6, "/ip4/127.0.0.2/udp/0/quic-v1") as far:
        assert len(set(far.addresses)) == 3
        for address in far.info.addrs:
            async with near_host() as near:
                await near.connect(PeerInfo(far.peer_id, [address]))
                assert await PingService(near).ping(far.peer_id, 1)


@pytest.mark.parametrize("way", ["ours", "installed"])
async def test_identify_and_ping(way: str) -> None:
    async with far_host(transport=way) as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, IDENTIFY)
        told = parse_identify_response(await stream.read(BLOCK))
        await stream.close()
        assert ID.from_pubkey(near.get_peerstore().pubkey(far.peer_id)) == far.peer_id
        assert b"/test/echo" in b" ".join(each.encode() for each in told.protocols)
        assert len(await PingService(near).ping(far.peer_id, 3)) == 3
        assert await far.do("ping", peer=str(near.get_id()), count=3) == 3


async def test_installed_host_dials() -> None:
    async with far_host(transport="installed") as far, near_host(IP4) as near:
        await far.do("connect", address=addresses(near)[0])
        assert (await inbound(near, far.peer_id)).peer_id == far.peer_id


async def test_two_dials_at_once() -> None:
    """Both sides dial each other in the same moment; whatever connections result, they work."""
    async with far_host() as far, near_host(IP4) as near:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.connect, far.info)
            await far.do("connect", address=addresses(near)[0])
        assert await PingService(near).ping(far.peer_id, 2)
        assert await far.do("ping", peer=str(near.get_id()), count=2) == 2


async def test_inbound_slot_is_freed_when_a_connection_ends() -> None:
    async with far_host() as far, near_host(IP4) as near:
        limiter = swarm(near)._inbound_limiter
        for _ in range(3):
            await far.do("connect", address=addresses(near)[0])
            assert await eventually(lambda: limiter.borrowed_tokens == 1, 5)
            await swarm(near).close_peer(far.peer_id)
            await gone(near, far.peer_id)
            assert await eventually(lambda: limiter.borrowed_tokens == 0, 5)
            # The other side must have noticed too, or it would not dial again.
            while await far.do("connections"):
                await trio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_a_hundred_streams_of_a_mebibyte_each_way() -> None:
    received: dict[int, Drained] = {}
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)

        async def one(number: int) -> None:
            stream = await new_stream(near, far.peer_id, ECHO)
            received[number] = await echoed(stream, payload(number, MIB))
            await stream.close()

        with trio.fail_after(50):
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)
    expected = {number: Drained(MIB, sha256(payload(number, MIB)), "StreamEOF") for number in range(100)}
    assert received == expected
    assert len({each.sha256 for each in received.values()}) == 100
