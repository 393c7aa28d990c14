"""What the configuration does to connections and packets.

Two transports in one process, without hosts. Streams are in test_configuration_streams, the object itself in
test_configuration.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import (
    QUICConnectionClosedError,
    QUICDialError,
)
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection
from testkit.census import eventually
from testkit.h3 import run
from testkit.linked import linked, listening
from testkit.near import near_transport
from testkit.payload import MIB
from testkit.relay import Relay

PEER = ID.from_pubkey(create_new_key_pair().public_key)
NEVER: dict[str, Any] = {"keep_alive_interval": None}


async def is_lost(connection: QUICConnection) -> None:
    """Wait until the connection is lost, for less than the default of the idle timeout."""
    with trio.fail_after(20), pytest.raises(QUICConnectionClosedError):
        await connection.accept_stream()


# Connections


@pytest.mark.parametrize("names", [{"idle_timeout": 1.5}, {"max_idle_timeout": 1.5, "idle_timeout": 30}])
@pytest.mark.parametrize("side", ["near", "far"])
async def test_silence_ends_a_connection_after_the_idle_timeout(names: dict[str, Any], side: str) -> None:
    sides = {"near": dict(NEVER), "far": dict(NEVER)}
    sides[side].update(names)
    began = trio.current_time()
    async with linked(**sides) as link:
        # The smaller value of both sides counts.
        await is_lost(link.dialed)
    assert trio.current_time() - began >= 1.5


@pytest.mark.slow
async def test_keep_alive_interval_keeps_a_silent_connection() -> None:
    # The timeout bounds how long other work on this machine may keep the engine from sending.
    kept: dict[str, Any] = {"idle_timeout": 4.0, "keep_alive_interval": 0.4}
    async with linked(kept, {"idle_timeout": 4.0, **NEVER}) as link:
        with trio.move_on_after(6) as scope:
            await link.dialed.accept_stream()
        assert scope.cancelled_caught
        assert link.dialed.is_established
        assert link.accepted.is_established


@pytest.fixture
async def silent() -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        await mute.bind(("127.0.0.1", 0))
        yield mute


def at(sock: trio.socket.SocketType) -> Multiaddr:
    return Multiaddr(f"/ip4/127.0.0.1/udp/{sock.getsockname()[1]}/quic-v1/p2p/{PEER}")


@pytest.mark.parametrize(
    "names",
    [
        {"CONNECTION_HANDSHAKE_TIMEOUT": 0.4},
        {"connection_timeout": 0.4},
        {"CONNECTION_HANDSHAKE_TIMEOUT": 0.4, "connection_timeout": 20},
    ],
)
async def test_handshake_timeout(silent: trio.socket.SocketType, names: dict[str, Any]) -> None:
    # A short round-trip time, so that the closing period is short, too.
    dialer = near_transport(initial_rtt=0.01, **names)
    began = trio.current_time()
    with pytest.raises(QUICDialError):
        await dialer.dial(at(silent))
    # The default is 10 s.
    assert 0.35 < trio.current_time() - began < 8
    await dialer.close()


@pytest.mark.parametrize("names", [{"linger": 2}, {"connection_close_timeout": 2}])
async def test_linger_bounds_the_delivery_after_a_close(names: dict[str, Any]) -> None:
    async with linked(names, {"STREAM_FLOW_CONTROL_WINDOW": 10_000}) as link:
        ours, _theirs = await link.stream()
        # More than the peer buffers, because it does not read.
        with trio.move_on_after(0.3):
            await ours.write(bytes(4 * MIB))
        await ours.close()
        began = trio.current_time()
        await link.dialed.close()
        await link.dialer.close()
        # Longer than by default, which is 1 s, and the peer never reads.
        assert 1.9 < trio.current_time() - began < 20


async def test_connection_close_timeout_bounds_the_wait_for_readers() -> None:
    async with linked({"CONNECTION_CLOSE_TIMEOUT": 0.4}) as link:
        over = trio.Event()
        link.dialed.on_close = as_hook(over)
        ours, theirs = await link.stream()
        await theirs.write(b"nobody reads this")
        await theirs.close()
        began = trio.current_time()
        await link.accepted.close()
        with trio.fail_after(20):
            await over.wait()
        # The default is 10 s.
        assert 0.2 < trio.current_time() - began < 8
        assert ours._has_bytes


def as_hook(event: trio.Event) -> Any:
    async def hook() -> None:
        event.set()

    return hook


async def test_max_connections_refuses_in_the_handshake() -> None:
    async with listening(max_connections=1) as (listener, connections):
        (address,) = listener.get_addrs()
        first, second = near_transport(), near_transport(initial_rtt=0.01)
        await first.dial(address)
        await connections.receive()
        with pytest.raises(QUICDialError):
            await second.dial(address)
        assert connections.statistics().current_buffer_used == 0
        await first.close()
        await second.close()


@pytest.mark.parametrize("is_disabled", [False, True])
async def test_disable_active_migration(is_disabled: bool) -> None:
    """A relay changes its port, as a NAT may, so that the peer's packets come from the new one."""
    # Short, as the test waits for it, and longer than other work on this machine delays a packet.
    short: dict[str, Any] = {"idle_timeout": 4.0, "keep_alive_interval": 0.4}
    far = {**short, "disable_active_migration": is_disabled}
    async with listening(**far) as (listener, connections), Relay.to(listener.get_addrs()[0]) as relay:
        dialer = near_transport(**short)
        dialed = await dialer.dial(relay.address)
        accepted = await connections.receive()
        before = accepted.get_remote_address()
        stream = await dialed.open_stream()
        await stream.write(b"1")
        theirs = await accepted.accept_stream()
        assert await theirs.read(1) == b"1"
        await relay.move()
        await stream.write(b"2")
        if is_disabled:
            await is_lost(accepted)
        else:
            with trio.fail_after(20):
                assert await theirs.read(1) == b"2"
            assert await eventually(lambda: accepted.get_remote_address() != before)
        await dialer.close()


