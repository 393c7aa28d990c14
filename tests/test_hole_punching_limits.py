"""What peers may cost a host that punches holes: dials to addresses that they name, upgrades, AutoNAT."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest
import trio
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.autonat.autonat import AutoNATService
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from libp2p.rcmgr.cidr_limits import CIDRLimiter
from libp2p.rcmgr.manager import new_resource_manager
from multiaddr import Multiaddr
from trio.testing import MockClock, wait_all_tasks_blocked

from libp2p_quic import enable_hole_punching
from libp2p_quic._addr import QUICAddress
from libp2p_quic._hole_punching._dial_limit import DialLimit
from libp2p_quic._hole_punching._upgrade import Upgrades
from testkit.census import PATIENCE, eventually
from testkit.near import IP4, connected_hosts, connections_of, near_host, quic, swarm, transport_of


def new_peer() -> ID:
    return ID.from_pubkey(create_new_key_pair().public_key)


@contextmanager
def mute() -> Iterator[tuple[socket.socket, Multiaddr]]:
    """A socket that answers nothing, and its address."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        yield silent, quic("{}|{}".format(*silent.getsockname()))[0]


@asynccontextmanager
async def upgrading() -> AsyncIterator[tuple[IHost, Upgrades]]:
    """A host that punches holes, and its upgrades."""
    async with near_host(IP4) as host:
        enable_hole_punching(host)
        (upgrades,) = (each for each in swarm(host).notifees if isinstance(each, Upgrades))
        yield host, upgrades


# Dials to addresses that peers name


async def test_32_addresses_are_dialed_at_once_and_sixteen_of_each_peer() -> None:
    limit, peers = DialLimit(), [new_peer() for _ in range(3)]
    with ExitStack() as running:

        def admitted(peer: ID, *wanted: int) -> list[int]:
            return [running.enter_context(limit.admitted(peer, each)) for each in wanted]

        assert admitted(peers[0], 8, 8, 8) == [8, 8, 0]
        # Part of a list is dialed, too.
        assert admitted(peers[1], 8, 5, 8) == [8, 5, 3]
        assert admitted(peers[2], 8) == [0]
    with limit.admitted(peers[2], 8) as count:
        assert count == 8


async def test_128_addresses_are_dialed_in_a_burst_and_sixty_in_a_minute(mock_clock: MockClock) -> None:
    limit = DialLimit()

    def count() -> int:
        """How many addresses are admitted now, one dial after the other."""
        admitted = 0
        while True:
            with limit.admitted(new_peer(), 8) as more:
                if not more:
                    return admitted
            admitted += more

    assert [count(), count()] == [128, 0]
    mock_clock.jump(2.5)
    assert count() == 2
    mock_clock.jump(3600)
    assert count() == 128


async def test_four_peers_with_eight_addresses_may_be_upgraded_at_once(mock_clock: MockClock) -> None:
    """A dial without a punch, and three attempts of 5 s each."""
    limit, peers = DialLimit(), [new_peer() for _ in range(4)]
    for _ in range(4):
        with ExitStack() as running:
            assert [running.enter_context(limit.admitted(each, 8)) for each in peers] == [8] * 4
        mock_clock.jump(5)


async def test_a_third_dial_to_a_peer_is_not_made() -> None:
    peer = new_peer()
    with ExitStack() as silent:
        addresses = [silent.enter_context(mute())[1] for _ in range(8)]
        named = [QUICAddress.parse(each.encapsulate(Multiaddr(f"/p2p/{peer}"))) for each in addresses]
        async with upgrading() as (_, upgrades), trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(upgrades._dial, peer, named)
            await wait_all_tasks_blocked()
            # It returns at once: the others last for 5 s.
            await upgrades._dial(peer, named)
            assert len(nursery.child_tasks) == 2
            nursery.cancel_scope.cancel()


async def test_a_dial_goes_to_the_addresses_that_the_limit_admits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._dial_limit.AT_ONCE", 1)
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade.LIMIT", 1.0)
    peer = new_peer()
    with mute() as (first, address), mute() as (second, other):
        named = [QUICAddress.parse(each.encapsulate(Multiaddr(f"/p2p/{peer}"))) for each in (address, other)]
        async with upgrading() as (_, upgrades):
            await upgrades._dial(peer, named)
        first.setblocking(False)
        second.setblocking(False)
        assert first.recv(2048)
        with pytest.raises(BlockingIOError):
            second.recv(2048)


async def test_a_connection_that_the_swarm_refuses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upgrading() as (near, upgrades), near_host(IP4) as far:
        monkeypatch.setattr(swarm(near).connection_config, "max_connections", 0)
        await upgrades._dial(far.get_id(), list(map(QUICAddress.parse, far.get_addrs())))
        assert not swarm(near).get_connections(far.get_id())
        assert await eventually(lambda: not connections_of(transport_of(near)))


