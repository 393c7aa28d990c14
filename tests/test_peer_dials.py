"""Dials of a peer at all its QUIC addresses: `install`'s repair of the swarm's dial.

A dead address is a UDP socket that answers nothing. Times are the promise here.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.abc import IHost, INetConn
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import RetryConfig
from libp2p.network.exceptions import SwarmDialAllFailedError, SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.rcmgr.cidr_limits import CIDRLimiter
from libp2p.rcmgr.manager import new_resource_manager
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import (
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    QUICTransport,
    causes,
    explain,
)
from libp2p_quic._addr import QUICAddress
from libp2p_quic._happy_eyeballs import ATTEMPT_DELAY
from libp2p_quic._peer_dial import dial_all_addresses
from libp2p_quic._resolve import resolved
from testkit.census import PATIENCE, eventually
from testkit.names import Names
from testkit.near import IP4, near_host, near_transport, reasons, swarm, transport_of
from testkit.relay import Relay

# What a connect over loopback may take. py-libp2p 0.8.1 itself waits for 250 ms in every dial. Seconds.
PROMPT = 0.02
# In this time at least one connect meets no other work on a busy machine of two cores. Seconds.
SEARCH = 40.0


@contextmanager
def dead(count: int) -> Iterator[list[Multiaddr]]:
    """Addresses at which nobody answers."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        yield [Multiaddr(f"/ip4/127.0.0.1/udp/{each.getsockname()[1]}/quic-v1") for each in sockets]
    finally:
        for each in sockets:
            each.close()


@asynccontextmanager
async def dialer(**config: float) -> AsyncIterator[IHost]:
    async with near_host(IP4, config=config) as host:
        undo = dial_all_addresses(swarm(host), transport_of(host))
        yield host
        undo()
        assert "dial_peer" not in vars(swarm(host))


async def seconds(host: IHost, peer: ID, addresses: list[Multiaddr]) -> float:
    began = trio.current_time()
    await host.connect(PeerInfo(peer, addresses))
    return trio.current_time() - began


async def quickest(count: int, limit: float) -> float:
    """The least time of the connects of `SEARCH` seconds to a peer with ``count`` dead addresses before its
    own, or the first below ``limit``: the promise is for a machine that does nothing else. Seconds."""
    times: list[float] = []
    end = trio.current_time() + SEARCH
    while not times or (min(times) >= limit and trio.current_time() < end):
        async with dialer() as near, near_host(IP4) as far:
            with dead(count) as nobody:
                times.append(await seconds(near, far.get_id(), [*nobody, *far.get_addrs()]))
            assert len(swarm(near).get_connections(far.get_id())) == 1
    return min(times)


async def test_a_connect_returns_when_it_is_connected() -> None:
    assert await quickest(0, PROMPT) < PROMPT


@pytest.mark.parametrize(("count", "most"), [(1, 0.3), (2, 0.6)])
async def test_dead_addresses_cost_a_quarter_of_a_second_each(count: int, most: float) -> None:
    assert count * ATTEMPT_DELAY <= await quickest(count, most) < most


async def test_every_cause_is_told() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    async with dialer(CONNECTION_HANDSHAKE_TIMEOUT=1.0) as near:
        swarm(near).retry_config.max_retries = 0
        with dead(2) as nobody, pytest.raises(SwarmException) as caught:
            await near.connect(PeerInfo(peer, nobody))
    assert all(str(each) in str(caught.value) for each in nobody)
    assert any(isinstance(each, HandshakeTimeoutError) for each in reasons(caught.value))


def last_lines(error: BaseException) -> str:
    """What a traceback ends with: the class, the text and the notes."""
    return "".join(traceback.format_exception_only(type(error), error))


