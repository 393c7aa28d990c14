"""Reads private keys from PEM (RFC 7468) into libp2p's PrivateKey protobuf, and writes them.

Read are PKCS#8 (RFC 5958) with Ed25519, EC or RSA, PKCS#1 "RSA PRIVATE KEY" and SEC 1 "EC PRIVATE KEY".
Written is PKCS#8. The engine checks the keys; this module only unpacks and packs them. Encrypted PEM is
refused.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode

from libp2p_quic._der import INTEGER, NULL, OCTET_STRING, OID, PARAMETERS, SEQUENCE, DerReader, write
from libp2p_quic._engine import ed25519_private_key
from libp2p_quic._protobuf import fields, varint

# Types of libp2p's PrivateKey protobuf (peer-ids spec, "Keys").
RSA, ED25519, SECP256K1, ECDSA = 0, 1, 2, 3

# Object identifiers in DER.
_OID_RSA = bytes.fromhex("2a864886f70d010101")
_OID_EC = bytes.fromhex("2a8648ce3d0201")
_OID_ED25519 = bytes.fromhex("2b6570")
_OID_SECP256K1 = bytes.fromhex("2b8104000a")

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL)
_SECP256K1_SIZE = 32
_ED25519_SEED_SIZE = 32
_VERSION = write(INTEGER, b"\0")


def protobuf(key_type: int, data: bytes) -> bytes:
    """libp2p's PrivateKey message of a type and the data that belong to it."""
    return bytes([0x08, key_type, 0x12]) + varint(len(data)) + data


def private_key_of_pem(text: str) -> bytes:
    """The PrivateKey protobuf of the first private key in ``text``. Raises ValueError."""
    block = _BLOCK.search(text)
    if block is None:
        raise ValueError("no PEM block of a private key")
    label, body = block.groups()
    if label == "ENCRYPTED PRIVATE KEY" or "ENCRYPTED" in body:
        raise ValueError("the PEM is encrypted: decrypt it first, as with openssl pkey -in FILE")
    der = b64decode("".join(body.split()), validate=True)
    if label == "RSA PRIVATE KEY":
        return protobuf(RSA, der)
    if label == "EC PRIVATE KEY":
        return _ec(der, None)
    if label == "PRIVATE KEY":
        return _pkcs8(der)
    raise ValueError(f"PEM of the kind {label!r} is not supported")


def _pkcs8(der: bytes) -> bytes:
    fields = DerReader(DerReader(der).take(SEQUENCE))
    fields.take(INTEGER)
    algorithm = DerReader(fields.take(SEQUENCE))
    name = algorithm.take(OID)
    key = fields.take(OCTET_STRING)
    if name == _OID_ED25519:
        return ed25519_private_key(DerReader(key).take(OCTET_STRING))
    if name == _OID_RSA:
        return protobuf(RSA, key)
    if name == _OID_EC:
        return _ec(key, algorithm.take(OID))
    raise ValueError(f"the key's algorithm (object identifier {name.hex()} in DER) is not one of libp2p's")


def _ec(der: bytes, curve: bytes | None) -> bytes:
    """An ECPrivateKey of RFC 5915. PKCS#8 names the curve outside of it."""
    fields = DerReader(DerReader(der).take(SEQUENCE))
    fields.take(INTEGER)
    scalar = fields.take(OCTET_STRING)
    rest = fields.rest
    if rest[:1] == bytes([PARAMETERS]):
        curve = DerReader(fields.take(PARAMETERS)).take(OID)
    elif curve is not None:
        # libp2p's protobuf has no other place for the name of the curve.
        parameters = write(PARAMETERS, write(OID, curve))
        der = write(SEQUENCE, write(INTEGER, b"\1") + write(OCTET_STRING, scalar) + parameters + rest)
    if curve == _OID_SECP256K1:
        return protobuf(SECP256K1, scalar.rjust(_SECP256K1_SIZE, b"\0"))
    return protobuf(ECDSA, der)


def key_of_protobuf(message: bytes) -> tuple[int, bytes]:
    """The type and the data of a PrivateKey or PublicKey message. Raises ValueError if it is neither."""
    found = dict(fields(message))
    key_type, data = found.get(1), found.get(2)
    if not isinstance(key_type, int) or not isinstance(data, bytes):
        raise ValueError("not libp2p's protobuf of a key: it has no type or no data")
    return key_type, data


def pem_of_private_key(message: bytes) -> str:
    """The PKCS#8 PEM of a PrivateKey message that the engine accepts."""
    key_type, data = key_of_protobuf(message)
    if key_type == RSA:
        algorithm, key = write(OID, _OID_RSA) + write(NULL, b""), data
    elif key_type == ED25519:
        algorithm, key = write(OID, _OID_ED25519), write(OCTET_STRING, data[:_ED25519_SEED_SIZE])
    elif key_type == SECP256K1:
        algorithm = write(OID, _OID_EC) + write(OID, _OID_SECP256K1)
        key = write(SEQUENCE, write(INTEGER, b"\1") + write(OCTET_STRING, data))
    else:
        algorithm, key = write(OID, _OID_EC) + write(OID, _curve(data)), data
    der = write(SEQUENCE, _VERSION + write(SEQUENCE, algorithm) + write(OCTET_STRING, key))
    text = b64encode(der).decode()
    lines = "".join(f"{text[start : start + 64]}\n" for start in range(0, len(text), 64))
    return f"-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n"


def _curve(ec_private_key: bytes) -> bytes:
    fields = DerReader(DerReader(ec_private_key).take(SEQUENCE))
    fields.take(INTEGER)
    fields.take(OCTET_STRING)
    return DerReader(fields.take(PARAMETERS)).take(OID)
