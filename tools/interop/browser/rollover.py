"""Finds a host key whose web certificate is replaced soon, by trying keys: so a real change can be seen at once.

The engine derives the time of the change from the key, as crates/engine/src/tls/web_certificate.rs says. If
that changes, no certificate is replaced at the promised time, and the case of tools/interop/browser is red.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools

VALIDITY = 14 * 24 * 60 * 60
CLOCK_SKEW = 60 * 60
PERIOD = VALIDITY - 2 * CLOCK_SKEW

_DOMAIN = b"libp2p-quic derived secrets v1"
_LABEL = b"webtransport certificate offset"


def renewal(seed: bytes, now: int) -> int:
    """When the certificate that the Ed25519 key ``seed`` has at ``now`` is replaced, in seconds since 1970."""
    # HKDF of RFC 5869 without a salt, as libp2p's keypairs derive secrets, and one HMAC of the engine.
    root = _hmac(_hmac(bytes(32), seed), _DOMAIN + b"\x01")
    offset = int.from_bytes(_hmac(root, _LABEL)[:4], "big") % PERIOD
    return now + PERIOD - (now - CLOCK_SKEW - offset) % PERIOD


def seed_renewed_within(begin: int, end: int, now: int) -> bytes:
    """An Ed25519 key whose certificate is replaced between these times. Tries some tens of thousands."""
    for number in itertools.count():
        seed = hashlib.sha256(b"%d %d" % (now, number)).digest()
        if begin <= renewal(seed, now) <= end:
            return seed
    raise AssertionError("unreachable")


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
