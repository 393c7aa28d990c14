"""Invalid input and faulty peers cause an error of the documented class, in time.

The classes matter: the swarm handles subclasses of OpenConnectionError, programs catch py-libp2p's own QUIC
errors, and every error here is both.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing
from aioquic.quic.configuration import QuicConfiguration
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo, info_from_p2p_addr
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.quic.exceptions import (
    QUICConnectionClosedError,
    QUICConnectionTimeoutError,
    QUICDialError,
    QUICHandshakeError,
    QUICInvalidConfigError,
    QUICListenError,
)
from multiaddr import Multiaddr

from libp2p_quic import ConnectionClosed, QUICConnection, QUICTransport, QUICTransportConfig
from testkit.far import far_host
from testkit.names import free_port
from testkit.near import IP4, connection, inbound, near_host, near_transport, new_stream, reasons

PEER = ID.from_base58("12D3KooWNzx2uq73Er3PvFB5HaUTdUsHdeowy8FHTEU6hB9g6FZ5")


@asynccontextmanager
async def transport(**config: Any) -> AsyncIterator[QUICTransport]:
    made = near_transport(**config)
    try:
        yield made
    finally:
        await made.close()


async def ignore(connection: QUICConnection) -> None:
    """A handler that does nothing."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """The block must end by itself within this time: for an immediate end, less than the 10 s that a dial
    waits by default."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


NOT_OURS = [
    "/ip4/127.0.0.1/tcp/4001",
    "/ip4/127.0.0.1/udp/4001",
    "/dnsaddr/localhost",
    "/ip4/127.0.0.1/udp/4001/webtransport",
    f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}/p2p-circuit",
]


@pytest.mark.parametrize("text", NOT_OURS)
async def test_dialing_an_address_that_is_not_ours(text: str) -> None:
    async with transport() as dialer:
        with within(8), pytest.raises(QUICDialError, match="Invalid QUIC multiaddr") as refused:
            await dialer.dial(Multiaddr(text))
        assert isinstance(refused.value, OpenConnectionError)


@pytest.mark.parametrize("text", NOT_OURS)
async def test_listening_on_an_address_that_is_not_ours(text: str) -> None:
    async with transport() as listening:
        listener = listening.create_listener(ignore)
        with within(8), pytest.raises(QUICListenError, match="Invalid QUIC multiaddr") as refused:
            await listener.listen(Multiaddr(text))
        assert isinstance(refused.value, OpenConnectionError)
        assert not listener.is_listening()
        assert listener.get_addrs() == ()


async def test_dialing_port_zero() -> None:
    async with transport() as dialer:
        with within(8), pytest.raises(QUICDialError, match="port 0"):
            await dialer.dial(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))


async def test_malformed_multiaddr() -> None:
    # A /p2p whose length runs beyond the end.
    malformed = Multiaddr(b"\x04\x7f\x00\x00\x01\x91\x02\x0f\xa1\xcc\x03\xa5\x03\x22\x01")
    async with transport() as dialer:
        assert not dialer.can_dial(malformed)
        with pytest.raises(QUICDialError, match="unreadable multiaddr"):
            await dialer.dial(malformed)
        with pytest.raises(QUICListenError, match="unreadable multiaddr"):
            await dialer.create_listener(ignore).listen(malformed)


async def test_listening_twice_with_one_listener() -> None:
    async with transport() as listening:
        listener = listening.create_listener(ignore)
        await listener.listen(Multiaddr(IP4))
        with pytest.raises(QUICListenError, match="Already listening"):
            await listener.listen(Multiaddr(IP4))
        assert listener.is_listening()


@pytest.fixture
def taken() -> Iterator[Multiaddr]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        yield Multiaddr(f"/ip4/127.0.0.1/udp/{other.getsockname()[1]}/quic-v1")


async def test_address_in_use(taken: Multiaddr) -> None:
    async with transport() as listening:
        listener = listening.create_listener(ignore)
        with within(8), pytest.raises(QUICListenError, match="in use") as refused:
            await listener.listen(taken)
        assert isinstance(refused.value, OpenConnectionError)
        assert isinstance(refused.value.__cause__, OSError)
        # The listener can be used again.
        await listener.listen(Multiaddr(IP4))


async def test_listening_on_an_address_of_another_machine() -> None:
    async with transport() as listening:
        with within(8), pytest.raises(QUICListenError, match="cannot listen on"):
            await listening.create_listener(ignore).listen(Multiaddr("/ip4/192.0.2.1/udp/0/quic-v1"))


