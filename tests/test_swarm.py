"""What py-libp2p's swarm expects of a transport: limits and gates that apply before the application sees a
peer, and the addresses that identify sends.

Real hosts, in processes of their own where that matters. Addresses are in
test_swarm_addresses, dials that fail and peers that go in test_reconnect_and_resilience.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost, INetConn, INetStream, INetwork
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import PeerInfo
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, causes, explain
from libp2p_quic._host_events import Notifee
from libp2p_quic.exceptions import InvalidConfigError
from testkit.census import census, eventually
from testkit.far import FarError, far_host
from testkit.near import (
    IP4,
    addresses,
    connections_of,
    gone,
    inbound,
    leaves,
    near_host,
    near_transport,
    new_stream,
    swarm,
    transport_of,
)
from testkit.payload import BLOCK

HELLO = TProtocol("/test/hello")
PARK = "/test/park"


class Seen(Notifee):
    """Every notification about a peer."""

    def __init__(self, host: IHost) -> None:
        self.events: list[str] = []
        swarm(host).register_notifee(self)
        host.set_stream_handler(HELLO, self.hello)

    async def hello(self, stream: INetStream) -> None:
        self.events.append("stream")

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self.events.append("connected")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self.events.append("disconnected")

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        self.events.append("opened_stream")


@asynccontextmanager
async def host_with(*listen: str, **options: Any) -> AsyncIterator[IHost]:
    """A host with our transport and these options of `new_host`."""
    key_pair = create_new_key_pair()
    host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)], **options)
    async with host.run(listen_addrs=[Multiaddr(each) for each in listen]):
        yield host


async def is_refused(host: IHost, seen: Seen, dialer: QUICTransport, address: str) -> None:
    """The dialer's handshake may succeed; then its connection ends, and no notification was sent."""
    dialed = await dialer.dial(Multiaddr(address))
    with trio.fail_after(20):
        with pytest.raises(Exception, match="Connection is closed"):
            await dialed.accept_stream()
    assert seen.events == []
    assert swarm(host).get_total_connections() == 0
    # A connection without notification leaves nothing.
    assert await eventually(lambda: swarm(host)._inbound_limiter.borrowed_tokens == 0)
    assert await eventually(lambda: not connections_of(transport_of(host)))
    await dialer.close()


# Limits and gates


async def test_inbound_slots_are_freed_for_every_connection_of_a_peer() -> None:
    # Two inbound slots: py-libp2p reserves the minimum for its own dials.
    config = ConnectionConfig(
        max_connections=2, min_connections=0, low_watermark=0, high_watermark=2, max_connections_per_peer=2
    )
    async with host_with(IP4, connection_config=config) as host:
        for _ in range(5):
            dialer = near_transport()
            dialed = await dialer.dial(Multiaddr(addresses(host)[0]))
            stream = await dialed.open_stream()
            await stream.write(b"\x13/multistream/1.0.0\n")
            with trio.fail_after(20):
                assert (await stream.read(100)).startswith(b"\x13/multistream")
            await dialer.close()
            assert await eventually(lambda: swarm(host)._inbound_limiter.borrowed_tokens == 0)


async def test_inbound_slot_is_freed_when_a_connection_ends() -> None:
    async with far_host() as far, near_host(IP4) as near:
        limiter = swarm(near)._inbound_limiter
        for _ in range(3):
            await far.do("connect", address=addresses(near)[0])
            assert await eventually(lambda: limiter.borrowed_tokens == 1)
            await swarm(near).close_peer(far.peer_id)
            await gone(near, far.peer_id)
            assert await eventually(lambda: limiter.borrowed_tokens == 0)
            # The other side must have seen the end, too, or it would not dial again.
            while await far.do("connections"):
                await trio.lowlevel.checkpoint()


async def test_deny_list_holds_before_the_application_sees_the_peer() -> None:
    config = ConnectionConfig(deny_list=["127.0.0.0/8"])
    async with host_with(IP4, connection_config=config) as host:
        await is_refused(host, Seen(host), near_transport(), addresses(host)[0])


async def test_allow_list_holds_before_the_application_sees_the_peer() -> None:
    config = ConnectionConfig(allow_list=["192.0.2.1"])
    async with host_with(IP4, connection_config=config) as host:
        await is_refused(host, Seen(host), near_transport(), addresses(host)[0])


async def test_deny_list_holds_for_dials() -> None:
    async with (
        far_host() as far,
        host_with(connection_config=ConnectionConfig(deny_list=["127.0.0.1"])) as host,
    ):
        with pytest.raises(SwarmException, match="blocked by connection gate"):
            await host.connect(far.info)
        assert not connections_of(transport_of(host))


async def test_resource_manager_denies_before_the_application_sees_the_peer() -> None:
    # Graceful degradation is py-libp2p's own way of changing the limit.
    manager = ResourceManager(limits=ResourceLimits(max_connections=0), enable_graceful_degradation=False)
    async with host_with(IP4, resource_manager=manager) as host:
        await is_refused(host, Seen(host), near_transport(), addresses(host)[0])


