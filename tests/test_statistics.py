"""Statistics are right: the counters of connections and listeners match what happened."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from libp2p_quic import QUICListener, QUICTransport
from libp2p_quic.exceptions import HandshakeRefusedError, PeerIdMismatchError
from testkit.census import eventually
from testkit.h3 import call
from testkit.linked import Linked, linked, listening, transport_behind
from testkit.near import IP4, near_host, near_transport, swarm, transport_of
from testkit.payload import MIB, payload

REJECTED = ("connections_refused", "connections_gated", "handshakes_refused")


async def counts(listener: QUICListener, **expected: int) -> None:
    """Wait for these counters; all others must be zero."""

    def counted() -> dict[str, int]:
        stats = listener.get_stats()
        return {name: stats[name] for name in (*REJECTED, "handshakes_failed", "connections_rejected")}

    wanted = dict.fromkeys(counted(), 0) | expected
    await eventually(lambda: counted() == wanted, 10)
    assert counted() == wanted


# Connections


async def close_here(link: Linked) -> None:
    await link.dialed.close()


async def close_there(link: Linked) -> None:
    await link.accepted.close()


async def close_transport(link: Linked) -> None:
    await link.dialer.close()


@pytest.mark.parametrize("end", [close_here, close_there, close_transport])
@pytest.mark.parametrize("is_writing", [False, True])
async def test_congestion_window_of_a_closed_connection_is_its_last(end: Any, is_writing: bool) -> None:
    async with linked() as link:
        ours, _ = await link.stream()
        if is_writing:
            with trio.move_on_after(5):
                await ours.write(bytes(4 * MIB))
        window = link.dialed.statistics().congestion_window
        await end(link)
        assert await eventually(lambda: link.dialed.is_closed and link.accepted.is_closed, 10)
        for connection in (link.dialed, link.accepted):
            statistics = connection.statistics()
            # A hundred times the bytes of these paths.
            assert statistics.congestion_window < 100 * max(window, MIB)
            assert statistics.congestion_window >= 2400


async def test_a_snapshot_has_what_was_transferred() -> None:
    async with linked() as link:
        before = link.dialed.statistics()
        ours, theirs = await link.stream()
        sent = payload(1, 4 * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, sent)
            received = 0
            while received < len(sent):
                received += len(await theirs.read(MIB))
        # A snapshot may be 10 ms old.
        await eventually(lambda: link.dialed.statistics().bytes_sent > len(sent))
        await eventually(lambda: link.accepted.statistics().bytes_received >= len(sent))
        near, far = link.dialed.statistics(), link.accepted.statistics()
    assert before.bytes_sent < near.bytes_sent
    assert near.bytes_sent > len(sent) <= far.bytes_received
    assert near.datagrams_sent >= near.sends > 0
    assert near.packets_sent >= near.datagrams_sent
    assert near.min_rtt > 0
    assert 0 < near.handshake < 20
    assert near.mtu >= 1200
    # Loopback carries marks.
    assert near.ecn == "capable"
    assert (near.streams_opened, near.streams_accepted) == (1, 0)
    assert (far.streams_opened, far.streams_accepted) == (0, 1)
    assert far.receive_window >= 32 * 1024


async def test_streams_and_bytes_that_wait_are_counted() -> None:
    async with linked() as link:
        opened = [await link.dialed.open_stream() for _ in range(3)]
        for each in opened:
            await each.write(bytes(1000))
        assert await eventually(lambda: link.accepted.statistics().streams_waiting == 3)
        stream = await link.accepted.accept_stream()
        assert link.accepted.statistics().streams_waiting == 2
        assert await eventually(lambda: link.accepted.statistics().receive_held > 3000)
        assert await stream.read(1000) == bytes(1000)
        assert await eventually(lambda: link.accepted.statistics().receive_held < 3000)


async def test_keep_alives_are_counted() -> None:
    async with linked(near={"keep_alive_interval": 0.05}) as link:
        assert await eventually(lambda: link.dialed.statistics().keep_alives_sent >= 3)
        assert link.accepted.statistics().keep_alives_sent == 0
        assert link.dialer.statistics().keep_alives_sent >= 3


async def test_the_last_packet_of_a_connection_counts() -> None:
    """CONNECTION_CLOSE is sent after the connection is over for the program."""
    async with linked() as link:
        before = link.dialed.statistics().datagrams_sent
        await link.dialed.close()
        assert await eventually(lambda: link.dialed.statistics().datagrams_sent > before)
        assert await eventually(lambda: link.dialed.statistics().streams_open == 0)


async def test_a_snapshot_does_not_change() -> None:
    async with linked() as link:
        snapshot = link.dialed.statistics()
        with pytest.raises(AttributeError):
            snapshot.rtt = 0.0  # type: ignore[misc]


# Listeners


async def refused(dialer: QUICTransport, address: Multiaddr, times: int) -> None:
    for _ in range(times):
        with pytest.raises(HandshakeRefusedError):
            await dialer.dial(address)


async def test_a_refused_connection_counts_once_however_many_datagrams_its_dial_took() -> None:
    async with listening(max_connections=1) as (listener, connections):
        dialer, address = near_transport(), listener.get_addrs()[0]
        await dialer.dial(address)
        await connections.receive()
        await refused(dialer, address, 5)
        await counts(listener, connections_refused=5, connections_rejected=5)
        assert listener.get_stats()["connections_accepted"] == 1
        await dialer.close()


async def test_a_denied_address_counts_once_for_each_dial() -> None:
    async with listening() as (listener, _):
        transport_behind(listener).deny_addresses(["127.0.0.1"])
        dialer = near_transport()
        await refused(dialer, listener.get_addrs()[0], 3)
        await counts(listener, connections_refused=3, connections_rejected=3)
        await dialer.close()


async def test_a_gated_peer_counts() -> None:
    async with listening(gate_peer=lambda _peer, _maddr: False) as (listener, _):
        dialer = near_transport()
        for _ in range(3):
            await dialer.dial(listener.get_addrs()[0])
        await counts(listener, connections_gated=3, connections_rejected=3)
        await dialer.close()


async def test_a_peer_that_the_swarms_gate_denies_counts() -> None:
    async with near_host(IP4) as host:
        swarm(host).connection_gate.add_to_deny_list("127.0.0.1")
        dialer = near_transport()
        await dialer.dial(host.get_addrs()[0])
        (listener,) = transport_of(host)._listeners
        await counts(listener, connections_gated=1, connections_rejected=1)
        await dialer.close()


async def test_a_peer_without_a_certificate_counts_as_rejected() -> None:
    async with listening() as (listener, _):
        port = int(listener.get_addrs()[0].value_for_protocol("udp") or 0)
        await call(
            ("127.0.0.1", port), QuicConfiguration(alpn_protocols=["libp2p"], verify_mode=ssl.CERT_NONE)
        )
        await counts(listener, handshakes_failed=1, handshakes_refused=1, connections_rejected=1)


async def test_a_dialer_that_refuses_us_is_not_rejected() -> None:
    async with listening() as (listener, _):
        dialer, other = near_transport(), ID.from_pubkey(create_new_key_pair().public_key)
        with pytest.raises(PeerIdMismatchError):
            await dialer.dial(Multiaddr(f"{listener.get_addrs()[0]}/p2p/{other}"))
        await counts(listener, handshakes_failed=1)
        await dialer.close()
