"""A peer that a listener refuses gets the error from `host.connect` or from the next call.

Real hosts; far paths through the relay, a process of its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import ConnectionClosed, HandshakeRefusedError, QUICConnection, causes, explain
from libp2p_quic._refusal_delay import FREE, RefusalDelays, free_time
from testkit.census import PATIENCE, eventually
from testkit.linked import listening, transport_behind
from testkit.near import IP4, near_host, swarm, transport_of
from testkit.relay import Relay

GATED = 0x1007
# Connects of which at least one meets no other work on a busy machine of two cores.
TRIES = 20
PROTOCOL = TProtocol("/test/hello")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial waits for a refusal as long as a busy machine needs; the refusal ends the wait."""
    monkeypatch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)


@pytest.fixture
def patient_with_refusers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does only a dial of a peer that is known to refuse us."""
    monkeypatch.setattr("libp2p_quic._refusal_delay._MARGIN", 3.0)


def denies(_peer: ID, _maddr: Multiaddr) -> bool:
    return False


async def denies_later(_peer: ID, _maddr: Multiaddr) -> bool:
    await trio.sleep(1.0)  # scenario: a gate that asks a database
    return False


async def denies_soon(_peer: ID, _maddr: Multiaddr) -> bool:
    await trio.sleep(0.12)  # scenario: a gate that asks a cache
    return False


def is_gated(error: BaseException) -> bool:
    found = causes(error)
    assert all(isinstance(each, HandshakeRefusedError) for each in found)
    return {getattr(each, "error_code", None) for each in found} == {GATED}


async def connect(host: IHost, other: IHost, address: Multiaddr | None = None) -> None:
    await host.connect(PeerInfo(other.get_id(), [address or other.get_addrs()[0]]))


@pytest.mark.usefixtures("patient")
async def test_connect_raises_the_refusal_of_the_listeners_gate() -> None:
    async with near_host(IP4, config={"gate_peer": denies}) as other, near_host() as host:
        with pytest.raises(SwarmException) as caught:
            await connect(host, other)
        assert is_gated(caught.value)
        assert "closed by the peer (code 0x1007): gated" in explain(caught.value)
        assert not swarm(host).get_connections(other.get_id())
        assert not swarm(other).get_connections(host.get_id())


@pytest.mark.usefixtures("patient")
async def test_connect_raises_the_refusal_of_the_swarms_gate() -> None:
    async with near_host(IP4) as other, near_host() as host:
        swarm(other).connection_gate.add_to_deny_list("127.0.0.1")
        with pytest.raises(SwarmException) as caught:
            await connect(host, other)
        assert is_gated(caught.value)


@pytest.mark.usefixtures("patient")
async def test_connect_raises_what_a_gate_said_within_the_swarms_own_time() -> None:
    async with near_host(IP4, config={"gate_peer": denies_soon}) as other, near_host() as host:
        with pytest.raises(SwarmException) as caught:
            await connect(host, other)
        assert is_gated(caught.value)
        assert not swarm(host).get_connections(other.get_id())


@pytest.mark.usefixtures("patient")
async def test_a_stream_of_the_listener_ends_the_wait_and_is_accepted() -> None:
    """A host asks each new peer to identify itself, so `dial_peer`'s own time is not used up."""
    early: list[int] = []
    async with near_host(IP4) as other, near_host() as host:
        dial = transport_of(host).dial

        async def counting(maddr: Multiaddr) -> QUICConnection:
            connection = await dial(maddr)
            early.append(len(connection._early))
            return connection

        transport_of(host).dial = counting  # type: ignore[method-assign]
        await connect(host, other)
        # A wait that its time ends has no stream.
        assert min(early, default=0) > 0
        # The other host's question was in that stream.
        store = swarm(other).peerstore
        peer = host.get_id()
        assert await eventually(lambda: peer in store.peer_ids() and bool(store.get_protocols(peer)))


@pytest.mark.usefixtures("patient_with_refusers")
@pytest.mark.parametrize(("gate", "delay"), [(denies, "200ms"), (denies_later, "0ms")])
async def test_the_next_call_raises_a_later_refusal(gate: Any, delay: str) -> None:
    """A long round trip or a slow gate: `connect` does not wait for either."""
    async with (
        near_host(IP4, config={"gate_peer": gate}) as other,
        near_host() as host,
        Relay.to(other.get_addrs()[0], "--delay", delay) as relay,
    ):
        await connect(host, other, relay.address)
        assert await eventually(lambda: not swarm(host).get_connections(other.get_id()), 10)
        with pytest.raises(SwarmException) as caught:
            await host.new_stream(other.get_id(), [PROTOCOL])
        assert is_gated(caught.value)


