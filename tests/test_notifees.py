"""Notifees of a host's swarm that close the connection they are told of, or take their time.

The swarm calls those of an inbound connection in the transport's connection handler, and those of an end in
`on_close`. Real hosts in one process.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from libp2p.abc import IHost, INetConn, INetwork
from libp2p.peer.peerinfo import PeerInfo

from libp2p_quic import DialError
from libp2p_quic._host_events import Notifee
from testkit.census import PATIENCE, eventually
from testkit.near import IP4, connections_of, inbound, near_host, swarm, transport_of


class Banning(Notifee):
    """Closes every connection that it is told of."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        await network.close_peer(conn.muxed_conn.peer_id)
        self.events.append("banned")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self.events.append("disconnected")


class Slow(Notifee):
    """Takes longer than the transport waits for a canceled `on_close`."""

    def __init__(self, *, connected: bool = False, disconnected: bool = False) -> None:
        self._waits = {"connected": connected, "disconnected": disconnected}
        self.begun: list[str] = []
        self.done: list[str] = []
        self.may_end = trio.Event()

    async def _told(self, event: str) -> None:
        self.begun.append(event)
        if self._waits[event]:
            await self.may_end.wait()
        self.done.append(event)

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        await self._told("connected")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        await self._told("disconnected")


async def connect(host: IHost, other: IHost) -> None:
    await host.connect(PeerInfo(other.get_id(), list(other.get_addrs())))


async def test_a_notifee_may_close_the_connection_that_it_is_told_of() -> None:
    async with near_host(IP4) as host, near_host() as other:
        banning = Banning()
        swarm(host).register_notifee(banning)
        # The dial may have waited for a refusal.
        with trio.fail_after(PATIENCE), suppress(DialError):
            dialed = await transport_of(other).dial(host.get_addrs()[0])
            await dialed.closed()
        assert await eventually(lambda: sorted(banning.events) == ["banned", "disconnected"])
        assert await eventually(lambda: not connections_of(transport_of(host)))
        assert await eventually(lambda: swarm(host)._inbound_limiter.borrowed_tokens == 0)


async def test_a_slow_notifee_of_the_end_is_not_canceled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p_quic._connection._ON_CLOSE_BOUND", 0.1)
    async with near_host(IP4) as host, near_host() as other:
        slow = Slow(disconnected=True)
        swarm(host).register_notifee(slow)
        await connect(other, host)
        await inbound(host, other.get_id())
        await other.disconnect(host.get_id())
        assert await eventually(lambda: "disconnected" in slow.begun)
        # The slot is free meanwhile.
        assert await eventually(lambda: swarm(host)._inbound_limiter.borrowed_tokens == 0)
        assert "disconnected" not in slow.done
        slow.may_end.set()
        assert await eventually(lambda: "disconnected" in slow.done)


async def test_a_slow_notifee_of_the_end_does_not_hold_up_a_canceled_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libp2p_quic._connection._ON_CLOSE_BOUND", 0.1)
    slow = Slow(disconnected=True)
    with trio.fail_after(PATIENCE):
        async with near_host() as other:
            with trio.CancelScope() as scope:
                async with near_host(IP4) as host:
                    swarm(host).register_notifee(slow)
                    await connect(other, host)
                    await inbound(host, other.get_id())
                    await other.disconnect(host.get_id())
                    assert await eventually(lambda: "disconnected" in slow.begun)
                    scope.cancel()
    assert "disconnected" not in slow.done


async def test_a_slow_notifee_of_the_beginning_is_not_canceled_when_the_peer_leaves() -> None:
    async with near_host(IP4) as host, near_host() as other:
        slow = Slow(connected=True)
        swarm(host).register_notifee(slow)
        dialed = await transport_of(other).dial(host.get_addrs()[0])
        assert await eventually(lambda: "connected" in slow.begun)
        await dialed.close()
        assert await eventually(lambda: "disconnected" in slow.done)
        slow.may_end.set()
        assert await eventually(lambda: "connected" in slow.done)
        assert await eventually(lambda: not connections_of(transport_of(host)))
