"""py-libp2p's TransportManager chooses transports by address, ours for QUIC addresses.

The real manager, alone and inside of hosts that have several transports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.transport.manager import TransportManager
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICTransport
from testkit.far import far_host
from testkit.near import IP4, IP6, addresses, answers, installed, near_host, near_transport, swarm

PEER = ID.from_pubkey(create_new_key_pair().public_key)


@pytest.fixture(name="installed")
def with_install() -> Iterator[None]:
    with installed():
        yield


@asynccontextmanager
async def mixed(*listen: str) -> AsyncIterator[IHost]:
    """A host whose transports py-libp2p chooses by its addresses, as in most programs."""
    maddrs = [Multiaddr(each) for each in listen]
    host = new_host(key_pair=create_new_key_pair(), enable_quic=True, listen_addrs=maddrs)
    async with host.run(listen_addrs=maddrs):
        yield host


ON_WS = "/ip4/127.0.0.1/tcp/0/ws"


ON_TCP = "/ip4/127.0.0.1/tcp/0"


@pytest.mark.slow
@pytest.mark.parametrize(
    "listen", [(IP4, ON_TCP), (IP4, ON_WS), (IP4, ON_TCP, ON_WS)], ids=["tcp", "ws", "all"]
)
async def test_every_address_of_a_host_on_several_transports_is_served(listen: tuple[str, ...]) -> None:
    """In processes of their own: py-libp2p's TCP leaves sockets unclosed."""
    async with far_host(*listen, transport="installed") as host:
        assert len(host.addresses) == len(listen)
        for address in host.addresses:
            async with far_host(*listen, transport="installed") as other:
                await other.do("connect", address=address)
                assert await other.do("ping", peer=host.peer, count=1) == 1


async def test_every_quic_address_of_a_host_is_served() -> None:
    listen = (IP4, IP6, "/ip4/127.0.0.2/udp/0/quic-v1", "/ip4/127.0.0.1/udp/0/quic")
    async with near_host(*listen) as host:
        assert len(addresses(host)) == len(listen)
        for address in addresses(host):
            assert await answers(address, host.get_id())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "text",
    [
        f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit",
        f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit/p2p/{PEER}",
        "/ip4/127.0.0.1/udp/4001/webrtc-direct",
        "/ip4/127.0.0.1/udp/4001",
    ],
    ids=["relay", "relayed", "webrtc", "udp"],
)
async def test_other_addresses_are_left_to_other_transports(text: str) -> None:
    async with mixed(IP4, ON_TCP) as host:
        manager = swarm(host).transport_manager
        for found in (manager.transport_for_dialing, manager.transport_for_listening):
            assert not isinstance(found(Multiaddr(text)), QUICTransport)


# The manager alone


def managed(*transports: object) -> TransportManager:
    manager = TransportManager()
    manager.add_transports(list(transports))  # type: ignore[arg-type]
    return manager


@pytest.mark.parametrize("is_first", [True, False])
def test_each_address_goes_to_its_transport_in_any_order(is_first: bool) -> None:
    ours, tcp = near_transport(), TCP()
    manager = managed(ours, tcp) if is_first else managed(tcp, ours)
    for text, expected in ((IP4, ours), (IP6, ours), ("/ip4/127.0.0.1/tcp/4001", tcp)):
        assert manager.transport_for_dialing(Multiaddr(text)) is expected
        assert manager.transport_for_listening(Multiaddr(text)) is expected
    # py-libp2p sorts them: TCP has 0.
    assert manager.get_transports() == [tcp, ours]


def test_a_name_is_dialed_by_ours_and_cannot_be_listened_on() -> None:
    manager = managed(near_transport())
    named = Multiaddr("/dns4/localhost/udp/4001/quic-v1")
    assert manager.has_transport_for(named)
    assert manager.transport_for_listening(named) is None


def test_a_version_that_is_turned_off_has_no_transport() -> None:
    manager = managed(near_transport(enable_draft29=False))
    assert manager.has_transport_for(Multiaddr("/ip4/127.0.0.1/udp/4001/quic-v1"))
    assert not manager.has_transport_for(Multiaddr("/ip4/127.0.0.1/udp/4001/quic"))


async def test_a_listener_of_the_manager_accepts_a_dial_of_the_manager() -> None:
    listening, dialing = managed(near_transport()), managed(near_transport())
    arrived, connections = trio.open_memory_channel[QUICConnection](1)
    listener = listening.add_listen_addr(Multiaddr(IP4), arrived.send)  # type: ignore[arg-type]
    assert isinstance(listener, QUICListener)
    await listener.listen(Multiaddr(IP4))
    (address,) = listener.get_addrs()
    transport = dialing.transport_for_dialing(address)
    assert isinstance(transport, QUICTransport)
    dialed = await transport.dial(address)
    accepted = await connections.receive()
    assert dialed.get_remote_address()[1] == int(address.value_for_protocol("udp") or 0)
    assert accepted.get_remote_address()[0] == "127.0.0.1"
    # The swarm closes its transports through the manager.
    await listening.close_all()
    await dialing.close_all()
    assert not listener.is_listening()
    assert dialed.is_closed
    assert accepted.is_closed


# Inside of a host


@pytest.mark.usefixtures("installed")
async def test_a_host_has_ours_once_besides_tcp_with_its_swarm() -> None:
    async with mixed(IP4, ON_TCP) as host:
        found = swarm(host).transport_manager.get_transports()
        (ours,) = (each for each in found if isinstance(each, QUICTransport))
        assert any(isinstance(each, TCP) for each in found)
        # The manager passed both on when the swarm started.
        assert ours._gates.swarm is swarm(host)
        assert ours._background_nursery is swarm(host).background_nursery
