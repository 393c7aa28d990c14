"""What a client of HTTP/3 can make a listener do before Noise has proven who it is.

The clients are aioquic's, which do what no browser would. `make flood` has many of them at once.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICTransport, QUICTransportConfig
from libp2p_quic._addr import QUICAddress
from libp2p_quic.exceptions import HandshakeTimeoutError
from testkit.census import eventually
from testkit.h3 import run
from testkit.relay import Relay

# RFC 9114 section 8.1.
H3_NO_ERROR, H3_FRAME_UNEXPECTED = 0x100, 0x105


@asynccontextmanager
async def listening(
    max_handshakes: int = 16,
) -> AsyncIterator[tuple[QUICTransport, QUICListener, tuple[str, int]]]:
    """A listener for browsers that keeps unproven ones for two seconds, and its socket's address."""
    config = QUICTransportConfig(CONNECTION_HANDSHAKE_TIMEOUT=2.0, max_handshakes=max_handshakes)
    transport = QUICTransport(create_new_key_pair().private_key, config)

    async def handler(_: QUICConnection) -> None:
        pytest.fail("nobody has proven anything")

    listener = transport.create_listener(handler)
    await listener.listen(Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1/webtransport"))
    address = QUICAddress.parse(listener.get_addrs()[0])
    yield transport, listener, (address.host, address.port)
    await transport.close()


def client() -> QuicConnection:
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, max_datagram_frame_size=65_536
    )
    return QuicConnection(configuration=configuration)


class Answers(H3Connection):
    """HTTP/3 over a client, which keeps the status of each answer."""

    def __init__(self, quic: QuicConnection) -> None:
        super().__init__(quic, enable_webtransport=True)
        self.statuses: list[bytes] = []
        take, quic.next_event = quic.next_event, self._next_event  # type: ignore[assignment, method-assign]
        self._take = take

    def _next_event(self) -> object:
        event = self._take()
        if event is not None:
            for each in self.handle_event(event):
                if isinstance(each, HeadersReceived):
                    self.statuses.append(dict(each.headers)[b":status"])
        return event


async def test_silent_clients_count_as_handshakes_until_their_time_is_over() -> None:
    async with listening(max_handshakes=2) as (transport, listener, address):
        ends: list[int] = []

        async def stay() -> None:
            ended = await run(client(), address)
            ends.append(ended.error_code)

        near = QUICTransport(
            create_new_key_pair().private_key, QUICTransportConfig(CONNECTION_HANDSHAKE_TIMEOUT=0.3)
        )
        quic = Multiaddr(f"/ip4/{address[0]}/udp/{address[1]}/quic-v1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay)
            nursery.start_soon(stay)
            assert await eventually(lambda: transport.statistics().handshakes_inbound == 2, 5)
            with pytest.raises(HandshakeTimeoutError):
                await near.dial(quic)
        assert ends == [H3_NO_ERROR, H3_NO_ERROR]
        assert await eventually(lambda: transport.statistics().handshakes_inbound == 0, 15)
        assert listener.get_stats()["connections_accepted"] == 0
        await near.close()


@pytest.mark.parametrize("delay", ["0ms", "60ms"])
async def test_a_session_without_noise_ends_with_the_handshake_timeout(delay: str) -> None:
    """On the longer path the listener sends its flight twice, and then probes of the path's MTU. That is more
    than three times what it got, which limits it only until TLS has validated the address (RFC 9000
    section 8.1)."""
    async with (
        listening() as (_, listener, bound),
        Relay.to(Multiaddr(f"/ip4/{bound[0]}/udp/{bound[1]}/quic-v1"), "--delay", delay) as relay,
    ):
        between = QUICAddress.parse(relay.address)
        address = (between.host, between.port)
        quic = client()
        http3 = Answers(quic)
        http3.send_headers(
            quic.get_next_available_stream_id(),
            [
                (b":method", b"CONNECT"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", b"/.well-known/libp2p-webtransport?type=noise"),
                (b":protocol", b"webtransport"),
            ],
        )
        ended = await run(quic, address)
        assert (ended.error_code, http3.statuses) == (H3_NO_ERROR, [b"200"]), (ended, listener.get_stats())
        assert listener.get_stats()["connections_accepted"] == 0
        assert listener.get_stats()["handshakes_failed"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [(b"GET", b"/", b"404"), (b"GET", b"/.well-known/libp2p-webtransport?type=noise", b"405")],
)
async def test_other_requests_are_answered(method: bytes, path: bytes, status: bytes) -> None:
    async with listening() as (_, _, address):
        quic = client()
        http3 = Answers(quic)
        fields = [(b":method", method), (b":scheme", b"https"), (b":authority", b"a"), (b":path", path)]
        http3.send_headers(quic.get_next_available_stream_id(), fields, end_stream=True)
        ended = await run(quic, address)
        assert (ended.error_code, http3.statuses) == (H3_NO_ERROR, [status])


async def test_a_violation_of_http_3_ends_the_connection_with_its_code() -> None:
    async with listening() as (_, listener, address):
        quic = client()
        http3 = Answers(quic)
        # A second SETTINGS frame (RFC 9114 section 7.2.4).
        assert http3._local_control_stream_id is not None
        quic.send_stream_data(http3._local_control_stream_id, b"\x04\x00")
        ended = await run(quic, address)
        assert ended.error_code == H3_FRAME_UNEXPECTED
        assert listener.get_stats()["handshakes_failed"] == 1