@pytest.mark.parametrize(
    ("field", "off", "on"), [("enable_v1", "quic-v1", "quic"), ("enable_draft29", "quic", "quic-v1")]
)
async def test_a_version_that_is_turned_off_is_not_dialed_or_listened_on(
    field: str, off: str, on: str
) -> None:
    transport = near_transport(**{field: False})
    assert transport.protocols() == [on]
    for suffix, is_served in ((off, False), (on, True)):
        maddr = Multiaddr(f"/ip4/127.0.0.1/udp/9/{suffix}")
        assert transport.can_dial(maddr) is transport.can_listen(maddr) is is_served
    with pytest.raises(QUICDialError, match=f"/{off} is turned off"):
        await transport.dial(Multiaddr(f"/ip4/127.0.0.1/udp/9/{off}"))


# Transport parameters


async def parameters_of(**config: Any) -> QuicConnection:
    """The transport parameters of a listener, as decoded by aioquic.

    The listener refuses it, as it has no certificate, but only after it has sent them.
    """
    async with listening(**config) as (listener, _):
        port = int(listener.get_addrs()[0].value_for_protocol("udp") or 0)
        configuration = QuicConfiguration(alpn_protocols=["libp2p"], verify_mode=ssl.CERT_NONE)
        heard = QuicConnection(configuration=configuration)
        with trio.fail_after(20):
            await run(heard, ("127.0.0.1", port))
        return heard


@pytest.mark.parametrize("config", [{}, {"initial_max_streams_unidirectional": 0}])
async def test_no_unidirectional_stream_is_ever_allowed(config: dict[str, Any]) -> None:
    heard = await parameters_of(**config)
    # It has received the parameters.
    assert heard._remote_max_data > 0
    assert heard._remote_max_streams_uni == 0


async def test_transport_parameters_have_the_names_and_values_of_the_configuration() -> None:
    heard = await parameters_of(
        max_idle_timeout=21,
        initial_max_data=3_000_000,
        initial_max_stream_data_bidirectional_local=1_000_000,
        initial_max_stream_data_bidirectional_remote=2_000_000,
        initial_max_streams_bidirectional=5,
    )
    assert heard._remote_max_idle_timeout == 21
    # Every connection starts with a small window, which grows up to the configured one.
    assert heard._remote_max_data == 32_768
    # One value for both directions: the larger of the two.
    assert heard._remote_max_stream_data_bidi_local == 2_000_000
    assert heard._remote_max_stream_data_bidi_remote == 2_000_000
    assert heard._remote_max_streams_bidi == 5


# Packets


@pytest.mark.parametrize("algorithm", ["cubic", "reno", "newreno", "bbr"])
async def test_congestion_control_algorithm(algorithm: str) -> None:
    async with linked({"congestion_control_algorithm": algorithm}) as link:
        # BBR begins with a far larger window than RFC 9002's ten packets.
        assert (link.dialed.statistics().congestion_window > 100_000) is (algorithm == "bbr")


@pytest.mark.slow
async def test_initial_rtt_sets_the_first_retransmission(silent: trio.socket.SocketType) -> None:
    heard = {}
    for initial_rtt in (0.02, 0.333):
        dialer = near_transport(initial_rtt=initial_rtt, CONNECTION_HANDSHAKE_TIMEOUT=0.6)
        with pytest.raises(QUICDialError):
            await dialer.dial(at(silent))
        await dialer.close()
        heard[initial_rtt] = 0
        with trio.move_on_after(1):
            while await silent.recv(2048):
                heard[initial_rtt] += 1
    assert heard[0.02] > heard[0.333] >= 1


@pytest.mark.parametrize("size", [1200, 1300, 1452])
async def test_mtu_discovery_stops_at_max_datagram_size(size: int) -> None:
    async with linked({"max_datagram_size": size}) as link:
        ours, theirs = await link.stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, bytes(MIB))
            left = MIB
            while left:
                left -= len(await theirs.read(65_536))
        assert await eventually(lambda: link.dialed.statistics().mtu >= size - 20)
        assert link.dialed.statistics().mtu <= size
