"""The counters of transports, asyncio endpoints and the process match what their connections did."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from libp2p_quic import (
    DialError,
    EndpointStatistics,
    HandshakeRefusedError,
    QUICListener,
    QUICTransport,
    process_statistics,
)
from libp2p_quic._dial_counts import cause_of
from libp2p_quic.asyncio import Endpoint, EndpointConfig, Identity, PeerIdMismatchError
from testkit.asyncio_ends import ends, raw_streams
from testkit.census import PATIENCE, eventually
from testkit.linked import linked, listening, transport_behind
from testkit.loops import on_both, passes
from testkit.near import IP4, IP6, near_transport, with_another_peer
from testkit.payload import MIB
from testkit.unwilling import black_hole

ZERO = EndpointStatistics()


def refusals(transport: QUICTransport) -> dict[str, int]:
    """The counters of refusals that are not zero."""
    found = transport.statistics()._asdict()
    return {name: n for name, n in found.items() if name.startswith(("refused", "ignored")) and n}


def failures(transport: QUICTransport) -> dict[str, int]:
    """The causes of failed dials."""
    return {cause: n for cause, n in transport.statistics().dials_failed.items() if n}


# Connections


@pytest.mark.parametrize(("listen", "version"), [(IP4, "ip4"), (IP6, "ip6")])
async def test_connections_are_counted_while_open_and_after(listen: str, version: str) -> None:
    async with listening(listen) as (listener, connections):
        dialer, far = near_transport(), transport_behind(listener)
        dialed = [await dialer.dial(listener.get_addrs()[0]) for _ in range(3)]
        for _ in dialed:
            await connections.receive()
        near, theirs = dialer.statistics(), far.statistics()
        assert (near.connections_open, theirs.connections_open) == (3, 3)
        assert (near.dials_started, near.dials_succeeded, failures(dialer)) == (3, 3, {})
        assert getattr(near, f"dialed_{version}") == getattr(theirs, f"accepted_{version}") == 3
        assert near.handshake_times.total == near.round_trip_times.total == 3
        assert 0 < near.handshake_times.seconds < 60
        await dialed[0].close()
        assert await eventually(lambda: far.statistics().connections_open == 2)
        await dialer.close()
        assert await eventually(lambda: far.statistics().connections_open == 0)
        near, theirs = dialer.statistics(), far.statistics()
        assert near.connections_open == near.round_trip_times.total == 0
        assert near.handshake_times.total == 3
        assert near.connections_closed["local", "closed"] == 3
        assert theirs.connections_closed["peer", "closed"] == 3
        assert sum(theirs.connections_closed.values()) == 3
        assert getattr(near, f"dialed_closed_{version}") == 3
        assert getattr(theirs, f"accepted_closed_{version}") == 3


@pytest.mark.parametrize(("listen", "version"), [(IP4, "ip4"), (IP6, "ip6")])
async def test_sessions_of_webtransport_are_counted_among_all_connections(listen: str, version: str) -> None:
    async with (
        listening(f"{listen}/webtransport") as (browsers, sessions),
        listening(listen) as (listener, _),
    ):
        far, dialer = transport_behind(browsers), near_transport()
        session = await dialer.dial(browsers.get_addrs()[0])
        await sessions.receive()
        await dialer.dial(listener.get_addrs()[0])
        near, theirs = dialer.statistics(), far.statistics()
        assert getattr(near, f"dialed_{version}") == 2
        assert getattr(near, f"dialed_webtransport_{version}") == 1
        assert getattr(theirs, f"accepted_{version}") == 1
        assert getattr(theirs, f"accepted_webtransport_{version}") == 1
        assert (near.handshake_times.total, near.webtransport_handshake_times.total) == (2, 1)
        assert near.handshake_times.seconds > near.webtransport_handshake_times.seconds > 0
        assert theirs.handshake_times == theirs.webtransport_handshake_times
        await session.close()
        ended = f"accepted_closed_webtransport_{version}"
        assert await eventually(lambda: getattr(far.statistics(), ended) == 1)
        ended = f"dialed_closed_webtransport_{version}"
        assert await eventually(lambda: getattr(dialer.statistics(), ended) == 1)
        assert getattr(dialer.statistics(), f"dialed_closed_{version}") == 1
        await dialer.close()


async def test_an_endpoint_has_the_sums_of_its_connections() -> None:
    async with linked() as link:
        more = await link.dialer.dial(link.listener.get_addrs()[0])
        ours, theirs = await link.stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, bytes(MIB))
            received = 0
            while received < MIB:
                received += len(await theirs.read(MIB))
        assert link.dialer.statistics().streams_open == 1
        far = transport_behind(link.listener)
        await link.dialer.close()

        def are_equal() -> bool:
            each = [connection.statistics() for connection in (link.dialed, more)]
            total = link.dialer.statistics()
            return all(
                getattr(total, name) == sum(getattr(one, name) for one in each)
                for name in ("bytes_sent", "datagrams_sent", "packets_sent", "packets_lost", "streams_opened")
            )

        assert await eventually(are_equal)
        total = link.dialer.statistics()
        assert total.streams_open == total.handshakes_outbound == 0
        assert total.datagrams_sent >= total.batches_sent > 0
        assert total.datagrams_received >= total.batches_received > 0
        assert MIB < total.bytes_sent <= far.statistics().bytes_received
        assert total.streams_opened == far.statistics().streams_accepted == 1


async def test_budgets_are_reserved_and_returned() -> None:
    async with linked(near={"receive_budget": 2_000_000}) as link:
        held = link.dialer.statistics()
        assert held.receive_budget == 2_000_000
        assert 0 < held.receive_reserved < held.receive_budget
        assert held.send_budget >= held.send_reserved
        await link.dialed.close()
        assert await eventually(lambda: link.dialer.statistics().receive_reserved == 0)


def test_the_counters_of_several_runs_add_up() -> None:
    dialer = near_transport()

    async def run() -> None:
        async with listening() as (listener, connections):
            await dialer.dial(listener.get_addrs()[0])
            await connections.receive()

    trio.run(run)
    first = dialer.statistics()
    trio.run(run)
    both = dialer.statistics()
    assert (first.dialed_ip4, both.dialed_ip4) == (1, 2)
    assert both.bytes_sent > first.bytes_sent >= 1200
    assert both.handshake_times.total == 2
    assert both.connections_open <= 1


async def test_a_transport_that_did_nothing_has_zeros() -> None:
    assert near_transport().statistics() == ZERO


async def test_any_thread_may_ask() -> None:
    async with linked() as link:
        found: list[Any] = []

        def ask() -> None:
            found.extend([link.dialer.statistics(), link.dialed.statistics(), process_statistics()])

        thread = threading.Thread(target=ask)
        thread.start()
        await trio.to_thread.run_sync(thread.join)
        assert found[0].connections_open == 1
        assert found[1].bytes_sent > 0
        assert found[2].connections_open >= 2


# Dials


async def mismatch(dialer: QUICTransport, listener: QUICListener) -> None:
    await dialer.dial(with_another_peer(listener.get_addrs()[0]))


async def denied(dialer: QUICTransport, listener: QUICListener) -> None:
    transport_behind(listener).deny_addresses(["127.0.0.1"])
    await dialer.dial(listener.get_addrs()[0])


async def unreachable(dialer: QUICTransport, _listener: QUICListener) -> None:
    await dialer.dial(Multiaddr("/ip4/255.255.255.255/udp/4001/quic-v1"))


async def unanswered(dialer: QUICTransport, _listener: QUICListener) -> None:
    with black_hole() as address:
        await dialer.dial(Multiaddr(address))


CAUSES: dict[str, Callable[[QUICTransport, QUICListener], Any]] = {
    "peer_id_mismatch": mismatch,
    "refused": denied,
    "unreachable": unreachable,
    "timeout": unanswered,
}


@pytest.mark.parametrize("cause", CAUSES)
async def test_a_failed_dial_counts_by_its_cause(cause: str) -> None:
    async with listening() as (listener, _):
        # The other causes need a handshake.
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=0.3 if cause == "timeout" else PATIENCE)
        with pytest.raises(DialError):
            await CAUSES[cause](dialer, listener)
        counted = dialer.statistics()
        assert failures(dialer) == {cause: 1}
        assert (counted.dials_started, counted.dials_succeeded, counted.dialed_ip4) == (1, 0, 0)
        assert await eventually(lambda: dialer.statistics().handshakes_outbound == 0)
        await dialer.close()


async def test_a_dial_of_webtransport_counts_among_all_dials() -> None:
    async with listening(f"{IP4}/webtransport") as (listener, _):
        dialer = near_transport()
        (address,) = listener.get_addrs()
        await dialer.dial(address)
        with pytest.raises(DialError):
            await dialer.dial(with_another_peer(address))
        with pytest.raises(DialError):
            await dialer.dial(Multiaddr("/ip4/255.255.255.255/udp/4001/quic-v1"))
        counted = dialer.statistics()
        assert (counted.dials_started, counted.webtransport_dials_started) == (3, 2)
        assert (counted.dials_succeeded, counted.webtransport_dials_succeeded) == (1, 1)
        assert failures(dialer) == {"peer_id_mismatch": 1, "unreachable": 1}
        sessions = counted.webtransport_dials_failed
        assert {cause: n for cause, n in sessions.items() if n} == {"peer_id_mismatch": 1}
        await dialer.close()


async def test_a_dial_that_our_gate_denies_counts_as_gated() -> None:
    async with listening() as (listener, _):
        dialer = near_transport(gate_peer=lambda _peer, _maddr: False)
        with pytest.raises(DialError):
            await dialer.dial(listener.get_addrs()[0])
        assert failures(dialer) == {"gated": 1}
        await dialer.close()


def test_a_dial_that_a_gate_of_go_libp2p_denies_counts_as_gated() -> None:
    # Its program is none of the tests'.
    assert cause_of(HandshakeRefusedError("closed by the peer", 0x4741_5445)) == "gated"


async def test_a_canceled_dial_counts_as_canceled() -> None:
    dialer = near_transport()
    with black_hole() as address, trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dialer.dial, Multiaddr(address))
            assert await eventually(lambda: dialer.statistics().handshakes_outbound > 0)
            scope.cancel()
    assert failures(dialer) == {"canceled": 1}
    await dialer.close()
    assert dialer.statistics().handshakes_outbound == 0


# Refusals


async def test_refusals_count_by_what_refused() -> None:
    async with listening(max_connections=1) as (listener, connections):
        far, dialer, address = transport_behind(listener), near_transport(), listener.get_addrs()[0]
        await dialer.dial(address)
        await connections.receive()
        with pytest.raises(DialError):
            await dialer.dial(address)
        assert await eventually(lambda: refusals(far) == {"refused_connections": 1})
        far.deny_addresses(["127.0.0.1"])
        with pytest.raises(DialError):
            await dialer.dial(address)
        expected = {"refused_connections": 1, "refused_denied_address": 1}
        assert await eventually(lambda: refusals(far) == expected)
        await dialer.close()


async def test_a_gated_peer_counts_after_its_listener_is_closed_too() -> None:
    async with listening(gate_peer=lambda _peer, _maddr: False) as (listener, _):
        far, dialer = transport_behind(listener), near_transport()
        await dialer.dial(listener.get_addrs()[0])
        assert await eventually(lambda: refusals(far) == {"refused_by_gate": 1})
        await listener.close()
        assert refusals(far) == {"refused_by_gate": 1}
        await dialer.close()


# The process


async def test_the_process_has_the_sums_of_its_endpoints() -> None:
    # Endpoints of earlier tests may be ending.
    assert await eventually(lambda: gc.collect() >= 0 and process_statistics().endpoints == 0)
    before = process_statistics()
    async with linked() as link:
        during = process_statistics()
        assert during.endpoints - before.endpoints == 2
        assert during.connections_open - before.connections_open == 2
        near, far = link.dialer.statistics(), transport_behind(link.listener).statistics()
        assert during.bytes_sent - before.bytes_sent <= near.bytes_sent + far.bytes_sent
        assert during.waits > before.waits
    assert await eventually(lambda: process_statistics().endpoints == before.endpoints)
    after = process_statistics()
    assert after.connections_open == before.connections_open
    assert after.handshakes_inbound == before.handshakes_inbound
    # What an endpoint did stays after its end.
    assert after.bytes_sent >= during.bytes_sent > before.bytes_sent


# asyncio


@on_both
async def test_an_asyncio_endpoint_counts_the_same() -> None:
    async with ends(far=EndpointConfig(gate_peer=lambda _peer_id, _address: True)) as both:
        near, far = await both.connected()
        await raw_streams(near, far)
        other = both.near.peer_id
        with pytest.raises(PeerIdMismatchError):
            await both.near.connect(f"{both.listener.address}/p2p/{other}")
        counted = both.near.statistics()
        assert (counted.connections_open, counted.dialed_ip4, counted.streams_opened) == (1, 1, 1)
        assert (counted.dials_started, counted.dials_succeeded) == (2, 1)
        assert counted.dials_failed["peer_id_mismatch"] == 1
        assert both.far.statistics().streams_accepted == near.statistics().streams_opened == 1
        near.close()
        while both.far.statistics().connections_open:
            await passes(1)
        assert both.far.statistics().connections_closed["peer", "closed"] == 1
    assert both.near.statistics().dialed_closed_ip4 == 1


@on_both
async def test_an_asyncio_endpoint_counts_sessions_of_webtransport() -> None:
    async with Endpoint(Identity.generate()) as far, Endpoint(Identity.generate()) as near:
        listener = await far.listen(f"{IP4}/webtransport")
        kept = []
        for address in (f"{listener.address}/p2p/{far.peer_id}", listener.webtransport_address):
            assert address is not None
            kept.append((await near.connect(address), await listener.accept()))
        counted = near.statistics()
        assert (counted.dialed_ip4, counted.dialed_webtransport_ip4) == (2, 1)
        assert (counted.dials_started, counted.webtransport_dials_started) == (2, 1)
        assert (counted.dials_succeeded, counted.webtransport_dials_succeeded) == (2, 1)
        assert (counted.handshake_times.total, counted.webtransport_handshake_times.total) == (2, 1)
        counted = far.statistics()
        assert (counted.accepted_ip4, counted.accepted_webtransport_ip4) == (2, 1)


@on_both
async def test_an_asyncio_endpoints_gate_counts_after_its_end() -> None:
    async with ends(far=EndpointConfig(gate_peer=lambda _peer_id, _address: False)) as both:
        await both.near.connect(both.address)
        while not both.far.statistics().refused_by_gate:
            await passes(1)
    assert both.far.statistics().refused_by_gate == 1
