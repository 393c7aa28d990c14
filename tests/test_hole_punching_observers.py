"""A host whose NAT gives it another address asks its peers what they observe now, offers that, and tells its
peers. The NAT is the relay program of `testkit.relay`, which gets another port.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetConn, INetStream
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr
from trio.testing import wait_all_tasks_blocked

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching import _observers, _upgrade
from libp2p_quic._hole_punching._observers import Observers
from testkit.address_changes import address_changes
from testkit.census import PATIENCE, eventually
from testkit.circuit import upgrades_of
from testkit.known_addresses import has_address
from testkit.near import IP4, connected_hosts, connection, near_host, quic, swarm
from testkit.relay import Relay

_OBSERVERS = "libp2p_quic._hole_punching._observers"


@pytest.fixture(autouse=True)
def loopback_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """py-libp2p notes no observed addresses of loopback."""
    monkeypatch.setattr("libp2p.host.observed_addr_manager.is_valid_observation", lambda _: True)


@asynccontextmanager
async def mapped(home: IHost) -> AsyncIterator[tuple[IHost, Relay]]:
    """A peer that ``home`` dials through a NAT, and that has told what it observes."""
    async with near_host(IP4) as peer:
        enable_hole_punching(peer)
        async with Relay.to(peer.get_addrs()[0]) as nat:
            await home.connect(PeerInfo(peer.get_id(), [nat.address]))
            assert await eventually(lambda: observed_by(home, peer) != "")
            yield peer, nat


def observed_by(home: IHost, peer: IHost) -> str:
    """What the peer reported last; empty if nothing."""
    anything: Any = home
    records = anything._observed_addr_manager._conn_observations.values()
    return next((each[1] for each in records if each[3]().muxed_conn.peer_id == peer.get_id()), "")


def seen_by(peer: IHost, home: IHost) -> str:
    """Where the home's packets come from now."""
    return "/ip4/{}/udp/{}".format(*connection(peer, home.get_id()).get_remote_address())


def observers_of(host: IHost) -> Observers:
    (found,) = (each for each in swarm(host).notifees if isinstance(each, Observers))
    return found


async def identified(host: IHost, peer: IHost) -> None:
    """Wait until ``host`` has identified ``peer``."""
    anything: Any = host
    assert await eventually(lambda: peer.get_id() in anything._identified_peers)


def advertise(host: IHost, place: str) -> None:
    """Have ``host`` give one address of its own."""
    anything: Any = host
    anything._addrs_factory = lambda _: quic(place)


def note_requests(host: IHost) -> list[ID]:
    """The peers that ask to identify ``host`` from now on."""
    asking: list[ID] = []
    stock = host.get_mux().handlers[IDENTIFY]

    async def noting(stream: INetStream) -> None:
        asking.append(stream.muxed_conn.peer_id)
        assert stock is not None
        await stock(stream)

    host.set_stream_handler(IDENTIFY, noting)
    return asking


def hold_requests(host: IHost) -> list[ID]:
    """The peers that ask to identify ``host`` from now on, which get no answer."""
    asking: list[ID] = []

    async def hold(stream: INetStream) -> None:
        asking.append(stream.muxed_conn.peer_id)
        await trio.sleep_forever()

    host.set_stream_handler(IDENTIFY, hold)
    return asking


def requests_of(host: IHost, peer: IHost) -> list[object]:
    """The streams of ``host`` that ask ``peer``."""
    (dialed,) = swarm(host).get_connections(peer.get_id())
    return [each for each in dialed.get_streams() if each.get_protocol() == IDENTIFY]


async def test_a_new_mapping_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._INTERVAL", 0.2)
    async with near_host(IP4) as home:
        enable_hole_punching(home)
        async with mapped(home) as (peer, nat):
            before = observed_by(home, peer)
            await nat.move()
            assert await eventually(lambda: observed_by(home, peer) != before)
            assert observed_by(home, peer) == seen_by(peer, home)


async def test_a_host_that_enables_it_before_it_listens_asks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._INTERVAL", 0.2)
    async with near_host() as home, near_host(IP4) as peer:
        enable_hole_punching(home)
        await home.connect(PeerInfo(peer.get_id(), list(peer.get_addrs())))
        await identified(home, peer)
        asking = note_requests(peer)
        for _ in range(2):
            await home.get_network().listen(Multiaddr(IP4))
        assert await eventually(lambda: home.get_id() in asking)


async def test_peers_are_told_what_the_host_advertises_then() -> None:
    async with near_host(IP4) as home:
        enable_hole_punching(home)
        anything: Any = home
        # With one observer, in place of four.
        anything._addrs_factory = lambda _: anything._observed_addr_manager.addrs(min_observers=1)
        async with mapped(home) as (peer, nat):
            await nat.move()
            await observers_of(home).renew()
            new = seen_by(peer, home)
            assert observed_by(home, peer) == new

            assert await eventually(lambda: has_address(peer, home.get_id(), f"{new}/"))


async def test_all_peers_are_asked_once_one_reports_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._MOST", 1)
    async with near_host(IP4) as home:
        enable_hole_punching(home)
        async with mapped(home) as (one, first), mapped(home) as (other, second):
            requests = note_requests(other)
            await observers_of(home).renew()
            assert requests == []
            for each in (first, second):
                await each.move()
            await observers_of(home).renew()
            assert requests == [home.get_id()]
            for peer in (one, other):
                assert observed_by(home, peer) == seen_by(peer, home)


