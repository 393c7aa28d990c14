"""Log records for operators: limits, refusals, start and stop, also those of the engine.

Real transports. Gates are in test_peer_gates, failed listens in test_listen_failures.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import re
from collections.abc import Iterator

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import PeerInfo

from libp2p_quic import QUICTransport
from libp2p_quic._driver._log import follow_level
from libp2p_quic._engine import LogQueue
from libp2p_quic.asyncio import EndpointConfig
from libp2p_quic.exceptions import DialError
from testkit.asyncio_ends import ends
from testkit.census import census, eventually, left_since
from testkit.engine import Pair
from testkit.linked import Linked, linked, listening, transport_behind
from testkit.near import IP4, near_host, near_transport, swarm, transport_of
from testkit.relay import Relay

ENGINE = "libp2p_quic.engine"


@pytest.fixture(autouse=True)
def level_follows() -> Iterator[None]:
    yield
    follow_level()


def lines(caplog: pytest.LogCaptureFixture, level: int, name: str = "libp2p_quic") -> list[str]:
    """Lines of this level from this logger and its children."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.levelno == level and f"{each.name}.".startswith(f"{name}.")
    ]


async def test_a_limit_that_is_reached_is_a_warning_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(max_connections=1) as (listener, connections):
        dialer, address = near_transport(), listener.get_addrs()[0]
        await dialer.dial(address)
        await connections.receive()
        for _ in range(5):
            with pytest.raises(DialError):
                await dialer.dial(address)
        assert await eventually(lambda: bool(lines(caplog, logging.WARNING, ENGINE)), 10)
        (line,) = lines(caplog, logging.WARNING, ENGINE)
        assert line.startswith(
            f"connections reached max_connections = 1 (listening on {address}): 1 refused, the last"
        )
        assert "the last from /ip4/127.0.0.1/udp/" in line
        await dialer.close()


async def test_refusals_are_at_debug_with_who_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    async with listening(max_connections=1) as (listener, connections):
        dialer, address = near_transport(), listener.get_addrs()[0]
        await dialer.dial(address)
        await connections.receive()
        for _ in range(3):
            with pytest.raises(DialError):
                await dialer.dial(address)
        transport_behind(listener).deny_addresses(["127.0.0.1"])
        with pytest.raises(DialError):
            await dialer.dial(address)

        def refusals() -> list[str]:
            found = lines(caplog, logging.DEBUG, ENGINE)
            return [each for each in found if each.startswith("connection refused")]

        assert await eventually(lambda: len(refusals()) >= 4, 10)
        *for_limit, denied = refusals()
        assert len(for_limit) == 3
        assert all(
            "/ip4/127.0.0.1" in each and "max_connections = 1 is reached" in each for each in for_limit
        )
        assert "address is denied" in denied
        await dialer.close()


async def test_start_and_stop_are_at_info_and_connections_are_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    async with listening() as (listener, connections):
        (address,) = listener.get_addrs()
        dialer = near_transport()
        for _ in range(5):
            await (await dialer.dial(address)).close()
            await connections.receive()
        await dialer.close()
    assert lines(caplog, logging.INFO) == [f"listening on {address}", f"stopped listening on {address}"]
    opened = [each for each in lines(caplog, logging.DEBUG) if each.startswith(("accepted", "dialed"))]
    assert len(opened) == 10
    assert all("/ip4/127.0.0.1/udp/" in each for each in opened)


async def test_only_a_peer_that_the_gate_admitted_is_logged_as_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    answers = [False, True]
    async with listening(gate_peer=lambda _peer, _maddr: answers.pop(0)) as (listener, connections):
        denied, admitted = near_transport(), near_transport()
        await denied.dial(listener.get_addrs()[0])
        assert await eventually(lambda: listener.get_stats()["connections_gated"] == 1)
        await admitted.dial(listener.get_addrs()[0])
        peer = (await connections.receive()).peer_id
        # Those that a gate denied count, as the docstring says.
        assert listener.get_stats()["connections_accepted"] == 2
        await denied.close()
        await admitted.close()
    (line,) = [each for each in lines(caplog, logging.DEBUG) if each.startswith("accepted")]
    assert line.startswith(f"accepted {peer} at /ip4/127.0.0.1/udp/")


