"""Upgrades during which the listener's NAT forgets its mappings and maps another port: the next attempt
offers the port that the relay observes then. Dials of the same kind in virtual time are in
crates/engine/tests/simulation/punching.rs.

The listener, which begins the upgrade, is a host of this process; the relay and the dialer are programs of
the NAT laboratory. Each is in a network namespace, which needs root.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.config import RelayConfig
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.relay.circuit_v2.transport import CircuitV2Transport
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching._exchange import begin_exchange
from testkit.census import eventually
from testkit.circuit import upgrades_of
from testkit.near import near_host, transport_of
from testkit.program import Line, Program, running
from testkit.routers import forget_mappings, masquerade
from tools.nat.network import PORTS, ROUTERS, Home, missing, town
from tools.nat.trial import PROGRAMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(200),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

# How long a program may take to start, or to end. Seconds.
_START = 60.0
# How long the dialer waits for a direct connection: three attempts of 5 s, and their exchanges. Seconds.
_LIMIT = 25
# Where the home is observed at first, and then after each move of its NAT.
_FIRST = f"/ip4/{ROUTERS[0]}/udp/{PORTS[0]}/quic-v1"
_LATER = [f"/ip4/{ROUTERS[0]}/udp/{port}/quic-v1" for port in (30_001, 30_002, 30_003)]


@dataclass(frozen=True)
class Meeting:
    """What became of an upgrade. ``peer``: the dialer. ``offered``: the listener's addresses in each
    exchange. ``told``: the dialer's lines, by event."""

    peer: str
    offered: list[list[str]]
    told: dict[str, Line]


async def told(program: Program, event: str, limit: float = _START) -> Line:
    return await program.line(lambda line: line.get("event") == event, limit, event)


@asynccontextmanager
async def reserving(listen: str, relay: Multiaddr) -> AsyncIterator[IHost]:
    """A host that holds a reservation at the relay, which has told it where it is observed."""
    info = info_from_p2p_addr(relay)
    async with near_host(listen) as host, AsyncExitStack() as stack:
        enable_hole_punching(host)
        protocol = CircuitV2Protocol(host)
        await stack.enter_async_context(background_trio_service(protocol))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        await host.connect(info)
        stream = await host.new_stream(info.peer_id, [PROTOCOL_ID])
        assert await CircuitV2Transport(host, protocol, RelayConfig()).reserve(stream, info.peer_id, nursery)
        await stream.close()
        anything: Any = host
        records = anything._observed_addr_manager._conn_observations
        assert await eventually(lambda: [f"{each[1]}/quic-v1" for each in records.values()] == [_FIRST])
        yield host


async def meet(moves: int, monkeypatch: pytest.MonkeyPatch) -> Meeting:
    """Upgrade a relayed connection. As each of the first ``moves`` exchanges begins, the listener's NAT maps
    the next of `_LATER`, so that the address that is offered is stale. Nothing of the upgrade is left when
    this returns."""
    with town(("drop", "drop")) as where:
        async with AsyncExitStack() as stack:

            async def start(home: Home, *arguments: str) -> Program:
                command = [*PROGRAMS["ours"], *arguments, "--listen", home.listen]
                return await stack.enter_async_context(running(home.machine.command(command)))

            relay = await start(where.relay, "relay")
            through = f"{where.relay.listen}/p2p/{(await told(relay, 'ready'))['peer']}"
            # The routes of its dials are those of the machine that this thread is in.
            stack.enter_context(where.homes[0].machine.entered())
            listens = reserving(where.homes[0].listen, Multiaddr(through))
            host = await stack.enter_async_context(listens)
            upgrades, engine = upgrades_of(host), transport_of(host)._open_endpoint().engine
            tasks = set(upgrades._scopes)
            offered: list[list[str]] = []

            async def exchange(stream: INetStream, own: list[Multiaddr]) -> tuple[list[Multiaddr], float]:
                offered.append([str(each) for each in own])
                if len(offered) <= moves:
                    port = _LATER[len(offered) - 1].split("/")[4]
                    masquerade(where.routers[0], f"to :{port}")
                    # Also what the punches of the last attempt mapped, through which the dialer would come.
                    forget_mappings(where.routers[0])
                return await begin_exchange(stream, own)

            monkeypatch.setattr("libp2p_quic._hole_punching._upgrade.begin_exchange", exchange)
            options = ["--relay", through, "--limit", str(_LIMIT), "--dial", str(host.get_id())]
            dialer = await start(where.homes[1], "home", *options)
            peer = str((await told(dialer, "ready"))["peer"])
            # After a direct connection, or the limit.
            ends = ("pinged", "unusable")
            await dialer.line(lambda line: line.get("event") in ends, _START + _LIMIT, "ping")
            exchanged = list(offered)
            await dialer.end_input()
            assert (await told(dialer, "left"))["what"] == {}
            assert await eventually(lambda: upgrades._scopes <= tasks, _START)
            assert (upgrades._beginning, upgrades._expected) == ({}, {})
            # That to the relay.
            assert await eventually(lambda: engine.census()["connections"] == 1)
            return Meeting(peer, exchanged, {str(line["event"]): line for line in dialer.lines})


async def test_the_second_attempt_offers_the_port_that_was_mapped_since_the_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "libp2p_quic.hole_punching")
    meeting = await meet(1, monkeypatch)
    assert meeting.offered == [[_FIRST], [_LATER[0]]]
    assert str(meeting.told["direct"]["address"]).startswith(_LATER[0])
    assert meeting.told["pinged"]["direct"]
    assert f"direct connection to {meeting.peer} after 2 of 3 attempts" in caplog.text


async def test_a_nat_that_maps_another_port_in_each_attempt_leaves_a_usable_relayed_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "libp2p_quic.hole_punching")
    meeting = await meet(3, monkeypatch)
    # Peers are asked again at most every 4 s. Attempts begin 5 s apart, but the second may ask late on a busy
    # machine, and the third list is then that of the second attempt.
    assert meeting.offered[:2] == [[_FIRST], [_LATER[0]]]
    assert len(meeting.offered) == 3
    assert "direct" not in meeting.told
    assert not meeting.told["pinged"]["direct"]
    assert f"no direct connection to {meeting.peer} after 3 attempts: it stays relayed" in caplog.text