async def test_resource_manager_gets_its_connection_back() -> None:
    manager = ResourceManager(limits=ResourceLimits(max_connections=1))
    async with host_with(IP4, resource_manager=manager) as host:
        for _ in range(3):
            dialer = near_transport()
            await dialer.dial(Multiaddr(addresses(host)[0]))
            assert await eventually(lambda: manager._current_connections == 1)
            await dialer.close()
            assert await eventually(lambda: manager._current_connections == 0)


async def test_resource_manager_denies_a_stream_before_the_application_sees_it() -> None:
    manager = ResourceManager(limits=ResourceLimits(), enable_graceful_degradation=False)
    async with far_host() as far, host_with(IP4, resource_manager=manager) as host:
        seen = Seen(host)
        await far.do("connect", address=addresses(host)[0])
        await inbound(host, far.peer_id)
        assert await eventually(lambda: manager._current_streams == 0)
        manager.limits.max_streams = 0
        before = list(seen.events)
        with pytest.raises(FarError) as denied:
            await far.do("open", peer=str(host.get_id()), protocol=HELLO, within=10)
        assert "StreamResetError" in denied.value.families()
        assert seen.events == before
        # The connection stays open.
        manager.limits.max_streams = 10
        await far.do("open", peer=str(host.get_id()), protocol=HELLO)
        assert await eventually(lambda: "stream" in seen.events)


async def test_resource_manager_gets_its_streams_back() -> None:
    """Closed, reset, or lost with their connection."""
    manager = ResourceManager(limits=ResourceLimits(), enable_graceful_degradation=False)
    async with far_host() as far, host_with(IP4, resource_manager=manager) as host:
        await host.connect(far.info)
        assert await eventually(lambda: manager._current_streams == 0)
        streams = [await new_stream(host, far.peer_id, PARK) for _ in range(3)]
        # The peer's identify may have a stream as well.
        assert await eventually(lambda: manager._current_streams == 3)
        await streams[0].close()
        assert await eventually(lambda: manager._current_streams == 2)
        await streams[1].reset()
        assert await eventually(lambda: manager._current_streams == 1)
        await far.kill()
        await swarm(host).close_peer(far.peer_id)
        assert await eventually(lambda: manager._current_streams == 0)


async def test_private_network_key_keeps_the_host_from_starting() -> None:
    key_pair = create_new_key_pair()
    psk = "/key/swarm/psk/1.0.0/\n/base16/\n" + "0" * 64
    host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)], psk=psk)
    with pytest.raises(BaseException) as refused:  # noqa: PT011 - trio wraps it in groups
        async with host.run(listen_addrs=[Multiaddr(IP4)]):
            pytest.fail("it runs")
    assert [type(each) for each in leaves(refused.value)] == [InvalidConfigError]
    assert causes(refused.value) == list(leaves(refused.value))
    assert explain(refused.value) == "QUIC cannot take part in a private network (psk): use TCP, or no psk"


async def test_a_transport_of_two_running_hosts_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    key_pair = create_new_key_pair()
    shared = QUICTransport(key_pair.private_key)

    def warnings() -> list[str]:
        return [each.getMessage() for each in caplog.records if "two hosts" in each.getMessage()]

    for _ in range(2):
        async with new_host(key_pair=key_pair, transports=[shared]).run(listen_addrs=[]):
            # The first host does not run any more when the second one starts.
            assert not warnings()
    shared = QUICTransport(key_pair.private_key)
    async with (
        new_host(key_pair=key_pair, transports=[shared]).run(listen_addrs=[]),
        new_host(key_pair=key_pair, transports=[shared]).run(listen_addrs=[]),
    ):
        (warning,) = warnings()
        assert "make one QUICTransport for each host" in warning


# Identify


async def test_identify_sends_usable_addresses() -> None:
    async with far_host(IP4, "/ip4/0.0.0.0/udp/0/quic-v1") as far, near_host(IP4) as near:
        loopback = [each for each in far.info.addrs if "/127.0.0.1/" in str(each)]
        await near.connect(PeerInfo(far.peer_id, loopback))
        stream = await near.new_stream(far.peer_id, [IDENTIFY])
        answer = b""
        with suppress(StreamEOF):
            while True:
                answer += await stream.read(BLOCK)
        identify = parse_identify_response(answer)
        await stream.close()
        listening = {str(Multiaddr(each)) for each in identify.listen_addrs}
        assert listening == {each.split("/p2p/")[0] for each in far.addresses}
        assert len(listening) >= 2
        assert not any("/0.0.0.0/" in each for each in listening)
        for each in listening:
            dialer = near_transport()
            assert (await dialer.dial(Multiaddr(each))).peer_id == far.peer_id
            await dialer.close()
        # py-libp2p writes "tcp" whatever the transport; address and port are where we listen.
        observed = Multiaddr(identify.observed_addr)
        (ours,) = transport_of(near)._listeners[0].get_addrs()
        assert observed.value_for_protocol("ip4") == ours.value_for_protocol("ip4")
        assert observed.value_for_protocol("tcp") == ours.value_for_protocol("udp")


async def test_a_host_that_only_dialed_closes_its_socket() -> None:
    """py-libp2p does not close its transports at the end of a host's run."""
    async with near_host(IP4) as listener:
        before = census()
        for _ in range(3):
            async with near_host() as dialer:
                await dialer.connect(PeerInfo(listener.get_id(), listener.get_addrs()))
        assert await eventually(lambda: not census().beyond(before)), census().beyond(before)