async def test_a_denied_peer_is_a_warning_at_intervals(caplog: pytest.LogCaptureFixture) -> None:
    async with listening(gate_peer=lambda _peer, _maddr: False) as (listener, _):
        dialer = near_transport()
        for count in range(1, 4):
            await dialer.dial(listener.get_addrs()[0])
            assert await eventually(lambda: listener.get_stats()["connections_gated"] == count)  # noqa: B023
        await dialer.close()
    (line,) = lines(caplog, logging.WARNING, "libp2p_quic.gate")
    told = rf"refused the inbound connection of {dialer._peer_id} at /ip4/127.0.0.1/udp/\d+/quic-v1: "
    assert re.fullmatch(told + r"gate_peer \(test_logging\..*<lambda>\) denied it", line)


async def test_a_dial_that_our_gate_denies_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with listening() as (listener, _):
        dialer = near_transport(gate_peer=lambda _peer, _maddr: False)
        with pytest.raises(DialError):
            await dialer.dial(listener.get_addrs()[0])
        await dialer.close()
    assert lines(caplog, logging.WARNING) == []


def test_asyncio_warns_of_a_denied_peer(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> str:
        async with ends(far=EndpointConfig(gate_peer=lambda _peer, _address: False)) as both:
            accepting = asyncio.ensure_future(both.listener.accept())
            dialed = await both.near.connect(both.address)
            await dialed.closed()
            accepting.cancel()
            return str(both.near.peer_id)

    peer = asyncio.run(main())
    (line,) = lines(caplog, logging.WARNING, "libp2p_quic.gate")
    assert line.startswith(f"refused the inbound connection of {peer} at /ip4/127.0.0.1/udp/")


@pytest.mark.parametrize("is_gated", [False, True])
def test_asyncio_logs_what_it_dials_and_accepts(caplog: pytest.LogCaptureFixture, is_gated: bool) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    gated = EndpointConfig(gate_peer=(lambda _peer, _address: True) if is_gated else None)

    async def main() -> tuple[str, str]:
        async with ends(gated, gated) as both:
            near, far = await both.connected()
            return (
                f"dialed {near.peer_id} at {both.address}",
                f"accepted {far.peer_id} at {far.remote_address}",
            )

    expected = asyncio.run(main())
    assert {(expected[0], "libp2p_quic.endpoint"), (expected[1], "libp2p_quic.listener")} == {
        (each.getMessage(), each.name)
        for each in caplog.records
        if each.getMessage().startswith(("dialed", "accepted"))
    }


async def test_a_host_that_dials_before_it_runs_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    key_pair = create_new_key_pair()
    idle = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])
    async with near_host(IP4) as running, near_host() as other:
        peer = PeerInfo(running.get_id(), list(running.get_addrs()))
        swarm(idle).retry_config.max_retries = 0
        with pytest.raises(SwarmException):
            await idle.connect(peer)
        (line,) = lines(caplog, logging.WARNING)
        assert (
            line
            == f"the host {idle.get_id()} dials and does not run: call it inside `async with host.run(...)`"
        )
        await other.connect(peer)
        await other.disconnect(peer.peer_id)
    assert lines(caplog, logging.WARNING) == [line]
    await transport_of(idle).close()


