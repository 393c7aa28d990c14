"""A QUIC server whose certificate expired last year, as it looks from a machine whose clock is wrong."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.transport.quic.security import LIBP2P_TLS_EXTENSION_OID, LibP2PExtensionHandler

from testkit.census import PATIENCE
from testkit.unwilling import aioquic_server

# A dialer of WebTransport takes no certificate that is valid for more than 14 days.
_VALIDITY = datetime.timedelta(days=10)


def _configuration(protocol: str) -> QuicConfiguration:
    """With a certificate that proves a libp2p identity."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    proof = LibP2PExtensionHandler().create_signed_key_extension(create_new_key_pair().private_key, public)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "expired")])
    began = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=365)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(began).not_valid_after(began + _VALIDITY)
    extension = x509.UnrecognizedExtension(LIBP2P_TLS_EXTENSION_OID, proof)
    builder = builder.add_extension(extension, critical=False)
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[protocol])
    configuration.certificate = builder.sign(key, hashes.SHA256())
    configuration.private_key = key
    return configuration


@contextmanager
def expired_server(protocol: str) -> Iterator[tuple[str, bytes]]:
    """Its address, and the multihash of its certificate. ``protocol`` is the ALPN protocol that it has."""
    configuration = _configuration(protocol)
    assert isinstance(configuration.certificate, x509.Certificate)
    encoded = configuration.certificate.public_bytes(serialization.Encoding.DER)
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, str]] = Future()

    async def main() -> None:
        over = asyncio.Event()
        async with aioquic_server(configuration) as address:
            ready.set_result((asyncio.get_running_loop(), over, address))
            await over.wait()

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(asyncio.run, main())
        loop, over, address = ready.result(PATIENCE)
        try:
            yield address, b"\x12\x20" + hashlib.sha256(encoded).digest()
        finally:
            loop.call_soon_threadsafe(over.set)
            serving.result(PATIENCE)
