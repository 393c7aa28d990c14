"""A QUIC server with a libp2p identity that ends each handshake with a TLS alert, as one that does not accept
the dialer's certificate.

In TLS 1.3 a server sees the certificate when the dialer's handshake is complete (RFC 8446 section 2). So the
alert comes after that, here as from other servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioquic.asyncio.protocol import QuicConnectionProtocol, QuicStreamHandler
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, QuicEvent
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.transport.quic.security import CertificateGenerator

from testkit.unwilling import aioquic_server


@asynccontextmanager
async def refusing_server(alert: int, reason: str = "") -> AsyncIterator[str]:
    """Its address. It closes with the transport error code of ``alert`` (RFC 9001 section 4.8)."""
    key_pair = create_new_key_pair()
    made = CertificateGenerator().generate_certificate(
        key_pair.private_key, ID.from_pubkey(key_pair.public_key)
    )
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["libp2p"])
    configuration.certificate = made.certificate
    configuration.private_key = made.private_key

    class Refusing(QuicConnectionProtocol):
        def quic_event_received(self, event: QuicEvent) -> None:
            if isinstance(event, HandshakeCompleted):
                code = QuicErrorCode.CRYPTO_ERROR + alert
                # aioquic sends it in the same call, after its events.
                self._quic.close(code, QuicFrameType.CRYPTO, reason)

    def make(connection: QuicConnection, stream_handler: QuicStreamHandler | None = None) -> Refusing:
        return Refusing(connection, stream_handler)

    async with aioquic_server(configuration, make) as address:
        yield address
