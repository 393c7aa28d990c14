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
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from trio.testing import MockClock, wait_all_tasks_blocked

from libp2p_quic import enable_hole_punching
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


async def test_sixteen_dials_at_once_and_two_for_each_peer() -> None:
    limit, peers = DialLimit(), [new_peer() for _ in range(9)]
    with ExitStack() as running:
        for peer in peers[:8]:
            admitted = [running.enter_context(limit.slot(peer)) for _ in range(3)]
            assert admitted == [True, True, False]
        assert not running.enter_context(limit.slot(peers[8]))
    with limit.slot(peers[8]) as is_admitted:
        assert is_admitted


async def test_sixty_dials_in_a_minute(mock_clock: MockClock) -> None:
    limit = DialLimit()

    def count() -> int:
        """How many are admitted now, one after the other."""
        admitted = 0
        while True:
            with limit.slot(new_peer()) as is_admitted:
                if not is_admitted:
                    return admitted
            admitted += 1

    assert [count(), count()] == [60, 0]
    mock_clock.jump(2.5)
    assert count() == 2
    mock_clock.jump(3600)
    assert count() == 60


async def test_a_third_dial_to_a_peer_is_not_made() -> None:
    peer = new_peer()
    with mute() as (_, address):
        named = [address.encapsulate(Multiaddr(f"/p2p/{peer}"))]
        async with upgrading() as (_, upgrades), trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(upgrades._dial, peer, named)
            await wait_all_tasks_blocked()
            # It returns at once: the others last for 5 s.
            await upgrades._dial(peer, named)
            assert len(nursery.child_tasks) == 2
            nursery.cancel_scope.cancel()


async def test_a_connection_that_the_swarm_refuses_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upgrading() as (near, upgrades), near_host(IP4) as far:
        monkeypatch.setattr(swarm(near).connection_config, "max_connections", 0)
        await upgrades._dial(far.get_id(), list(far.get_addrs()))
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
            await upgrades._dial(far.get_id(), list(far.get_addrs()))
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
        nursery.start_soon(upgrades.serve, new_peer(), quic("11.0.3.2|4001"))
        assert await eventually(lambda: "did not punch to" in caplog.text)
        nursery.cancel_scope.cancel()
    assert asked == quic("11.0.3.2|4001")


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