async def test_a_connection_that_the_swarm_does_not_take_in_time_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def wait(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async with upgrading() as (near, upgrades), near_host(IP4) as far:
        monkeypatch.setattr(swarm(near), "add_conn", wait)
        monkeypatch.setattr(swarm(near).connection_config, "outbound_upgrade_timeout", 0.01)
        with trio.fail_after(PATIENCE):
            await upgrades._dial(far.get_id(), list(map(QUICAddress.parse, far.get_addrs())))
        assert await eventually(lambda: not connections_of(transport_of(near)))


async def test_the_swarms_gate_is_asked_before_a_punch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic.hole_punching")
    asked: list[Multiaddr] = []

    async def deny(maddr: Multiaddr) -> bool:
        asked.append(maddr)
        return False

    async with upgrading() as (host, upgrades), trio.open_nursery() as nursery:
        monkeypatch.setattr(swarm(host).connection_gate, "is_allowed", deny)
        peer = new_peer()
        nursery.start_soon(upgrades.serve, peer, [QUICAddress.of_peer("11.0.3.2", 4001, peer)])
        assert await eventually(lambda: "did not punch to" in caplog.text)
        nursery.cancel_scope.cancel()
    assert asked == quic("11.0.3.2|4001")


async def test_the_limits_for_networks_are_asked_before_a_punch(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic.hole_punching")
    manager = new_resource_manager()
    manager.cidr_limiter = CIDRLimiter([("11.0.3.2/32", 0)])
    async with upgrading() as (host, upgrades), trio.open_nursery() as nursery:
        swarm(host).set_resource_manager(manager)
        peer = new_peer()
        nursery.start_soon(upgrades.serve, peer, [QUICAddress.of_peer("11.0.3.2", 4001, peer)])
        assert await eventually(lambda: "did not punch to" in caplog.text)
        nursery.cancel_scope.cancel()
    assert "the swarm's resource manager denied it" in caplog.text


# Upgrades


async def test_peers_beyond_sixteen_wait_for_their_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[ID] = []
    finish = trio.Event()

    async def hold(peer: ID) -> None:
        begun.append(peer)
        await finish.wait()

    peers = [ID(number.to_bytes(2, "big")) for number in range(16 + 256)]
    async with upgrading() as (_, upgrades):
        monkeypatch.setattr(upgrades, "_try_all", hold)
        async with trio.open_nursery() as nursery:
            for each in peers:
                nursery.start_soon(upgrades.upgrade, each)
            await wait_all_tasks_blocked()
            assert len(begun) == 16
            assert not await upgrades.upgrade(ID(b"one more"))
            finish.set()
    assert sorted(each.to_bytes() for each in begun) == [each.to_bytes() for each in peers]


# AutoNAT


async def test_autonat_dials_the_ip_address_of_the_client_only() -> None:
    """py-libp2p's handler leaves out the others, before the dials of this package."""
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        AutoNATService(far)  # type: ignore[arg-type]
        client = AutoNATService(near, serve=False)  # type: ignore[arg-type]
        alive = near.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{near.get_id()}")).to_bytes()
        with socket.socket(type=socket.SOCK_DGRAM) as victim:
            victim.bind(("127.0.0.2", 0))
            victim.setblocking(False)
            port = victim.getsockname()[1]
            foreign = quic(f"127.0.0.2|{port}", "10.0.0.1|4001", "11.0.3.2|4001", "::1|4001")
            # It has the client's IP address, too.
            foreign.append(Multiaddr(f"/ip4/127.0.0.2/udp/{port}/quic-v1/ip4/127.0.0.1"))
            refused = [each.to_bytes() for each in foreign]
            assert await client.query_server(far.get_id(), refused) == (Message.E_DIAL_REFUSED, None)
            assert await client.query_server(far.get_id(), [*refused, alive]) == (Message.OK, alive)
            with pytest.raises(BlockingIOError):
                victim.recv(2048)


async def test_autonat_dials_no_quic_address_with_a_second_ip_address() -> None:
    """py-libp2p's filter reads the IPv4 address, wherever it is."""
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        AutoNATService(far)  # type: ignore[arg-type]
        client = AutoNATService(near, serve=False)  # type: ignore[arg-type]
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as victim:
            victim.bind(("::1", 0))
            victim.setblocking(False)
            port = victim.getsockname()[1]
            passed = Multiaddr(f"/ip6/::1/udp/{port}/quic-v1/ip4/127.0.0.1").to_bytes()
            assert await client.query_server(far.get_id(), [passed]) == (Message.E_DIAL_ERROR, None)
            with pytest.raises(BlockingIOError):
                victim.recv(2048)


async def test_autonat_dials_at_most_eight_addresses() -> None:
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        service = AutoNATService(far)  # type: ignore[arg-type]
        alive = near.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{near.get_id()}")).to_bytes()
        # Addresses that no host can have: their dials fail at once.
        nowhere = [each.to_bytes() for each in quic(*(f"240.0.0.{n}|4001" for n in range(8)))]
        assert await service._try_dial(near.get_id(), [*nowhere[:7], alive]) == alive
        assert await service._try_dial(near.get_id(), [*nowhere, alive]) is None


@pytest.mark.slow
async def test_autonat_dials_for_fifteen_seconds_in_all() -> None:
    """Two silent addresses take 10 s each alone, so the living one after them is no longer dialed."""
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        service = AutoNATService(far)  # type: ignore[arg-type]
        alive = near.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{near.get_id()}")).to_bytes()
        with mute() as one, mute() as other:
            silent = [one[1].to_bytes(), other[1].to_bytes()]
            assert await service._try_dial(near.get_id(), [*silent, alive]) is None
            for each in (one[0], other[0]):
                each.setblocking(False)
                # Both were dialed.
                assert each.recv(2048)
        assert await service._try_dial(near.get_id(), [alive]) == alive


async def test_autonat_serves_sixteen_requests_and_one_of_each_peer() -> None:
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        service = AutoNATService(far)  # type: ignore[arg-type]
        alive = near.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{near.get_id()}")).to_bytes()
        for others in ([near.get_id()], [new_peer() for _ in range(16)]):
            with mute() as (_, silent):
                async with trio.open_nursery() as nursery:
                    for each in others:
                        nursery.start_soon(service._try_dial, each, [silent.to_bytes()])
                    await wait_all_tasks_blocked()
                    assert await service._try_dial(near.get_id(), [alive]) is None
                    nursery.cancel_scope.cancel()
            assert await service._try_dial(near.get_id(), [alive]) == alive
