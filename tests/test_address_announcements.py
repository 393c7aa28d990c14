"""A host tells its peers when its machine gets or loses an address: in network namespaces, whose tests need
root.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr
from trio.testing import wait_all_tasks_blocked

from libp2p_quic import enable_hole_punching
from testkit.address_changes import address_changes
from testkit.census import eventually
from testkit.far import FarHost, far_host
from testkit.known_addresses import has_address
from testkit.machines import Machine, machines
from testkit.near import IP4, near_host

WILDCARD = "/ip4/0.0.0.0/udp/4001/quic-v1"


@contextmanager
def laptop_and_peer() -> Iterator[tuple[Machine, Machine]]:
    with machines(2) as (laptop, peer):
        laptop.link("eth0", peer, "eth0")
        laptop.ip("addr add 10.81.1.1/24 dev eth0")
        peer.ip("addr add 10.81.1.2/24 dev eth0")
        yield laptop, peer


@asynccontextmanager
async def connected(laptop: Machine, peer: Machine, transport: str) -> AsyncIterator[tuple[FarHost, FarHost]]:
    async with (
        far_host(WILDCARD, transport=transport, machine=laptop) as moving,
        far_host(WILDCARD, machine=peer) as other,
    ):
        await other.do("connect", address=f"/ip4/10.81.1.1/udp/4001/quic-v1/p2p/{moving.peer}")
        # Identified: it knows the address, and that the peer takes pushes.
        assert await other.do("known", peer=moving.peer, address="/ip4/10.81.1.1/udp/4001", is_known=True)
        assert await moving.do("known", peer=other.peer, address="/ip4/10.81.1.2/udp/4001", is_known=True)
        yield moving, other


@pytest.mark.slow
async def test_a_peer_learns_of_addresses_that_come_and_go() -> None:
    with laptop_and_peer() as (laptop, peer):
        async with connected(laptop, peer, "punching") as (moving, other):
            for number in (7, 8):
                address = f"/ip4/10.81.{number}.1/udp/4001"
                for action, is_known in (("add", True), ("del", False)):
                    laptop.ip(f"addr {action} 10.81.{number}.1/24 dev eth0")
                    began = trio.current_time()
                    assert await other.do("known", peer=moving.peer, address=address, is_known=is_known)
                    print(f"{action}: told after {trio.current_time() - began:.2f} s")
            # What did not change is still known.
            assert await other.do("known", peer=moving.peer, address="/ip4/10.81.1.1/udp/4001", is_known=True)


@pytest.mark.slow
async def test_addresses_that_come_together_are_told_once() -> None:
    with laptop_and_peer() as (laptop, peer):
        async with connected(laptop, peer, "punching") as (moving, other):
            before = await other.do("pushes")
            batch = "\n".join(f"addr add 10.82.{number}.1/24 dev eth0" for number in range(1, 21))
            laptop.run("ip -batch -", batch)
            for number in (1, 20):
                address = f"/ip4/10.82.{number}.1/udp/4001"
                assert await other.do("known", peer=moving.peer, address=address, is_known=True)
            # Not one for each; `ip` itself may be interrupted for longer than the announcement waits.
            assert 1 <= await other.do("pushes") - before <= 3


async def test_the_watch_begins_with_a_listener_and_ends_with_the_undo() -> None:
    async with near_host() as host:
        enabled = enable_hole_punching(host)
        assert _watches() == 0
        await host.get_network().listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))
        await host.get_network().listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))
        await wait_all_tasks_blocked()
        assert _watches() == 1
        enabled.undo()
        await wait_all_tasks_blocked()
        assert _watches() == 0
        # A host that listens already.
        enable_hole_punching(host)
        await wait_all_tasks_blocked()
        assert _watches() == 1
    assert _watches() == 0


async def test_a_system_without_netlink_is_served_without_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on macOS.
    monkeypatch.delattr(socket, "AF_NETLINK")
    async with near_host() as host:
        enable_hole_punching(host)
        address = Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
        await host.get_network().listen(address)
        await wait_all_tasks_blocked()
        assert _watches() == 0
        async with near_host("/ip4/127.0.0.1/udp/0/quic-v1") as other:
            await host.connect(info_from_p2p_addr(other.get_addrs()[0]))


async def test_an_addrs_factory_that_raises_does_not_end_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def fail(_: list[Multiaddr]) -> list[Multiaddr]:
        raise LookupError("no interface eth0")

    with address_changes(monkeypatch) as change:
        async with near_host(IP4) as host, near_host(IP4) as other:
            await host.connect(info_from_p2p_addr(other.get_addrs()[0]))
            enable_hole_punching(host)
            anything: Any = host
            assert await eventually(lambda: other.get_id() in anything._identified_peers)
            assert ID_PUSH in host.get_peerstore().get_protocols(other.get_id())
            anything._addrs_factory = fail
            change()
            assert await eventually(lambda: "the host's addresses are unknown" in caplog.text)
            new = Multiaddr("/ip4/11.0.2.2/udp/4001/quic-v1")
            anything._addrs_factory = lambda _: [new]
            change()
            assert await eventually(lambda: has_address(other, host.get_id(), str(new)))


def _watches() -> int:
    """Tasks that watch addresses."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, found = [root], 0
    while waiting:
        task = waiting.pop()
        found += "AddressAnnouncer._watch" in task.name
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return found
