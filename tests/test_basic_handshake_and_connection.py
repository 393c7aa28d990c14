"""Two py-libp2p hosts, each in its own process, connect over this transport.

Handshakes in both directions, over IPv4 and IPv6, and the host's protocols on a connection. Peer ids are in
test_identity_and_peer_id_validation.
"""

from __future__ import annotations

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.quic.exceptions import QUICConnectionClosedError

from libp2p_quic import QUICConnection, QUICListener
from libp2p_quic._addr import to_multiaddr
from testkit.census import eventually
from testkit.far import far_host
from testkit.linked import linked, listening, transport_behind
from testkit.near import (
    IP4,
    IP6,
    addresses,
    connection,
    inbound,
    near_host,
    new_stream,
)
from testkit.payload import BLOCK, Drained, echoed, payload, sha256

ECHO = TProtocol("/test/echo")


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
        identify = parse_identify_response(await stream.read(BLOCK))
        await stream.close()
        assert ID.from_pubkey(near.get_peerstore().pubkey(far.peer_id)) == far.peer_id
        assert b"/test/echo" in b" ".join(each.encode() for each in identify.protocols)
        assert len(await PingService(near).ping(far.peer_id, 3)) == 3
        assert await far.do("ping", peer=str(near.get_id()), count=3) == 3


async def test_installed_host_dials() -> None:
    async with far_host(transport="installed") as far, near_host(IP4) as near:
        await far.do("connect", address=addresses(near)[0])
        assert (await inbound(near, far.peer_id)).peer_id == far.peer_id


async def test_two_dials_at_once() -> None:
    """Both sides dial each other at the same time; every connection that results works."""
    async with far_host() as far, near_host(IP4) as near:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.connect, far.info)
            await far.do("connect", address=addresses(near)[0])
        assert await PingService(near).ping(far.peer_id, 2)
        assert await far.do("ping", peer=str(near.get_id()), count=2) == 2


async def test_two_dials_that_cross_on_one_pair_of_sockets_are_two_connections() -> None:
    """Both dial from their listening socket before either has received a packet: one four-tuple."""
    async with (
        listening() as (one, from_other),
        listening() as (other, from_one),
    ):
        dialed: dict[QUICListener, QUICConnection] = {}

        async def dial(listener: QUICListener, peer: QUICListener) -> None:
            dialed[listener] = await transport_behind(listener).dial(peer.get_addrs()[0])

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dial, one, other)
                nursery.start_soon(dial, other, one)
            accepted = {one: await from_one.receive(), other: await from_other.receive()}
            for listener in (one, other):
                near, far = dialed[listener], accepted[listener]
                assert to_multiaddr(*far.get_remote_address()) == listener.get_addrs()[0]
                stream = await near.open_stream()
                await stream.write(b"mine")
                heard = await far.accept_stream()
                assert await heard.read(4) == b"mine"
            # The end of one is not the end of the other.
            await dialed[one].close()
            stream = await dialed[other].open_stream()
            await stream.write(b"still")
            heard = await accepted[other].accept_stream()
            assert await heard.read(5) == b"still"


async def test_both_ends_report_the_same_connection() -> None:
    async with linked() as link:
        assert link.dialed.is_initiator
        assert not link.accepted.is_initiator
        (listening,) = link.listener.get_addrs()
        assert to_multiaddr(*link.dialed.get_remote_address()) == listening
        assert link.dialed.peer_id != link.accepted.peer_id
        for end in (link.dialed, link.accepted):
            assert end.is_established
            assert not end.is_closed


async def test_a_nursery_is_there_for_a_handler_only() -> None:
    async with linked() as link:
        # Each keeper is running once it waits for the end.
        await trio.testing.wait_all_tasks_blocked()
        for end, nurseries in ((link.dialed, 0), (link.accepted, 1)):
            assert end._keeper is not None
            assert len(end._keeper.child_nurseries) == nurseries


@pytest.mark.parametrize("closer", ["dialer", "listener"])
async def test_closing_one_end_closes_the_other(closer: str) -> None:
    async with linked() as link:
        here, there = link.dialed, link.accepted
        if closer == "listener":
            here, there = there, here
        await here.close()
        assert here.is_closed
        with trio.fail_after(20), pytest.raises(QUICConnectionClosedError, match="Connection is closed"):
            await there.accept_stream()
        assert await eventually(lambda: there.is_closed and not there.is_established)
