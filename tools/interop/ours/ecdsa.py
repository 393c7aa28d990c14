"""ECDSA host keys for py-libp2p, which has none: classes of its interfaces on `cryptography`.

Public keys, signatures and private keys have the encodings of libp2p's peer-ids specification ("ECDSA"), as
in go-libp2p: SubjectPublicKeyInfo, DER over SHA-256, ECPrivateKey.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from libp2p.crypto.keys import KeyPair, KeyType, PrivateKey, PublicKey

_ALGORITHM = ec.ECDSA(SHA256())


class ECDSAPublicKey(PublicKey):
    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    def to_bytes(self) -> bytes:
        return self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def get_type(self) -> KeyType:
        return KeyType.ECDSA

    def verify(self, data: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, data, _ALGORITHM)
        except InvalidSignature:
            return False
        return True


class ECDSAPrivateKey(PrivateKey):
    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key

    def to_bytes(self) -> bytes:
        return self._key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def get_type(self) -> KeyType:
        return KeyType.ECDSA

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, _ALGORITHM)

    def get_public_key(self) -> ECDSAPublicKey:
        return ECDSAPublicKey(self._key.public_key())


def create_new_key_pair(curve: ec.EllipticCurve) -> KeyPair:
    private = ECDSAPrivateKey(ec.generate_private_key(curve))
    return KeyPair(private, private.get_public_key())


# The names of the key types on the command line of interop's peers.
KEYS: dict[str, Callable[[], KeyPair]] = {
    "ecdsa": partial(create_new_key_pair, ec.SECP256R1()),
    "ecdsa-p384": partial(create_new_key_pair, ec.SECP384R1()),
    "ecdsa-p521": partial(create_new_key_pair, ec.SECP521R1()),
}
