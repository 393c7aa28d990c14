"""The forms in which libp2p programs store keys: reads any of them, and writes each.

The package's `Identity` reads a form that is known; this module finds out which one a file has.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

from libp2p_quic._der import BIT_STRING, INTEGER, OID, SEQUENCE, DerReader
from libp2p_quic._exception_types import HostKeyError
from libp2p_quic._identity import Identity
from libp2p_quic._pem import ECDSA, ED25519, RSA, SECP256K1, key_of_protobuf, pem_of_private_key

# What `written` makes. "secret" is the bare secret of 32 bytes.
FORMS = ("protobuf", "pem", "base64", "hex", "json", "ipfs", "secret")
BINARY_FORMS = ("protobuf", "secret")
SECRET_TYPES = ("ed25519", "secp256k1")

_SECRET_SIZE = 32
_TYPES = {RSA: "RSA", ED25519: "Ed25519", SECP256K1: "secp256k1", ECDSA: "ECDSA"}
_PUBLIC_SIZES = {ED25519: 32, SECP256K1: 33}
_CURVES = {
    bytes.fromhex("2a8648ce3d030107"): "P-256",
    bytes.fromhex("2b81040022"): "P-384",
    bytes.fromhex("2b81040023"): "P-521",
}


def private_key(data: bytes, secret_type: str | None = None) -> tuple[Identity, str]:
    """The private key in ``data``, in any form, and the name of the form.

    A bare secret of 32 bytes, as bytes or in hex, does not tell its type: ``secret_type`` does.
    Raises HostKeyError with the reason.
    """
    text = _text(data)
    if text.startswith("{"):
        return Identity.from_json(text), "json"
    if "-----BEGIN" in text:
        return Identity.from_pem(text), "pem"
    raw, form = (_hex(text), "hex") if _hex(text) is not None else (data, "protobuf")
    assert raw is not None
    if len(raw) == _SECRET_SIZE:
        if secret_type is None:
            raise HostKeyError(
                "a secret of 32 bytes does not tell its type: add --secret-type ed25519 or secp256k1"
            )
        return Identity.from_secret(secret_type, raw), "secret"
    if form == "protobuf" and text:
        return Identity.from_base64(text), "base64"
    return Identity.from_protobuf(raw), form


def public_key(data: bytes) -> bytes:
    """The PublicKey protobuf in ``data``: the message itself, in base64 or in hex. Raises ValueError."""
    text = _text(data)
    decoded = _hex(text)
    if decoded is None:
        decoded = b64decode("".join(text.split()), validate=True) if text else data
    key_type, key = key_of_protobuf(decoded)
    # A private key's message has the same fields. Those of RSA and ECDSA do not parse as public keys.
    if key_type in _PUBLIC_SIZES and len(key) != _PUBLIC_SIZES[key_type]:
        raise ValueError(f"a public key of {_TYPES[key_type]} does not have {len(key)} bytes")
    description(decoded)
    return decoded


def written(identity: Identity, form: str) -> bytes:
    """The private key in a form of FORMS. Raises HostKeyError if the form cannot hold it."""
    message = identity.to_protobuf()
    if form == "protobuf":
        return message
    if form == "pem":
        return pem_of_private_key(message).encode()
    if form == "hex":
        return f"{message.hex()}\n".encode()
    encoded = b64encode(message).decode()
    if form == "base64":
        return f"{encoded}\n".encode()
    if form == "json":
        public = b64encode(identity.public_key).decode()
        return _json({"id": str(identity.peer_id), "privKey": encoded, "pubKey": public})
    if form == "ipfs":
        return _json({"Identity": {"PeerID": str(identity.peer_id), "PrivKey": encoded}})
    key_type, data = key_of_protobuf(message)
    if key_type not in (ED25519, SECP256K1):
        raise HostKeyError(f"an {_TYPES[key_type]} key is not a secret of 32 bytes: use another form, as pem")
    return data[:_SECRET_SIZE]


def description(public: bytes) -> str:
    """Type and size of a PublicKey protobuf: "Ed25519", "ECDSA on P-256", "RSA of 2048 bits".

    Raises ValueError if it is not a key of libp2p.
    """
    key_type, data = key_of_protobuf(public)
    if key_type == RSA:
        bits = _subject_public_key(data)[1]
        modulus = DerReader(DerReader(bits).take(SEQUENCE)).take(INTEGER)
        return f"RSA of {int.from_bytes(modulus, 'big').bit_length()} bits"
    if key_type == ECDSA:
        algorithm = DerReader(_subject_public_key(data)[0])
        algorithm.take(OID)
        curve = algorithm.take(OID)
        return f"ECDSA on {_CURVES.get(curve, curve.hex())}"
    if key_type not in _TYPES:
        raise ValueError(f"libp2p has no key type {key_type}")
    return _TYPES[key_type]


def _subject_public_key(der: bytes) -> tuple[bytes, bytes]:
    """Algorithm and key of a SubjectPublicKeyInfo (RFC 5280 section 4.1)."""
    fields = DerReader(DerReader(der).take(SEQUENCE))
    algorithm = fields.take(SEQUENCE)
    # The first byte of a BIT STRING counts its unused bits.
    return algorithm, fields.take(BIT_STRING)[1:]


def _text(data: bytes) -> str:
    """The ASCII text of ``data``; nothing for bytes that are no text, as a protobuf."""
    if not data.isascii() or any(byte < 0x20 and byte not in b"\t\r\n" for byte in data):
        return ""
    return data.decode("ascii").strip()


def _hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) if text else None
    except ValueError:
        return None


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
