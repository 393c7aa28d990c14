"""A peer that a listener keeps out learns it: from `host.connect`, or from the next call.

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

from libp2p_quic import HandshakeRefusedError, causes, explain
from libp2p_quic._verdict import Verdicts
from peers.census import eventually
from peers.near import IP4, near_host, swarm
from peers.relay import Relay

GATED = 0x1007
PROTOCOL = TProtocol("/test/hello")


def denies(_peer: ID, _maddr: Multiaddr) -> bool:
    return False


async def denies_later(_peer: ID, _maddr: Multiaddr) -> bool:
    await trio.sleep(0.4)  # scenario: a gate that asks a database
    return False


def is_gated(error: BaseException) -> bool:
    found = causes(error)
    assert all(isinstance(each, HandshakeRefusedError) for each in found)
    return {getattr(each, "error_code", None) for each in found} == {GATED}


async def connect(host: IHost, other: IHost, address: Multiaddr | None = None) -> None:
    await host.connect(PeerInfo(other.get_id(), [address or other.get_addrs()[0]]))


async def test_connect_raises_what_the_listeners_gate_said() -> None:
    async with near_host(IP4, config={"gate_peer": denies}) as other, near_host() as host:
        with pytest.raises(SwarmException) as caught:
            await connect(host, other)
        assert is_gated(caught.value)
        assert "closed by the peer (code 0x1007): gated" in explain(caught.value)
        assert not swarm(host).get_connections(other.get_id())
        assert not swarm(other).get_connections(host.get_id())


async def test_connect_raises_what_the_swarms_gate_said() -> None:
    async with near_host(IP4) as other, near_host() as host:
        swarm(other).connection_gate.add_to_deny_list("127.0.0.1")
        with pytest.raises(SwarmException) as caught:
            await connect(host, other)
        assert is_gated(caught.value)


@pytest.mark.parametrize(("gate", "delay"), [(denies, "200ms"), (denies_later, "0ms")])
async def test_the_next_call_raises_what_came_later(gate: Any, delay: str) -> None:
    """A far path, or a slow gate: waiting for either would cost every dial."""
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


async def test_who_is_admitted_later_connects() -> None:
    admitted: set[ID] = set()

    async def gate(peer: ID, _maddr: Multiaddr) -> bool:
        await trio.sleep(0.4)  # scenario: a gate that asks a database
        return peer in admitted

    async with near_host(IP4, config={"gate_peer": gate}) as other, near_host() as host:
        await connect(host, other)
        assert await eventually(lambda: not swarm(host).get_connections(other.get_id()), 10)
        admitted.add(host.get_id())
        await connect(host, other)
        assert swarm(host).get_connections(other.get_id())


async def test_a_near_connect_costs_nothing_more() -> None:
    """py-libp2p's own `connect` takes a quarter of a second, in which the listener answers."""
    async with near_host(IP4) as other, near_host() as host:
        began = trio.current_time()
        await connect(host, other)
        spent = trio.current_time() - began
        (taken,) = swarm(host).get_connections(other.get_id())
        assert 0.24 < spent < 0.5
        assert taken.muxed_conn.is_established


def test_how_long_is_held() -> None:
    peer, verdicts = ID(b"a peer"), Verdicts()
    assert verdicts.hold(peer, 0.0, 0.0) == pytest.approx(0.02)
    assert verdicts.hold(peer, 0.08, 0.1) == pytest.approx(0.12)
    # Beyond py-libp2p's pause not at all, until the peer is known to turn us away.
    assert verdicts.hold(peer, 0.2, 0.2) == pytest.approx(0.04)
    assert verdicts.hold(peer, 0.3, 0.3) == 0
    verdicts.turned_away(peer, 0.4)
    assert verdicts.hold(peer, 0.3, 0.3) == pytest.approx(0.52)
    verdicts.admitted(peer)
    assert verdicts.hold(peer, 0.3, 0.3) == 0
    verdicts.turned_away(peer, 1000)
    assert verdicts.hold(peer, 0.3, 0.3) == 5
