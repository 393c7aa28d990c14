"""Which socket a dial leaves from, and which addresses it does not try: in network namespaces with real
interfaces and routes. Needs root; otherwise each test is skipped with the reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport
from libp2p_quic._addr import to_multiaddr
from libp2p_quic.exceptions import DialError, UnreachableError
from testkit.machines import Machine, machines
from testkit.near import near_transport

# A refusal is immediate; the handshake timeout is 10 s.
SOON = 5.0


@dataclass
class Net:
    """Two machines on the network "two"; the near one is also on "one", which has no other machine."""

    near: Machine
    far: Machine
    ipv6: bool

    def host(self, network: int, number: int) -> str:
        return f"fd71:{network}::{number}" if self.ipv6 else f"10.71.{network}.{number}"

    def address(self, machine: Machine, action: str, network: int, number: int, device: str) -> None:
        length = "64 nodad" if self.ipv6 else "24"
        if action == "del":
            length = length.split()[0]
        machine.ip(f"addr {action} {self.host(network, number)}/{length} dev {device}")

    def resolve(self, name: str) -> str:
        """An address of the near machine: by network and number, or a fixed one."""
        fixed = {"any": ("0.0.0.0", "::"), "loopback": ("127.0.0.1", "::1")}
        if name in fixed:
            return fixed[name][self.ipv6]
        network, number = name.split(".")
        return self.host(int(network), int(number))


@pytest.fixture(params=["ipv4", "ipv6"])
def net(request: pytest.FixtureRequest) -> Iterator[Net]:
    with machines(2) as (near, far):
        near.link("one", near, "nobody")
        near.link("two", far, "two")
        made = Net(near, far, request.param == "ipv6")
        made.address(near, "add", 1, 1, "one")
        # The system prefers the first one.
        for number in (1, 9):
            made.address(near, "add", 2, number, "two")
        made.address(near, "add", 3, 1, "two")
        made.address(far, "add", 2, 2, "two")
        made.address(far, "add", 4, 2, "two")
        if made.ipv6:
            # Of several addresses the system prefers the latest (RFC 6724), and not this one.
            near.ip(f"addr change {made.host(2, 9)}/64 dev two preferred_lft 0")
        yield made


@asynccontextmanager
async def listening_far(net: Net, network: int = 2) -> AsyncIterator[tuple[Multiaddr, list[tuple[str, int]]]]:
    """The far machine's address, and where its connections came from."""
    transport, seen = near_transport(), list[tuple[str, int]]()

    async def note(accepted: object) -> None:
        seen.append(accepted.get_remote_address())  # type: ignore[attr-defined]

    listener = transport.create_listener(note)
    with net.far.entered():
        await listener.listen(to_multiaddr(net.host(network, 2), 0))
    yield listener.get_addrs()[0], seen
    await transport.close()


async def listen(net: Net, transport: QUICTransport, name: str) -> int:
    """Listen on an address of the near machine; returns the port."""
    listener = transport.create_listener(lambda accepted: accepted.start())
    with net.near.entered():
        await listener.listen(to_multiaddr(net.resolve(name), 0))
    assert listener._socket is not None
    return listener._socket.engine.local_address[1]


async def dialed_from(net: Net, transport: QUICTransport, network: int = 2) -> tuple[str, int]:
    """The source address of a dial, as the far machine sees it."""
    async with listening_far(net, network) as (address, seen):
        with trio.fail_after(10), net.near.entered():
            await transport.dial(address)
            while not seen:
                await trio.lowlevel.checkpoint()
        return seen[0]


@pytest.mark.parametrize(
    ("listeners", "source", "from_listener"),
    [
        pytest.param(["2.1", "1.1"], "2.1", 0, id="the right one was bound first"),
        pytest.param(["1.1", "2.1"], "2.1", 1, id="the right one was bound second"),
        pytest.param(["1.1"], "2.1", None, id="only another network's"),
        pytest.param(["any"], "2.1", 0, id="the wildcard"),
        pytest.param(["1.1", "any"], "2.1", 1, id="another network's and the wildcard"),
        pytest.param(["any", "2.1"], "2.1", 1, id="the wildcard and the right one"),
        pytest.param(["loopback"], "2.1", None, id="only the loopback"),
        pytest.param(["loopback", "1.1"], "2.1", None, id="the loopback and another network's"),
        pytest.param([], "2.1", None, id="none"),
        # Peers see the address that they can dial back, and a NAT keeps one mapping.
        pytest.param(["2.9"], "2.9", 0, id="another address of the same network"),
        pytest.param(["2.9", "2.1"], "2.1", 1, id="both addresses of the same network"),
        pytest.param(["3.1"], "2.1", None, id="another network's on the same interface"),
    ],
)
async def test_a_dial_leaves_from_a_socket_that_can_reach_the_peer(
    net: Net, listeners: list[str], source: str, from_listener: int | None
) -> None:
    dialer = near_transport()
    ports = [await listen(net, dialer, each) for each in listeners]
    host, port = await dialed_from(net, dialer)
    assert host == net.resolve(source)
    if from_listener is None:
        assert port not in ports
    else:
        assert port == ports[from_listener]
    await dialer.close()


