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
from testkit.payload import MIB

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
        window = link.dialed.statistics()["congestion_window"]
        await end(link)
        assert await eventually(lambda: link.dialed.is_closed and link.accepted.is_closed, 10)
        for connection in (link.dialed, link.accepted):
            statistics = connection.statistics()
            # A hundred times the bytes of these paths.
            assert statistics["congestion_window"] < 100 * max(window, MIB)
            assert statistics["congestion_window"] >= 2400


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
