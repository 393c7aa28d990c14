"""Finds a host key whose web certificate is replaced soon, by trying keys, to wait for a real change.

The engine derives the time of the change from the key, as crates/engine/src/tls/web_certificate.rs says. If
that changes, no certificate is replaced at the promised time, and the case of tools/interop/browser is red.
"""

from __future__ import annotations

import hmac
import os
import time

VALIDITY = 14 * 24 * 60 * 60
CLOCK_SKEW = 60 * 60
PERIOD = VALIDITY - 2 * CLOCK_SKEW

_DOMAIN = b"libp2p-quic derived secrets v1"
_LABEL = b"webtransport certificate offset"


def renewal(seed: bytes, now: float) -> int:
    """When the certificate of the Ed25519 key ``seed`` is next replaced, in seconds since 1970."""
    # HKDF of RFC 5869 without a salt, as libp2p's keypairs derive secrets, and one HMAC of the engine.
    root = _hmac(_hmac(bytes(32), seed), _DOMAIN + b"\x01")
    offset = int.from_bytes(_hmac(root, _LABEL)[:4], "big") % PERIOD
    return int(now) + PERIOD - (int(now) - CLOCK_SKEW - offset) % PERIOD


def seed_renewed_in(least: float, most: float) -> bytes:
    """An Ed25519 key whose certificate is replaced in ``least`` to ``most`` seconds from the return.

    Some ten seconds apart it tries some hundred thousand keys, which takes seconds.
    """
    while True:
        seed = os.urandom(32)
        now = time.time()
        if least <= renewal(seed, now) - now <= most:
            return seed


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")
