"""Host keys without py-libp2p: made, read from the files of other libp2ps, and stored.

The engine holds the key that it signs with. This class keeps the protobuf as well, so that a program
can store a key that it made.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import TypeVar

from libp2p_quic._engine import Identity as EngineIdentity
from libp2p_quic._engine import ed25519_private_key, generate_private_key
from libp2p_quic._exception_types import HostKeyError
from libp2p_quic._peer_id import PeerId
from libp2p_quic._pem import SECP256K1, private_key_of_pem, protobuf

T = TypeVar("T")

# Names of the field with the key: go-ipfs's config file, and the JSON peer ids of js-libp2p.
_JSON_FIELDS = ("PrivKey", "privKey")


class Identity:
    """A host key, and the TLS certificate made for it. Immutable; may be used from any thread.

    Every class method raises HostKeyError with the reason; no message contains the key.
    docs/keys.md lists the types of keys.
    """

    peer_id: PeerId
    """The peer id of the key."""

    def __init__(self, private_key: bytes) -> None:
        """``private_key`` is libp2p's PrivateKey protobuf, as `from_protobuf` takes it."""
        self._engine = _read("a private key", lambda: EngineIdentity(bytes(private_key)))
        self._private_key = bytes(private_key)
        self.peer_id = PeerId(self._engine.peer_id)

    @classmethod
    def generate(cls, key_type: str = "ed25519") -> Identity:
        """A new key of the type "ed25519", "secp256k1" or "ecdsa" (on P-256).

        Ed25519 is the default, as every libp2p accepts it.
        """
        return _read("a key type", lambda: cls(generate_private_key(key_type)))

    @classmethod
    def from_protobuf(cls, data: bytes) -> Identity:
        """Read libp2p's PrivateKey protobuf, the key files of rust-libp2p and go-libp2p's
        `crypto.MarshalPrivateKey`.

        Ed25519 needs 64 or 96 bytes of key: a bare seed looks like a public key. See `from_secret`.
        """
        return cls(data)

    @classmethod
    def from_secret(cls, key_type: str, secret: bytes) -> Identity:
        """Make the key of a secret of 32 bytes: an Ed25519 seed ("ed25519"), or the scalar of a
        secp256k1 key ("secp256k1"), as Ethereum's clients store it."""
        if key_type == "ed25519":
            return _read("an Ed25519 seed", lambda: cls(ed25519_private_key(secret)))
        if key_type == "secp256k1":
            return cls(protobuf(SECP256K1, secret))
        raise HostKeyError(f'key type must be "ed25519" or "secp256k1", got {key_type!r}')

    @classmethod
    def from_pem(cls, text: str | bytes) -> Identity:
        """Read the first private key of a PEM: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC), not encrypted."""
        return _read("a PEM", lambda: cls(private_key_of_pem(_text(text))))

    @classmethod
    def from_base64(cls, text: str | bytes) -> Identity:
        """Read the protobuf in base64 (RFC 4648 section 4), as the flags of many libp2p programs."""
        return _read("base64", lambda: cls(b64decode("".join(_text(text).split()), validate=True)))

    @classmethod
    def from_json(cls, text: str | bytes) -> Identity:
        """Read a JSON object with the protobuf in base64 in "PrivKey" or "privKey", at the top or
        under "Identity": a js-libp2p peer id, or the config file of an IPFS node."""

        def read() -> Identity:
            loaded = json.loads(text)
            for each in (loaded, loaded.get("Identity")) if isinstance(loaded, dict) else ():
                for name in _JSON_FIELDS:
                    if isinstance(each, dict) and isinstance(each.get(name), str):
                        return cls.from_base64(each[name])
            raise ValueError('no text under "PrivKey" or "privKey"')

        return _read("JSON", read)

    def to_protobuf(self) -> bytes:
        """libp2p's PrivateKey protobuf, for storing the key. Its reader can act as this peer."""
        return self._private_key

    @property
    def public_key(self) -> bytes:
        """libp2p's PublicKey protobuf."""
        return self._engine.public_key

    def __repr__(self) -> str:
        return f"<Identity {self.peer_id}>"


def _read(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except HostKeyError:
        raise
    except (ValueError, TypeError) as error:
        # Without the cause: its text and its traceback may show a part of the key.
        raise HostKeyError(f"cannot read the host key from {what}: {error}") from None


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else bytes(text).decode("ascii")
