"""A host tells its peers when its machine gets or loses an address, and again those that did not take it. The
tests in network namespaces need root.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from multiaddr import Multiaddr
from trio.testing import wait_all_tasks_blocked

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching._announce import push_addresses
from testkit.address_changes import address_changes
from testkit.census import PATIENCE, eventually
from testkit.far import FarHost, far_host
from testkit.known_addresses import has_address
from testkit.machines import Machine, machines
from testkit.near import IP4, gone, near_host, quic, swarm

WILDCARD = "/ip4/0.0.0.0/udp/4001/quic-v1"
_PUSH = "libp2p_quic._hole_punching._push"
# Tries of which at least one meets little other work on a busy machine.
ROUNDS = 5


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
            told: list[int] = []
            # `ip` itself may be interrupted for longer than the announcement waits: one batch of five has to
            # be told in this way.
            while len(told) < ROUNDS and min(told, default=20) > 3:
                net = 82 + len(told)
                before = await other.do("pushes")
                batch = "\n".join(f"addr add 10.{net}.{number}.1/24 dev eth0" for number in range(1, 21))
                laptop.run("ip -batch -", batch)
                for number in (1, 20):
                    address = f"/ip4/10.{net}.{number}.1/udp/4001"
                    assert await other.do("known", peer=moving.peer, address=address, is_known=True)
                told.append(await other.do("pushes") - before)
            # Not one for each.
            assert 1 <= min(told) <= 3, told


async def test_the_watch_begins_with_a_listener_and_ends_with_the_undo() -> None:
    async with near_host() as host:
        enabled = enable_hole_punching(host)
        assert _running("AddressAnnouncer._watch") == 0
        await host.get_network().listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))
        await host.get_network().listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))
        await wait_all_tasks_blocked()
        assert _running("AddressAnnouncer._watch") == 1
        enabled.undo()
        await wait_all_tasks_blocked()
        assert _running("AddressAnnouncer._watch") == 0
        # A host that listens already.
        enable_hole_punching(host)
        await wait_all_tasks_blocked()
        assert _running("AddressAnnouncer._watch") == 1
    assert _running("AddressAnnouncer._watch") == 0


async def test_a_system_without_netlink_is_served_without_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on macOS.
    monkeypatch.delattr(socket, "AF_NETLINK")
    async with near_host() as host:
        enable_hole_punching(host)
        address = Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
        await host.get_network().listen(address)
        await wait_all_tasks_blocked()
        assert _running("AddressAnnouncer._watch") == 0
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


@asynccontextmanager
async def told_hosts(
    count: int = 1, config: dict[str, Any] | None = None, peer_config: dict[str, Any] | None = None
) -> AsyncIterator[tuple[IHost, list[IHost]]]:
    """A host with hole punching, and peers that it dialed. All have identified each other."""
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(near_host(IP4, config=peer_config)) for _ in range(count)]
        host = await stack.enter_async_context(near_host(IP4, config=config))
        enable_hole_punching(host)
        for peer in peers:
            await host.connect(PeerInfo(peer.get_id(), list(peer.get_addrs())))
            await _identified(host, peer)
            await _identified(peer, host)
        yield host, peers


async def test_a_peer_that_does_not_answer_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 0.5)
    monkeypatch.setattr(f"{_PUSH}._PAUSES", (0.1,) * 100)
    async with told_hosts() as (host, (peer,)):
        held, release = _hold_streams(peer)
        _advertise(host, "11.0.2.2|4001")
        push_addresses(host)
        assert await eventually(lambda: len(held) >= 2)
        # What the host advertises now, not at the first try.
        _advertise(host, "11.0.3.2|4001")
        release()
        assert await eventually(lambda: has_address(peer, host.get_id(), "/ip4/11.0.3.2/"))
        assert await eventually(lambda: _running("AddressPushes") == 0)


async def test_a_peer_that_does_not_read_is_told_again_and_keeps_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 1.0)
    monkeypatch.setattr(f"{_PUSH}._PAUSES", (0.5,) * 100)
    # Both together are smaller than the message.
    sender, reader = {"STREAM_SEND_BUFFER_HIGH_WATERMARK": 500}, {"MAX_STREAM_RECEIVE_BUFFER": 4_000}
    async with told_hosts(config=sender, peer_config=reader) as (host, (peer,)):
        stock = peer.get_mux().handlers[ID_PUSH]
        assert stock is not None
        held: list[INetStream] = []
        peer.set_stream_handler(ID_PUSH, partial(_hold, held))
        _advertise(host, *(f"11.0.{number}.2|4001" for number in range(200)))
        push_addresses(host)
        assert await eventually(lambda: bool(held) and bool(_pushes(host, peer)))
        assert await eventually(lambda: not _pushes(host, peer))
        peer.set_stream_handler(ID_PUSH, stock)
        assert await eventually(lambda: has_address(peer, host.get_id(), "/ip4/11.0.199.2/"))
        assert await eventually(lambda: not _pushes(host, peer))


async def test_peers_that_do_not_answer_delay_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """py-libp2p pushes to ten at a time."""
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 10 * PATIENCE)
    async with told_hosts(12) as (host, (quick, *silent)):
        for each in silent:
            _hold_streams(each)
        _advertise(host, "11.0.2.2|4001")
        push_addresses(host)
        assert await eventually(lambda: has_address(quick, host.get_id(), "/ip4/11.0.2.2/"))


async def test_the_time_of_a_peer_begins_when_it_is_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._AT_ONCE", 1)
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 1.0)
    monkeypatch.setattr(f"{_PUSH}._PAUSES", ())
    async with told_hosts(4) as (host, (quick, *silent)):
        held = [_hold_streams(each)[0] for each in silent]
        rounds: list[tuple[bool, list[int]]] = []
        # Other work on this machine may take the second of a peer: one of five rounds has to reach all, in
        # any order. If the time began earlier, no round would.
        while len(rounds) < ROUNDS and (True, [1, 1, 1]) not in rounds:
            address = f"11.0.{len(rounds)}.2"
            for each in held:
                each.clear()
            _advertise(host, f"{address}|4001")
            push_addresses(host)
            assert await eventually(lambda: _running("AddressPushes") == 0)
            is_told = has_address(quick, host.get_id(), f"/ip4/{address}/")
            rounds.append((is_told, [len(each) for each in held]))
        assert (True, [1, 1, 1]) in rounds, rounds


async def test_a_peer_that_refuses_is_left_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._PAUSES", (0.1, 0.2, 0.3))
    async with told_hosts() as (host, (peer,)):
        tries = _refuse_streams(peer)
        push_addresses(host)
        assert await eventually(lambda: _running("AddressPushes") == 0)
        assert len(tries) == 4


async def test_a_peer_that_is_gone_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._PAUSES", (0.5, 0.5, 0.5))
    async with told_hosts() as (host, (peer,)):
        tries = _refuse_streams(peer)
        push_addresses(host)
        assert await eventually(lambda: bool(tries))
        await host.disconnect(peer.get_id())
        await gone(host, peer.get_id())
        before = len(tries)
        assert await eventually(lambda: _running("AddressPushes") == 0)
        # Not dialed either.
        assert len(tries) == before
        assert not swarm(host).get_connections(peer.get_id())


async def test_a_newer_change_replaces_the_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 10 * PATIENCE)
    async with told_hosts() as (host, (peer,)):
        held, _ = _hold_streams(peer)

        def is_under_way(number: int) -> bool:
            # Alone.
            tasks = [_running(f"AddressPushes.{each}") for each in ("_run", "_push")]
            return len(held) == number and tasks == [1, 1]

        push_addresses(host)
        assert await eventually(lambda: is_under_way(1))
        push_addresses(host)
        assert await eventually(lambda: is_under_way(2))


async def test_a_peer_that_does_not_answer_does_not_delay_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_PUSH}._LIMIT", 10 * PATIENCE)
    with address_changes(monkeypatch) as change:
        async with told_hosts() as (host, (peer,)):
            # The watch has read the addresses.
            await wait_all_tasks_blocked()
            _, release = _hold_streams(peer)
            _advertise(host, "11.0.2.2|4001")
            change()
            assert await eventually(lambda: _running("AddressPushes._push") == 1)
            release()
            _advertise(host, "11.0.3.2|4001")
            change()
            assert await eventually(lambda: has_address(peer, host.get_id(), "/ip4/11.0.3.2/"))


# In a try, and in the pause after it.
@pytest.mark.parametrize(("limit", "trying"), [(10 * PATIENCE, 1), (1.0, 0)])
@pytest.mark.parametrize("is_undone", [True, False])
async def test_the_undo_and_the_end_of_the_host_leave_no_task(
    monkeypatch: pytest.MonkeyPatch, limit: float, trying: int, is_undone: bool
) -> None:
    monkeypatch.setattr(f"{_PUSH}._LIMIT", limit)
    monkeypatch.setattr(f"{_PUSH}._PAUSES", (10 * PATIENCE,))
    async with told_hosts() as (host, (peer,)):
        held, _ = _hold_streams(peer)
        push_addresses(host)
        assert await eventually(lambda: bool(held) and _running("AddressPushes._push") == trying)
        assert _running("AddressPushes._run") == 1
        if is_undone:
            enable_hole_punching(host).undo()
            assert await eventually(lambda: _running("AddressPushes") == 0)
            # Nor do later ones begin.
            push_addresses(host)
            assert _running("AddressPushes") == 0
    assert _running("AddressPushes") == 0


def _advertise(host: IHost, *places: str) -> None:
    """Have ``host`` give only these addresses of its own."""
    anything: Any = host
    advertised = quic(*places)
    anything._addrs_factory = lambda _: advertised


async def _identified(host: IHost, peer: IHost) -> None:
    """Wait until ``host`` has identified ``peer``."""
    anything: Any = host
    assert await eventually(lambda: peer.get_id() in anything._identified_peers)


def _hold_streams(host: IHost) -> tuple[list[INetStream], Callable[[], None]]:
    """The streams that arrive at ``host`` from now on and get no answer, and a call that ends that."""
    held: list[INetStream] = []
    stock = swarm(host).common_stream_handler
    swarm(host).set_stream_handler(partial(_hold, held))
    return held, partial(swarm(host).set_stream_handler, stock)


async def _hold(held: list[INetStream], stream: INetStream) -> None:
    held.append(stream)
    await trio.sleep_forever()


def _refuse_streams(host: IHost) -> list[INetStream]:
    """The streams that arrive at ``host`` from now on, which it resets."""
    refused: list[INetStream] = []

    async def refuse(stream: INetStream) -> None:
        refused.append(stream)
        await stream.reset()

    swarm(host).set_stream_handler(refuse)
    return refused


def _pushes(host: IHost, peer: IHost) -> list[INetStream]:
    """The streams of ``host`` that push to ``peer``."""
    (dialed,) = swarm(host).get_connections(peer.get_id())
    return [each for each in dialed.get_streams() if each.get_protocol() == ID_PUSH]


def _running(what: str) -> int:
    """Tasks with this in their name."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    waiting, found = [root], 0
    while waiting:
        task = waiting.pop()
        found += what in task.name
        for nursery in task.child_nurseries:
            waiting.extend(nursery.child_tasks)
    return found