async def test_host_survives_an_address_in_use(taken: Multiaddr) -> None:
    """The swarm skips this address and continues with the others."""
    async with near_host(str(taken), IP4) as near, far_host() as far:
        (address,) = near.get_addrs()
        assert not str(address).startswith(str(taken))
        await far.do("connect", address=str(address))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idle_timeout", -1.0),
        ("keep_alive_interval", -1.0),
        ("congestion_control_algorithm", "guess"),
        ("max_datagram_size", 10),
    ],
)
def test_invalid_configuration(field: str, value: object) -> None:
    config = QUICTransportConfig()
    setattr(config, field, value)
    with pytest.raises(QUICInvalidConfigError):
        QUICTransport(create_new_key_pair().private_key, config)


@pytest.mark.parametrize("algorithm", ["cubic", "reno", "newreno", "bbr"])
def test_names_of_congestion_control(algorithm: str) -> None:
    """py-libp2p calls it "reno", the RFCs NewReno."""
    near_transport(congestion_control_algorithm=algorithm)


@pytest.fixture
def silent() -> Iterator[Multiaddr]:
    """A socket that receives and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        yield Multiaddr(f"/ip4/127.0.0.1/udp/{mute.getsockname()[1]}/quic-v1/p2p/{PEER}")


@pytest.mark.parametrize("limit", [0.3, 1.5])
async def test_unreachable_host_within_the_handshake_timeout(silent: Multiaddr, limit: float) -> None:
    async with transport(CONNECTION_HANDSHAKE_TIMEOUT=limit) as dialer:
        began = trio.current_time()
        with pytest.raises(QUICDialError, match=r"failed to dial /ip4/127\.0\.0\.1") as refused:
            await dialer.dial(silent)
        assert isinstance(refused.value, QUICConnectionTimeoutError)
        assert re.search(rf"within {limit} s \(\d+ datagrams sent, 0 received\)", str(refused.value))
        assert isinstance(refused.value, OpenConnectionError)
        # The default is 10 s.
        assert limit * 0.9 < trio.current_time() - began < 8


async def test_nobody_listens_on_that_port() -> None:
    """The system learns it by ICMP, and the timeout's message has it. A peer that restarts causes the same
    ICMP message, so it ends no dial."""
    listening = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"
    async with far_host(listening) as far, transport(CONNECTION_HANDSHAKE_TIMEOUT=0.5) as dialer:
        (address,) = far.info.addrs
        await far.leave()
        with (
            within(8),
            pytest.raises(QUICConnectionTimeoutError, match="port unreachable: nothing listens there"),
        ):
            await dialer.dial(address)


async def test_unreachable_host_through_the_swarm(silent: Multiaddr) -> None:
    config = {"CONNECTION_HANDSHAKE_TIMEOUT": 0.2}
    async with near_host(config=config) as near:
        # The swarm tries four times, with pauses of its own between them; 10 s each by default.
        with within(30), pytest.raises(SwarmException) as refused:
            await near.connect(info_from_p2p_addr(silent))
        assert any(isinstance(each, QUICDialError) for each in reasons(refused.value))


async def test_canceled_dial_leaves_at_once(silent: Multiaddr) -> None:
    async with transport() as dialer:
        with within(8), trio.move_on_after(0.1) as scope:
            await dialer.dial(silent)
        assert scope.cancelled_caught


async def test_listener_that_answers_garbage() -> None:
    # The socket is closed last, when no task uses it.
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as garbage:
        await garbage.bind(("127.0.0.1", 0))
        async with transport(CONNECTION_HANDSHAKE_TIMEOUT=0.5) as dialer:
            await meet_garbage(dialer, garbage)


async def meet_garbage(dialer: QUICTransport, garbage: trio.socket.SocketType) -> None:
    """Dial ``garbage``, which answers with what is no answer."""
    async with trio.open_nursery() as nursery:
        answered = 0

        async def answer() -> None:
            nonlocal answered
            while True:
                data, sender = await garbage.recvfrom(2048)
                # Noise, an echo, and a long header of an unknown version.
                for reply in (b"\x00" * 40, data, b"\xc0\xff\xff\xff\xff" + data[5:]):
                    await garbage.sendto(reply, sender)
                    answered += 1

        nursery.start_soon(answer)
        port = garbage.getsockname()[1]
        with within(8), pytest.raises(QUICDialError) as refused:
            await dialer.dial(Multiaddr(f"/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{PEER}"))
        assert isinstance(refused.value, OpenConnectionError)
        assert answered
        nursery.cancel_scope.cancel()


async def test_listener_that_speaks_another_protocol(h3_listener: int) -> None:
    """A QUIC server that is no libp2p peer: no common ALPN, so TLS refuses."""
    async with transport(CONNECTION_HANDSHAKE_TIMEOUT=30) as dialer:
        with within(20), pytest.raises(QUICDialError) as refused:
            await dialer.dial(Multiaddr(f"/ip4/127.0.0.1/udp/{h3_listener}/quic-v1/p2p/{PEER}"))
        assert isinstance(refused.value, QUICHandshakeError)
        # RFC 9000 section 20.1: CRYPTO_ERROR plus the TLS alert, which is no_application_protocol. aioquic
        # 1.3, the newest for CPython 3.10, sends handshake_failure.
        alert = 120 if sys.version_info >= (3, 11) else 40
        assert refused.value.error_code == 0x100 + alert


@pytest.fixture
async def h3_listener(nursery: trio.Nursery) -> AsyncIterator[int]:
    """aioquic with ALPN h3 and an ordinary certificate, on a loopback port."""
    from testkit.h3 import serve

    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    nursery.start_soon(serve, sock, configuration)
    yield sock.getsockname()[1]
    nursery.cancel_scope.cancel()
    sock.close()


async def test_closed_transport() -> None:
    transport = near_transport()
    listener = transport.create_listener(ignore)
    await listener.listen(Multiaddr(IP4))
    (address,) = listener.get_addrs()
    await transport.close()
    await transport.close()
    assert not listener.is_listening()
    with within(8), pytest.raises(QUICDialError, match="closed") as refused:
        await transport.dial(address)
    assert str(refused.value) == f"cannot dial {address}: Transport is closed; make a new QUICTransport"
    assert isinstance(refused.value, OpenConnectionError)
    with pytest.raises(QUICListenError, match="Transport is closed"):
        transport.create_listener(ignore)
    with pytest.raises(QUICListenError, match="closed"):
        await listener.listen(Multiaddr(IP4))


@pytest.mark.parametrize("address", ["/ip4/127.0.0.1/udp/9/quic-v1", b"", None])
async def test_an_address_that_is_no_multiaddr(address: Any) -> None:
    dialer = near_transport()
    listener = dialer.create_listener(ignore)
    for method, name in ((dialer.dial, "dial"), (listener.listen, "listen")):
        with pytest.raises(TypeError, match=rf"^{name} takes a Multiaddr, got a .*: Multiaddr\('/ip4/"):
            await method(address)
    await dialer.close()


async def test_closed_connection() -> None:
    async with far_host() as far, transport() as dialer:
        connection = await dialer.dial(far.info.addrs[0])
        stream = await connection.open_stream()
        await connection.close()
        await connection.close()
        for method in (connection.open_stream, connection.accept_stream):
            with within(8), pytest.raises(QUICConnectionClosedError, match="Connection is closed") as closed:
                # Streams that the far host opened before are still accepted.
                while True:
                    await method()
            assert isinstance(closed.value, MuxedConnUnavailable)
        # Closing a closed stream is no error.
        await stream.close()
        await stream.close_write()
        await stream.reset()


@pytest.mark.parametrize("by", ["peer", "local"])
async def test_who_ended_a_connection(by: str) -> None:
    async with near_host(IP4) as far, near_host() as near:
        await near.connect(PeerInfo(far.get_id(), far.get_addrs()))
        dialed, accepted = connection(near, far.get_id()), await inbound(far, near.get_id())
        ends: list[ConnectionClosed] = []

        async def wait() -> None:
            ends.append(await dialed.closed())

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not ends
            with trio.move_on_after(0) as canceled:
                await dialed.closed()
            assert canceled.cancelled_caught
            assert not dialed.is_closed
            await (accepted if by == "peer" else dialed).close(7)
        assert [(each.by, each.kind, each.error_code) for each in ends] == [(by, "closed", 7)] * 2
        with pytest.raises(ConnectionClosed) as caught:
            await dialed.open_stream()
        assert (caught.value.by, caught.value.kind, caught.value.error_code) == (by, "closed", 7)
    # Also after the end of its host.
    assert str(await dialed.closed()) == str(caught.value)


async def test_closed_host_refuses() -> None:
    async with far_host() as far:
        near: IHost
        async with near_host() as near:
            await near.connect(far.info)
        with within(20), pytest.raises((SwarmException, OpenConnectionError)):
            await new_stream(near, far.peer_id, "/test/echo")


@pytest.mark.parametrize("method", ["dial", "listen"])
def test_another_event_loop_raises_an_error_that_names_trio(method: str) -> None:
    transport = near_transport()

    async def handler(connection: QUICConnection) -> None:
        await connection.close()

    async def main() -> None:
        if method == "dial":
            await transport.dial(Multiaddr("/ip4/127.0.0.1/udp/4001/quic-v1"))
        else:
            await transport.create_listener(handler).listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1"))

    with pytest.raises(RuntimeError, match=r"needs a trio event loop: run the program with trio\.run"):
        asyncio.run(main())


def test_a_transport_made_in_another_event_loop_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A host fails inside trio before it calls the transport."""

    async def main() -> None:
        near_transport()

    asyncio.run(main())
    (line,) = [each.getMessage() for each in caplog.records if each.name == "libp2p_quic.transport"]
    assert "the program runs asyncio" in line
    assert "trio.run(main)" in line
    caplog.clear()
    trio.run(main)
    near_transport()
    assert caplog.records == []