async def test_a_listener_whose_address_is_gone_is_not_dialed_from_until_it_is_back(net: Net) -> None:
    dialer = near_transport()
    port = await listen(net, dialer, "2.9")
    assert await dialed_from(net, dialer) == (net.host(2, 9), port)
    net.address(net.near, "del", 2, 9, "two")
    host, other = await dialed_from(net, dialer)
    assert (host, other == port) == (net.host(2, 1), False)
    net.address(net.near, "add", 2, 9, "two")
    if net.ipv6:
        net.near.ip(f"addr change {net.host(2, 9)}/64 dev two preferred_lft 0")
    assert await dialed_from(net, dialer) == (net.host(2, 9), port)
    await dialer.close()


async def test_the_only_address_of_a_network_is_taken_away_and_another_comes(net: Net) -> None:
    dialer = near_transport()
    port = await listen(net, dialer, "2.1")
    net.address(net.near, "del", 2, 1, "two")
    if net.ipv6:
        net.near.ip(f"addr change {net.host(2, 9)}/64 dev two preferred_lft forever")
    else:
        # Linux takes the secondary addresses of an IPv4 network along with the first.
        net.address(net.near, "add", 2, 9, "two")
    host, other = await dialed_from(net, dialer)
    assert (host, other == port) == (net.host(2, 9), False)
    await dialer.close()


async def test_an_address_that_comes_later_is_dialed_from(net: Net) -> None:
    dialer = near_transport()
    await listen(net, dialer, "2.1")
    with net.near.entered(), pytest.raises(UnreachableError, match="no route"):
        await dialer.dial(to_multiaddr(net.host(4, 2), 4001))
    net.address(net.near, "add", 4, 1, "two")
    host, _ = await dialed_from(net, dialer, network=4)
    assert host == net.host(4, 1)
    # And from there, once the host listens on it.
    port = await listen(net, dialer, "4.1")
    assert await dialed_from(net, dialer, network=4) == (net.host(4, 1), port)
    await dialer.close()


UNREACHABLE = [
    "255.255.255.255",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "0.0.0.0",
    "0.1.2.3",
    # The broadcast address of a network, and routes that refuse.
    "10.71.2.255",
    "10.72.1.1",
    "10.72.2.1",
    "10.72.3.1",
    "203.0.113.1",
    "ff02::1",
    "ff0e::1",
    "::",
    "fe80::1",
    "2001:db8::1",
    "fd72:1::1",
    "fd72:2::1",
    "fd72:3::1",
    "::ffff:255.255.255.255",
    "::ffff:224.0.0.1",
    "::ffff:240.0.0.1",
    "::ffff:203.0.113.1",
]


async def test_unreachable_addresses_fail_at_once_with_the_reason() -> None:
    with machines(2) as (near, far):
        near.link("two", far, "two")
        near.ip("addr add 10.71.2.1/24 brd + dev two")
        near.ip("addr add fd71:2::1/64 dev two nodad")
        for number, kind in enumerate(("unreachable", "prohibit", "blackhole"), 1):
            near.ip(f"route add {kind} 10.72.{number}.0/24")
            near.ip(f"-6 route add {kind} fd72:{number}::/64")
        dialer, peer = near_transport(), near_transport()._peer_id
        for host in UNREACHABLE:
            maddr = Multiaddr(f"/ip{6 if ':' in host else 4}/{host}/udp/4001/quic-v1/p2p/{peer}")
            with trio.fail_after(SOON), near.entered(), pytest.raises(UnreachableError) as caught:
                await dialer.dial(maddr)
            assert host.removeprefix("::ffff:") in str(caught.value)
        await dialer.close()


async def test_a_link_local_address_is_dialed_by_its_zone() -> None:
    with machines(2) as (near, far):
        near.link("two", far, "two")
        peer, dialer = near_transport(), near_transport()
        listener = peer.create_listener(lambda accepted: accepted.start())
        with far.entered():
            await listener.listen(Multiaddr("/ip6/::/udp/0/quic-v1"))
        assert listener._socket is not None
        host, port = far.link_local("two"), listener._socket.engine.local_address[1]
        rest = f"ip6/{host}/udp/{port}/quic-v1/p2p/{peer._peer_id}"
        with near.entered(), trio.fail_after(5):
            dialed = await dialer.dial(Multiaddr(f"/ip6zone/two/{rest}"))
            assert dialed.get_remote_address() == (host, port)
            assert dialed.get_transport_addresses() == [Multiaddr(f"/{rest}")]
            with pytest.raises(UnreachableError, match="/ip6zone/eth0 before it"):
                await dialer.dial(Multiaddr(f"/{rest}"))
            with pytest.raises(DialError, match="no such interface"):
                await dialer.dial(Multiaddr(f"/ip6zone/three/{rest}"))
            with pytest.raises(UnreachableError):
                await dialer.dial(Multiaddr(f"/ip6zone/999/{rest}"))
        await dialer.close()
        await peer.close()
