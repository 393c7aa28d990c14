"""What both ends of a connection agreed on in the TLS handshake, by the names of IANA's registry."""

from __future__ import annotations

from typing import NamedTuple

from libp2p_quic._engine import Connection


class TLSParameters(NamedTuple):
    """The negotiated parameters of a connection's TLS session. Its version is always 1.3. Use the fields by
    name: later versions may add some.
    """

    cipher_suite: str
    """What protects the packets: "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384" or
    "TLS_CHACHA20_POLY1305_SHA256"."""
    key_exchange: str
    """The group of the key exchange: "X25519MLKEM768", which is post-quantum, or "x25519", "secp256r1",
    "secp384r1"."""
    alpn: str
    """The application protocol (RFC 7301): "libp2p"."""


def tls_parameters(engine: Connection) -> TLSParameters:
    """Those of a connection whose handshake has completed."""
    found = engine.tls
    assert found is not None
    return TLSParameters(*found)