async def test_a_peer_that_moves_is_logged_with_both_addresses(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    async with listening() as (listener, connections), Relay.to(listener.get_addrs()[0]) as relay:
        dialer = near_transport()
        link = Linked(dialer, listener, await dialer.dial(relay.address), await connections.receive())
        # The handshake is confirmed, so that the peer may migrate (RFC 9000 section 9).
        await link.stream()
        before = link.accepted.get_remote_address()
        await relay.move()
        await link.stream()
        after = link.accepted.get_remote_address()
        (from_, to) = (f"/ip4/{host}/udp/{port}/quic-v1" for host, port in (before, after))
        moved = f"a peer has moved from {from_} to {to}"
        assert await eventually(lambda: lines(caplog, logging.DEBUG, ENGINE) == [moved], 10)
        await dialer.close()
        ended = f"connection to {link.accepted.peer_id} at {to} closed by the peer"
        assert await eventually(lambda: any(ended in it for it in lines(caplog, logging.DEBUG)), 10)


async def test_an_engine_record_has_the_time_and_place_of_its_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")
    async with linked() as link:
        transport_behind(link.listener).deny_addresses(["127.0.0.1"])
        with pytest.raises(DialError):
            await link.dialer.dial(link.listener.get_addrs()[0])
        assert await eventually(lambda: bool(lines(caplog, logging.DEBUG, ENGINE)), 10)
    record = next(each for each in caplog.records if each.name == ENGINE)
    other = next(each for each in caplog.records if each.name != ENGINE)
    assert abs(record.created - other.created) < 60
    assert record.filename == "incoming.rs"
    assert record.lineno > 0


async def test_a_new_level_takes_effect_with_the_next_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with linked() as link:
        address = link.listener.get_addrs()[0]
        caplog.set_level(logging.DEBUG, "libp2p_quic")
        await link.dialer.dial(address)
        transport_behind(link.listener).deny_addresses(["127.0.0.1"])
        with pytest.raises(DialError):
            await link.dialer.dial(address)
        assert await eventually(lambda: bool(lines(caplog, logging.DEBUG, ENGINE)), 10)


async def test_a_new_level_takes_effect_with_the_next_dial_also_if_it_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with linked() as link:
        transport_behind(link.listener).deny_addresses(["127.0.0.1"])
        caplog.set_level(logging.DEBUG, "libp2p_quic")
        with pytest.raises(DialError):
            await link.dialer.dial(link.listener.get_addrs()[0])
        assert await eventually(lambda: bool(lines(caplog, logging.DEBUG, ENGINE)), 10)


class Broken(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.seen += 1
        raise OSError("the disk is full")


async def test_a_handler_that_raises_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Broken()
    logging.getLogger(ENGINE).addHandler(broken)
    try:
        async with listening(max_connections=1) as (listener, connections):
            dialer, address = near_transport(), listener.get_addrs()[0]
            await dialer.dial(address)
            await connections.receive()
            with pytest.raises(DialError):
                await dialer.dial(address)
            assert await eventually(lambda: broken.seen == 1, 10)
            await dialer.close()
    finally:
        logging.getLogger(ENGINE).removeHandler(broken)
    assert "the disk is full" in capsys.readouterr().err


def refuse(pair: Pair, times: int) -> None:
    """Have the engine refuse this many dials."""
    pair.far.deny(["127.0.0.1"])
    host, port = pair.listener.local_address
    for _ in range(times):
        dialed = pair.near.connect(host, port, None)
        pair.take(dialed.closed_nowait, dialed.closed)


def test_events_that_are_not_read_are_bounded_and_counted() -> None:
    pair = Pair()
    queue = LogQueue(pair.ready_queue)
    LogQueue.set_level(logging.DEBUG)
    while queue.drain_nowait():
        pass
    refuse(pair, 1100)
    drained = queue.drain_nowait()
    assert drained is not None
    entries, lost = drained
    assert len(entries) == 1024
    assert lost >= 1100 - 1024
    assert queue.drain_nowait() is None
    pair.close()
    queue.close()


def test_events_below_the_level_are_not_queued() -> None:
    pair = Pair()
    queue = LogQueue(pair.ready_queue)
    LogQueue.set_level(logging.CRITICAL)
    while queue.drain_nowait():
        pass
    refuse(pair, 3)
    assert queue.drain_nowait() is None
    LogQueue.set_level(logging.DEBUG)
    refuse(pair, 1)
    drained = queue.drain_nowait()
    assert drained is not None
    assert {level for _, level, *_ in drained[0]} == {logging.DEBUG}
    pair.close()
    queue.close()


def test_a_run_that_is_over_leaves_nothing() -> None:
    async def main() -> None:
        async with linked():
            pass

    trio.run(main)
    gc.collect()
    before = census()
    for _ in range(3):
        trio.run(main)
    gc.collect()
    assert left_since(before) == {}
