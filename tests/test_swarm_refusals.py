"""Connections that py-libp2p's swarm refuses for a limit of its own: the peer gets a code, the
operator a warning and a counter.

Real hosts in the test's process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import PeerInfo
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from multiaddr import Multiaddr

from libp2p_quic import HandshakeRefusedError, QUICListener, QUICTransport, causes
from testkit.census import PATIENCE, eventually
from testkit.near import IP4, inbound, near_host, near_transport, transport_of

LIMIT = 0x1001


@asynccontextmanager
async def running(most: int | None = None, **options: Any) -> AsyncIterator[IHost]:
    """A listening host whose swarm admits ``most`` connections, all of which may be inbound."""
    if most is not None:
        options["connection_config"] = ConnectionConfig(
            max_connections=most, min_connections=0, low_watermark=0, high_watermark=most
        )
    key_pair = create_new_key_pair()
    host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)], **options)
    async with host.run(listen_addrs=[Multiaddr(IP4)]):
        yield host


async def refused(host: IHost) -> None:
    """Connect a new host to ``host``, which refuses it."""
    async with near_host() as another:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(SwarmException) as caught:
            # The refusal ends the wait, however busy the machine is.
            patch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)
            await another.connect(PeerInfo(host.get_id(), list(host.get_addrs())))
        (cause,) = causes(caught.value)
        assert isinstance(cause, HandshakeRefusedError)
        assert cause.error_code == LIMIT
        assert "connection limit" in str(cause)


def stats(host: IHost) -> dict[str, int | bool]:
    (listener,) = transport_of(host)._listeners
    assert isinstance(listener, QUICListener)
    return listener.get_stats()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [each for each in caplog.records if each.name == "libp2p_quic.listener"]
    return [each.getMessage() for each in ours if each.levelno == logging.WARNING]


async def test_the_swarms_limit_is_told_to_peer_and_operator(caplog: pytest.LogCaptureFixture) -> None:
    async with running(most=1) as host, near_host() as first:
        await first.connect(PeerInfo(host.get_id(), list(host.get_addrs())))
        await inbound(host, first.get_id())
        for _ in range(2):
            # py-libp2p dials four times.
            await refused(host)
        counts = stats(host)
        assert counts["connections_refused_by_swarm"] == counts["connections_rejected"] == 8
        (line,) = warnings(caplog)
        assert line.startswith("the host's swarm refused ")
        assert f"listening on {host.get_addrs()[0]}".removesuffix(f"/p2p/{host.get_id()}") in line
        assert "1 inbound connections and admits 1, the max_connections (1)" in line
        assert "connection_config" in line


async def test_a_limit_that_own_dials_fill_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    """The swarm adopts the connection here before it counts."""
    async with running(most=1) as host, near_host(IP4) as dialed:
        await host.connect(PeerInfo(dialed.get_id(), list(dialed.get_addrs())))
        await refused(host)
        assert stats(host)["connections_refused_by_swarm"] == 4
        assert "; 1 connections in all" in warnings(caplog)[0]


async def test_a_resource_manager_that_refuses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    # Graceful degradation is py-libp2p's own way of changing the limit.
    manager = ResourceManager(limits=ResourceLimits(max_connections=0), enable_graceful_degradation=False)
    async with running(resource_manager=manager) as host:
        await refused(host)
        assert stats(host)["connections_refused_by_swarm"] == 4
        assert "so its resource manager refused it" in warnings(caplog)[0]


async def test_a_connection_that_the_program_closes_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as host:
        dialer = near_transport()
        dialed = await dialer.dial(host.get_addrs()[0])
        await (await inbound(host, dialer._peer_id)).close()
        with trio.fail_after(20), pytest.raises(Exception, match=r"code 0x0"):
            while True:
                await dialed.accept_stream()
        await dialer.close()
        assert await eventually(lambda: not transport_of(host)._open_endpoint().connections)
        assert stats(host)["connections_refused_by_swarm"] == 0
        assert warnings(caplog) == []