async def test_a_peer_that_came_in_has_no_others_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may report another address each time."""
    async with connected_hosts() as (near, far), near_host(IP4) as other:
        enable_hole_punching(far)
        await far.connect(PeerInfo(other.get_id(), list(other.get_addrs())))
        found = observers_of(far)
        (inbound,) = swarm(far).get_connections(near.get_id())
        (dialed,) = swarm(far).get_connections(other.get_id())
        asked: list[object] = []

        async def ask(_: object, each: object) -> bool:
            asked.append(each)
            return each is inbound

        monkeypatch.setattr(found, "_ask", ask)
        monkeypatch.setattr(found, "_connections", lambda: [inbound, dialed])
        monkeypatch.setattr(f"{_OBSERVERS}._MOST", 1)
        await found.renew()
        assert asked == [inbound]


async def test_a_change_of_the_machines_addresses_has_peers_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with address_changes(monkeypatch) as change:
        async with connected_hosts() as (near, far):
            enable_hole_punching(near)
            await identified(near, far)
            # The watch has read the addresses.
            await wait_all_tasks_blocked()
            asking = note_requests(far)
            advertise(near, "11.0.2.2|4001")
            change()
            assert await eventually(lambda: asking == [near.get_id()])


async def test_a_peer_that_does_not_answer_delays_no_later_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._LIMIT", 10 * PATIENCE)
    with address_changes(monkeypatch) as change:
        async with connected_hosts() as (near, far):
            enable_hole_punching(near)
            await identified(near, far)
            # The watch has read the addresses.
            await wait_all_tasks_blocked()
            asked = hold_requests(far)
            advertise(near, "11.0.2.2|4001")
            change()
            assert await eventually(lambda: bool(asked))
            advertise(near, "11.0.3.2|4001")
            change()
            assert await eventually(lambda: has_address(far, near.get_id(), "/ip4/11.0.3.2/"))


async def test_a_connection_that_may_open_no_stream_is_left_out() -> None:
    async with near_host(IP4, config={"MAX_OUTGOING_STREAMS": 1}) as near, near_host(IP4) as far:
        enable_hole_punching(near)
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        dialed = connection(near, far.get_id())
        anything: Any = near
        assert await eventually(
            lambda: far.get_id() in anything._identified_peers and dialed._count_opened() == 0
        )
        held = await dialed.open_stream()
        asking = note_requests(far)
        await observers_of(near).renew()
        assert asking == []
        await held.reset()
        await observers_of(near).renew()
        assert asking == [near.get_id()]


async def test_an_error_of_py_libp2p_does_not_end_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._INTERVAL", 0.1)
    async with connected_hosts() as (near, far):
        await identified(near, far)
        asking = note_requests(far)
        enable_hole_punching(near)
        found = observers_of(near)
        stock, failed = found._connections, list[bool]()

        def connections() -> list[INetConn]:
            if not failed:
                failed.append(True)
                raise LookupError("no connections")
            return stock()

        monkeypatch.setattr(found, "_connections", connections)
        assert await eventually(lambda: bool(failed and asking))


async def test_failing_upgrades_have_peers_asked_once_in_four_seconds() -> None:
    async with connected_hosts() as (near, far):
        enable_hole_punching(near)
        await identified(near, far)
        asking = note_requests(far)
        for _ in range(3):
            await observers_of(near).renew_if_due()
        assert asking == [near.get_id()]


def test_each_attempt_of_an_upgrade_may_have_peers_asked() -> None:
    """Although a busy interpreter delays what the attempt before caused, by up to a second."""
    assert _observers._SHORTEST_PAUSE <= _upgrade.LIMIT - 1


async def test_a_peer_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._LIMIT", 0.5)
    async with connected_hosts() as (near, far):
        enable_hole_punching(near)
        await identified(near, far)

        hold_requests(far)
        with trio.fail_after(PATIENCE):
            await observers_of(near).renew()
        assert await eventually(lambda: requests_of(near, far) == [])


async def test_the_undo_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._INTERVAL", 0.1)
    async with connected_hosts() as (near, far):
        enabled = enable_hole_punching(near)
        await identified(near, far)
        asking = note_requests(far)
        assert await eventually(lambda: bool(asking))
        enabled.undo()
        assert not [each for each in swarm(near).notifees if isinstance(each, Observers)]
        before = len(asking)
        # One may have been under way.
        assert not await eventually(lambda: len(asking) > before + 1, 1)


async def test_a_request_that_the_undo_cancels_leaves_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{_OBSERVERS}._LIMIT", 10 * PATIENCE)
    async with connected_hosts() as (near, far):
        enabled = enable_hole_punching(near)
        await identified(near, far)
        assert await eventually(lambda: requests_of(near, far) == [])
        asked = hold_requests(far)
        upgrades_of(near).spawn("asking for observed addresses", observers_of(near).renew)
        assert await eventually(lambda: bool(asked))
        assert requests_of(near, far) != []
        enabled.undo()
        assert await eventually(lambda: requests_of(near, far) == [])