async def test_a_traceback_ends_with_the_cause() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    async with dialer(CONNECTION_HANDSHAKE_TIMEOUT=0.3) as near:
        swarm(near).retry_config.max_retries = 0
        with dead(1) as nobody, pytest.raises(SwarmException) as caught:
            await near.connect(PeerInfo(peer, nobody))
    assert type(caught.value) is SwarmDialAllFailedError
    assert "no handshake in time: the peer did not answer" in last_lines(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes of exceptions are of CPython 3.11")
async def test_a_traceback_of_a_dial_that_is_left_to_the_swarm_ends_with_the_cause() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    keys = create_new_key_pair()
    host = new_host(key_pair=keys, transports=[QUICTransport(keys.private_key), TCP()])
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        address = Multiaddr(f"/ip4/127.0.0.1/tcp/{unheard.getsockname()[1]}")
        async with host.run(listen_addrs=[]):
            dial_all_addresses(swarm(host), transport_of(host))
            swarm(host).retry_config.max_retries = 0
            with pytest.raises(SwarmException) as refused:
                await host.connect(PeerInfo(peer, [address]))
            with pytest.raises(SwarmException) as again:
                await host.connect(PeerInfo(peer, [address]))
    assert type(refused.value) is SwarmDialAllFailedError
    text, note = last_lines(refused.value).splitlines()
    assert text.endswith("no addresses established a successful connection (with exceptions)")
    assert note == explain(refused.value)
    assert "refused" in note
    text, note = last_lines(again.value).splitlines()
    assert text.endswith("(negative cache)")
    assert note.startswith("the swarm dials it again after 60 s")


async def test_the_swarm_retries_and_limits_as_its_own_dial() -> None:
    async with dialer() as near, near_host(IP4) as far:
        swarm(near).retry_config = RetryConfig(max_retries=1, initial_delay=0)
        swarm(near).connection_config.max_connections = 0
        tried: list[int] = []
        attempt = swarm(near)._dial_addr_single_attempt

        async def counting(addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None) -> INetConn:
            tried.append(swarm(near)._global_dial_limiter.borrowed_tokens)
            return await attempt(addr, peer_id, source)

        swarm(near)._dial_addr_single_attempt = counting  # type: ignore[method-assign]
        with pytest.raises(SwarmException, match="Maximum connections limit reached"):
            await seconds(near, far.get_id(), list(far.get_addrs()))
        assert tried == [1, 1]


async def test_an_address_that_the_gate_denies_is_not_dialed() -> None:
    async with dialer() as near, near_host(IP4) as far:
        swarm(near).connection_gate.add_to_deny_list("127.0.0.1")
        with pytest.raises(SwarmException, match="blocked by connection gate"):
            await seconds(near, far.get_id(), list(far.get_addrs()))


@contextmanager
def denied() -> Iterator[tuple[socket.socket, Multiaddr]]:
    """A socket on 127.0.0.2, with its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.2", 0))
        bound.setblocking(False)
        yield bound, Multiaddr(f"/ip4/127.0.0.2/udp/{bound.getsockname()[1]}/quic-v1")


def got_nothing(bound: socket.socket) -> bool:
    try:
        return not bound.recv(2048)
    except BlockingIOError:
        return True


async def test_a_denied_address_gets_no_datagram_and_the_others_are_dialed() -> None:
    async with dialer() as near, near_host(IP4) as far:
        swarm(near).connection_gate.add_to_deny_list("127.0.0.2")
        with denied() as (bound, address), dead(1) as nobody:
            await seconds(near, far.get_id(), [address, *nobody, *far.get_addrs()])
            assert got_nothing(bound)
        assert len(swarm(near).get_connections(far.get_id())) == 1


async def test_an_address_that_is_denied_between_two_attempts_is_not_dialed_again() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    async with dialer(CONNECTION_HANDSHAKE_TIMEOUT=0.3) as near:
        swarm(near).retry_config = RetryConfig(max_retries=1, initial_delay=0)
        attempt = swarm(near)._dial_addr_single_attempt

        async def denying(addr: Multiaddr, peer_id: ID, source: tuple[str, int] | None = None) -> INetConn:
            swarm(near).connection_gate.add_to_deny_list("127.0.0.2")
            return await attempt(addr, peer_id, source)

        swarm(near)._dial_addr_single_attempt = denying  # type: ignore[method-assign]
        with denied() as (bound, address):
            with pytest.raises(SwarmException) as caught:
                await near.connect(PeerInfo(peer, [address]))
            assert got_nothing(bound)
        assert "the swarm's connection gate denied it" in str(caught.value)


async def test_a_dial_of_several_addresses_asks_about_each() -> None:
    """As a hole punch makes it: its addresses come from the remote peer, and the swarm never sees them."""
    trio.socket.set_custom_hostname_resolver(Names(both_test=["127.0.0.2", "127.0.0.1"]))
    async with dialer() as near, near_host(IP4) as far:
        swarm(near).connection_gate.add_to_deny_list("127.0.0.2")
        (good,) = far.get_addrs()
        named = Multiaddr(str(good).replace("/ip4/127.0.0.1", "/dns4/both.test"))
        with denied() as (bound, address):
            for maddrs in ([address, good], [address, named]):
                dialed = await transport_of(near)._dial_any(maddrs)
                assert dialed.peer_id == far.get_id()
                await dialed.close()
            with pytest.raises(
                DialError, match=r"^/ip4/127.0.0.2/\S+: the swarm's connection gate denied it$"
            ):
                await transport_of(near)._dial_any([address])
            assert got_nothing(bound)


def limited(host: IHost, *rules: tuple[str, int]) -> None:
    """Set limits of connections to networks."""
    manager = new_resource_manager()
    manager.cidr_limiter = CIDRLimiter(rules)
    swarm(host).set_resource_manager(manager)


async def test_an_address_that_the_resource_manager_denies_gets_no_datagram() -> None:
    trio.socket.set_custom_hostname_resolver(Names(both_test=["127.0.0.2", "127.0.0.1"]))
    async with dialer() as near, near_host(IP4) as far:
        limited(near, ("127.0.0.2/32", 0))
        (good,) = far.get_addrs()
        with denied() as (bound, address), dead(1) as nobody:
            await seconds(near, far.get_id(), [*nobody, address, named("both.test", good)])
            with pytest.raises(
                DialError, match=r"^/ip4/127.0.0.2/\S+: the swarm's resource manager denied it$"
            ):
                await transport_of(near)._dial_any([address])
            assert got_nothing(bound)


@pytest.mark.parametrize("count", [0, 1])
async def test_the_slot_of_a_dial_does_not_count_against_itself(count: int) -> None:
    async with dialer() as near, near_host(IP4) as far:
        limited(near, ("127.0.0.1/32", 1))
        with dead(count) as nobody:
            await seconds(near, far.get_id(), [*nobody, *far.get_addrs()])
        assert len(swarm(near).get_connections(far.get_id())) == 1


class AllAtOnce(Names):
    """A name server that answers nobody before it was asked about every name."""

    def __init__(self, **names: list[str]) -> None:
        super().__init__(**names)
        self.all_asked = trio.Event()

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *rest: Any, **more: Any) -> Any:
        found = await super().getaddrinfo(host, port, family, *rest, **more)
        if set(self.asked) == set(self.names):
            self.all_asked.set()
        await self.all_asked.wait()
        return found


async def test_the_names_of_a_peer_are_resolved_at_once() -> None:
    names = AllAtOnce(one_test=["127.0.0.1"], two_test=["127.0.0.1"], three_test=["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(names)
    async with near_host(IP4) as far:
        port = str(far.get_addrs()[0]).split("/")[4]
        maddrs = [Multiaddr(f"/dns4/{name}/udp/{port}/quic-v1/p2p/{far.get_id()}") for name in names.names]
        transport = near_transport()
        with trio.fail_after(20):
            assert (await transport._dial_any(maddrs)).peer_id == far.get_id()
        await transport.close()
    assert sorted(names.asked) == sorted(names.names)


class Silent(Names):
    """A name server that never answers about the name "silent.test"."""

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *rest: Any, **more: Any) -> Any:
        if host in ("silent.test", b"silent.test"):
            self.asked.append("silent.test")
            await trio.sleep_forever()
        return await super().getaddrinfo(host, port, family, *rest, **more)


def named(name: str, address: Multiaddr) -> Multiaddr:
    return Multiaddr(str(address).replace("/ip4/127.0.0.1/", f"/dns4/{name}/"))


@pytest.mark.parametrize("reached_by", ["literal", "name", "name after a dead literal"])
async def test_no_address_waits_for_a_name_that_does_not_resolve(reached_by: str) -> None:
    trio.socket.set_custom_hostname_resolver(names := Silent(good_test=["127.0.0.1"]))
    async with near_host(IP4) as far:
        (good,) = far.get_addrs()
        with dead(1) as nobody:
            peer = Multiaddr(f"/p2p/{far.get_id()}")
            maddrs = [named("silent.test", good)]
            if reached_by == "name after a dead literal":
                maddrs.append(nobody[0].encapsulate(peer))
            maddrs.append(good if reached_by == "literal" else named("good.test", good))
            transport = near_transport()
            # Below the limit of a lookup.
            with trio.fail_after(8):
                assert (await transport._dial_any(maddrs)).peer_id == far.get_id()
        await transport.close()
    # A literal may have connected before the first lookup has begun.
    assert "silent.test" in names.asked or reached_by == "literal"


async def test_the_error_of_a_lookup_is_told_with_those_of_the_dials() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    transport = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=0.5)
    with dead(1) as nobody, pytest.raises(DialError) as caught:
        await transport._dial_any([named("unknown.test", nobody[0]), nobody[0]])
    assert "cannot resolve /dns4/unknown.test" in str(caught.value)
    assert str(nobody[0]) in str(caught.value)
    with dead(1) as nobody, pytest.raises(DialError, match=r"^cannot resolve /dns4/unknown\.test"):
        await transport._dial_any([named("unknown.test", nobody[0])])
    await transport.close()


def test_a_lookup_ends_after_ten_seconds() -> None:
    address = QUICAddress.parse(Multiaddr("/dns4/silent.test/udp/4001/quic-v1"))

    async def look_up() -> float:
        trio.socket.set_custom_hostname_resolver(Silent())
        began = trio.current_time()
        with pytest.raises(DialError, match=r"^cannot resolve /dns4/silent\.test: no answer within 10 s$"):
            await resolved(address)
        return trio.current_time() - began

    assert trio.run(look_up, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(10)


@pytest.mark.parametrize("count", [0, 1])
async def test_a_gate_of_the_listener_is_learned_from_connect(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without py-libp2p's pause: a listener that opens no stream may still be about to refuse."""
    # The refusal ends the wait, however busy the machine is.
    monkeypatch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)
    async with (
        near_host(IP4, config={"gate_peer": lambda _peer, _maddr: False}) as far,
        dialer(CONNECTION_HANDSHAKE_TIMEOUT=2.0) as near,
    ):
        swarm(near).retry_config.max_retries = 0
        with dead(count) as nobody, pytest.raises(SwarmException) as caught:
            await seconds(near, far.get_id(), [*nobody, *far.get_addrs()])
        refused = [each for each in causes(caught.value) if isinstance(each, HandshakeRefusedError)]
        assert {each.error_code for each in refused} == {0x1007}
        assert not swarm(near).get_connections(far.get_id())


