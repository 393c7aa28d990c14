"""What a host behind a router tells about itself, and what AutoNAT tells it: real hosts of one process, each
with its sockets in a network namespace of the NAT laboratory. Needs root.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from libp2p.abc import IHost
from libp2p.host.autonat.autonat import AutoNATService, AutoNATStatus
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import enable_hole_punching
from testkit.census import eventually
from testkit.near import near_host, new_stream
from tools.nat.network import PORTS, ROUTERS, Town, missing, town

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# py-libp2p believes an observed address once four peers with different addresses have told it, and
# AutoNAT's verdict of as many servers.
_OBSERVERS = 4


async def observers(where: Town, stack: AsyncExitStack) -> list[IHost]:
    """Hosts with public addresses that serve identify and AutoNAT."""
    machine = where.relay.machine
    for number in range(1, _OBSERVERS):
        machine.ip(f"addr add 11.0.1.{number + 2}/24 dev wan")
    found = []
    with machine.entered():
        for number in range(_OBSERVERS):
            listen = f"/ip4/11.0.1.{number + 2}/udp/4001/quic-v1"
            host = await stack.enter_async_context(near_host(listen))
            enable_hole_punching(host)
            AutoNATService(host)  # type: ignore[arg-type]
            found.append(host)
    return found


@asynccontextmanager
async def observed(kind: str) -> AsyncIterator[tuple[IHost, list[IHost]]]:
    """A host behind a router of this kind, connected to the observers, and those.

    Routes are those of the machine that this thread is in: the host's while it dials, then the observers',
    as AutoNAT dials back.
    """
    with town((kind, "none")) as where:
        async with AsyncExitStack() as stack:
            others = await observers(where, stack)
            with where.homes[0].machine.entered():
                home = await stack.enter_async_context(near_host(where.homes[0].listen))
                enable_hole_punching(home)
                for each in others:
                    await home.connect(PeerInfo(each.get_id(), list(each.get_addrs())))
            with where.relay.machine.entered():
                yield home, others


async def told_by_identify(asking: IHost, peer: ID) -> list[Multiaddr]:
    """The listening addresses that ``peer`` tells."""
    stream = await new_stream(asking, peer, IDENTIFY)
    answer = b""
    with suppress(StreamEOF):
        while True:
            answer += await stream.read(65_536)
    return [Multiaddr(each) for each in parse_identify_response(answer).listen_addrs]


@pytest.mark.parametrize("kind", ["drop", "forwarded"])
async def test_the_outer_address_is_advertised_once_enough_peers_observe_it(kind: str) -> None:
    async with observed(kind) as (home, others):
        outer = Multiaddr(f"/ip4/{ROUTERS[0]}/udp/{PORTS[0]}/quic-v1")
        advertised = outer.encapsulate(Multiaddr(f"/p2p/{home.get_id()}"))
        assert await eventually(lambda: advertised in home.get_addrs())
        # No TCP address is made of what was observed over UDP.
        assert not [each for each in home.get_addrs() if "/tcp/" in str(each)]
        told = await told_by_identify(others[0], home.get_id())
        assert any(str(each).startswith(str(outer)) for each in told)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("drop", AutoNATStatus.PRIVATE),
        ("symmetric", AutoNATStatus.PRIVATE),
        ("forwarded", AutoNATStatus.PUBLIC),
        ("none", AutoNATStatus.PUBLIC),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_autonat_tells_whether_a_host_can_be_dialed(kind: str, status: int) -> None:
    async with observed(kind) as (home, others):
        if kind in ("drop", "forwarded"):
            outer = f"/ip4/{ROUTERS[0]}/udp/"
            assert await eventually(lambda: any(outer in str(each) for each in home.get_addrs()))
        client = AutoNATService(home, serve=False)  # type: ignore[arg-type]
        assert await client.check_reachability([each.get_id() for each in others]) == status
        # The servers' own connections are the only ones: nothing of the dials back is in a swarm.
        assert all(len(each.get_network().get_connections(home.get_id())) == 1 for each in others)