async def test_a_dial_that_is_canceled_while_it_is_withheld_blames_no_gate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)
    # A listener that opens no stream: the dial waits for a refusal.
    async with listening() as (listener, connections), near_host() as host:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                host.connect,
                PeerInfo(transport_behind(listener)._peer_id, [listener.get_addrs()[0]]),
            )
            accepted = await connections.receive()
            nursery.cancel_scope.cancel()
        with trio.fail_after(PATIENCE):
            ended = await accepted.closed()
        assert (ended.by, ended.error_code, ended.reason) == ("peer", 0, "")


@pytest.mark.usefixtures("patient_with_refusers")
async def test_a_dial_that_the_peer_punches_for_is_not_withheld() -> None:
    """Withholding it delays the upgrade, and a relayed connection is there if it is refused."""
    async with near_host(IP4, config={"gate_peer": denies_later}) as other, near_host() as host:
        await connect(host, other)
        assert await eventually(lambda: not swarm(host).get_connections(other.get_id()), 10)
        # The refusal is remembered: the next dial waits until it can have come.
        addresses = other.get_addrs()[:1]
        with pytest.raises(HandshakeRefusedError):
            await transport_of(host)._dial_any(addresses)
        connection = await transport_of(host)._dial_any(addresses, punched_rtt=0.1)
        # Given to the caller before the refusal, which the next call raises.
        with pytest.raises(ConnectionClosed) as closed:
            await connection.accept_stream()
        assert closed.value.error_code == GATED


async def test_a_peer_that_is_admitted_later_connects() -> None:
    admitted: set[ID] = set()

    async def gate(peer: ID, _maddr: Multiaddr) -> bool:
        await trio.sleep(1.0)  # scenario: a gate that asks a database
        return peer in admitted

    async with near_host(IP4, config={"gate_peer": gate}) as other, near_host() as host:
        await connect(host, other)
        assert await eventually(lambda: not swarm(host).get_connections(other.get_id()), 10)
        admitted.add(host.get_id())
        await connect(host, other)
        assert swarm(host).get_connections(other.get_id())


async def test_connect_over_a_short_path_takes_no_longer() -> None:
    """py-libp2p's own `connect` takes a quarter of a second, in which the listener answers. The quickest
    counts, as other work on this machine only adds time."""
    spent: list[float] = []
    while len(spent) < TRIES and min(spent, default=1.0) >= 0.5:
        async with near_host(IP4) as other, near_host() as host:
            began = trio.current_time()
            await connect(host, other)
            spent.append(trio.current_time() - began)
            (taken,) = swarm(host).get_connections(other.get_id())
            assert taken.muxed_conn.is_established
    assert 0.24 < min(spent) < 0.5


def test_how_long_a_dial_waits() -> None:
    peer, delays = ID(b"a peer"), RefusalDelays()
    assert delays.wait_time(peer, 0.0, 0.0) == pytest.approx(0.02)
    assert delays.wait_time(peer, 0.08, 0.1) == pytest.approx(0.12)
    # Beyond py-libp2p's pause not at all, until the peer is known to refuse us.
    assert delays.wait_time(peer, 0.2, 0.2) == pytest.approx(0.04)
    assert delays.wait_time(peer, 0.3, 0.3) == 0
    # The whole pause, if it is made anyway.
    assert delays.wait_time(peer, 0.0, 0.1, free=0.24) == pytest.approx(0.14)
    assert delays.wait_time(peer, 0.0, 0.3, free=0.24) == 0
    delays.record_refusal(peer, 0.4)
    assert delays.wait_time(peer, 0.3, 0.3) == pytest.approx(0.52)
    delays.record_admission(peer)
    assert delays.wait_time(peer, 0.3, 0.3) == 0
    delays.record_refusal(peer, 1000)
    assert delays.wait_time(peer, 0.3, 0.3) == 5
    # A peer that opened no stream is not waited for as long again, until it opens one.
    assert delays.free_time(peer) == FREE
    delays.record_silence(peer)
    assert delays.free_time(peer) == 0
    delays.record_stream(peer)
    assert delays.free_time(peer) == FREE


async def test_only_dial_peer_has_time_to_spare() -> None:
    async with near_host() as host:
        peer = host.get_id()
        assert free_time(swarm(host), peer) == 0
        swarm(host)._ongoing_dials[peer] = trio.Event()
        assert free_time(swarm(host), peer) == FREE
        # The first success ends `dial_peer` then.
        swarm(host).connection_config.max_connections_per_peer = 1
        assert free_time(swarm(host), peer) == 0
