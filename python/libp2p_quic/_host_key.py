"""Checks the type of the host's private key and encodes it for the engine.

py-libp2p writes an Ed25519 private key as its 32-byte seed, and the protobuf of a 32-byte public key
looks the same. So the engine takes the 64 bytes of the libp2p peer id specification, seed and
public key, and verifies that they belong together.
"""

from __future__ import annotations

from libp2p.crypto.keys import KeyPair, KeyType, PrivateKey, PublicKey
from libp2p.crypto.pb import crypto_pb2

from libp2p_quic._engine import Identity
from libp2p_quic._engine_errors import IdentityError
from libp2p_quic.exceptions import HostKeyError, HostKeyTypeError

_ED25519_SEED = 32
_CALL = "QUICTransport(key_pair.private_key)"


def identity_of(private_key: object) -> Identity:
    """The engine's identity for ``private_key``.

    Raises HostKeyTypeError if it is not a private key, HostKeyError if the engine refuses it.
    Neither message contains the key.
    """
    if isinstance(private_key, KeyPair):
        raise HostKeyTypeError(f"QUICTransport needs the private key, got the KeyPair: {_CALL}")
    if isinstance(private_key, PublicKey):
        raise HostKeyTypeError(f"QUICTransport needs the private key, got the public key: {_CALL}")
    if not isinstance(private_key, PrivateKey):
        kind = type(private_key)
        raise HostKeyTypeError(f"QUICTransport needs a libp2p PrivateKey, got a {kind.__name__}: {_CALL}")
    try:
        return Identity(_protobuf(private_key))
    except IdentityError as error:
        raise HostKeyError(str(error)) from error


def _protobuf(key: PrivateKey) -> bytes:
    data = key.to_bytes()
    if key.get_type() is not KeyType.Ed25519 or len(data) != _ED25519_SEED:
        return key.serialize()
    both = data + key.get_public_key().to_bytes()
    return crypto_pb2.PrivateKey(key_type=crypto_pb2.KeyType.Ed25519, data=both).SerializeToString()