async def test_a_refusal_by_the_proven_peer_ends_the_dial_of_its_other_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each other address would get datagrams until the handshake timeout."""
    monkeypatch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)
    async with near_host(IP4, config={"gate_peer": lambda _peer, _maddr: False}) as far, dialer() as near:
        swarm(near).retry_config.max_retries = 0
        with dead(3) as nobody, pytest.raises(SwarmException) as caught:
            await seconds(near, far.get_id(), [nobody[0], *far.get_addrs(), *nobody[1:]])
        (refused,) = [each for each in causes(caught.value) if isinstance(each, DialError)]
        assert (type(refused), refused.error_code) == (HandshakeRefusedError, 0x1007)
        # The attempt at the first address was abandoned, and nothing is left of it.
        dialing = transport_of(near)._open_endpoint().engine
        assert await eventually(lambda: dialing.census()["connections"] == 0, 5)


async def test_a_refusal_in_the_handshake_does_not_end_the_dial_of_the_other_addresses() -> None:
    """It is not signed: the listener at another address may be the peer, and admit us."""
    async with dialer() as near, near_host(IP4) as far, near_host(IP4) as full:
        transport_of(full).deny_addresses(["127.0.0.0/8"])
        refusing = Multiaddr(str(full.get_addrs()[0]).partition("/p2p/")[0])
        await seconds(near, far.get_id(), [refusing, *far.get_addrs()])
        assert len(swarm(near).get_connections(far.get_id())) == 1


async def test_a_peer_that_opens_no_stream_is_waited_for_once() -> None:
    async with dialer() as near:
        silent = near_transport()

        async def accept(_connection: object) -> None:
            await trio.sleep_forever()

        listener = silent.create_listener(accept)
        await listener.listen(Multiaddr(IP4))
        address, peer = listener.get_addrs()[0], silent._peer_id
        times = []
        for _ in range(5):
            times.append(await seconds(near, peer, [address]))
            await near.disconnect(peer)
        await silent.close()
        assert times[0] >= 0.24
        # To wait again would take as long as the first time.
        assert min(times[1:]) < 0.24


async def test_the_loser_of_a_race_is_closed_at_once_and_no_swarm_sees_it() -> None:
    """The first address leads to the peer too, through a relay with a round trip of 8 s."""
    patient = {"CONNECTION_HANDSHAKE_TIMEOUT": 3 * PATIENCE}
    async with dialer(**patient) as near, near_host(IP4, config=patient) as far:
        async with Relay.to(far.get_addrs()[0], "--delay", "4s") as relay:
            assert await seconds(near, far.get_id(), [relay.address, *far.get_addrs()]) < 8
            # It ends at both long before the timeout of a handshake, and at the dialer without a closing
            # period, which is 10 s.
            dialing = transport_of(near)._open_endpoint().engine
            assert await eventually(lambda: dialing.census()["connections"] == 1, 9)
            (listener,) = transport_of(far)._listeners
            assert await eventually(lambda: listener.get_stats()["handshakes_failed"] == 1)
            assert listener.get_stats()["connections_accepted"] == 1
        assert len(swarm(far).get_connections(near.get_id())) == 1


async def test_an_address_of_another_peer_is_not_dialed() -> None:
    async with dialer() as near, near_host(IP4) as far, near_host(IP4) as another:
        with dead(1) as nobody:
            store = swarm(near).peerstore
            store.add_addrs(far.get_id(), [*another.get_addrs(), *nobody, *far.get_addrs()], 60)
            (connection,) = await swarm(near).dial_peer(far.get_id())
        assert connection.muxed_conn.peer_id == far.get_id()
        assert swarm(another).get_connections() == []


async def test_a_gate_that_waits_lets_two_tasks_share_a_dial() -> None:
    async with dialer() as near, near_host(IP4) as far:
        gate = swarm(near).connection_gate
        ask = gate.is_allowed

        async def slow(remote_addr: Multiaddr) -> bool:
            await trio.lowlevel.checkpoint()
            return await ask(remote_addr)

        gate.is_allowed = slow  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(seconds, near, far.get_id(), list(far.get_addrs()))
        assert len(swarm(near).get_connections(far.get_id())) == 1


async def test_two_connects_at_once_share_a_dial() -> None:
    async with dialer() as near, near_host(IP4) as far:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(seconds, near, far.get_id(), list(far.get_addrs()))
        assert len(swarm(near).get_connections(far.get_id())) == 1


async def test_tasks_that_want_the_same_peer_share_the_error() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    told: list[str] = []
    async with dialer(CONNECTION_HANDSHAKE_TIMEOUT=0.5) as near:
        swarm(near).retry_config.max_retries = 0

        async def failing() -> None:
            with pytest.raises(SwarmDialAllFailedError) as caught:
                await near.connect(PeerInfo(peer, nobody))
            assert any(isinstance(each, HandshakeTimeoutError) for each in reasons(caught.value))
            told.append(str(caught.value))

        with dead(1) as nobody:
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(failing)
    assert len(told) == 3
    assert len(set(told)) == 1


async def test_a_canceled_connect_leaves_the_dial_to_the_next_task() -> None:
    async with dialer() as near, near_host(IP4) as far:
        with dead(1) as nobody:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seconds, near, far.get_id(), nobody)
                await trio.testing.wait_all_tasks_blocked()
                assert far.get_id() in swarm(near)._ongoing_dials
                nursery.cancel_scope.cancel()
        assert swarm(near)._ongoing_dials == {}
        await seconds(near, far.get_id(), list(far.get_addrs()))


async def test_install_repairs_the_dials_of_its_hosts_until_it_is_undone() -> None:
    try:
        libp2p_quic.install()
        async with near_host(IP4) as host:
            assert "dial_peer" in vars(swarm(host))
        libp2p_quic.install(all_addresses=False, hole_punching=True)
        async with near_host(IP4) as host:
            assert "dial_peer" not in vars(swarm(host))
            assert "dial_addr_as_responder" in vars(swarm(host))
    finally:
        libp2p_quic.uninstall()
    assert QUICTransport._swarm_hooks == ()
    async with near_host(IP4) as host:
        assert not {"dial_peer", "dial_addr_as_responder"} & set(vars(swarm(host)))
