"""libp2p's peer ids: the multihash, and its text forms (libp2p peer-ids spec).

Needs no py-libp2p. The engine verifies that a peer has the key of its id.
"""

from __future__ import annotations

from base64 import b32decode, b32encode
from hashlib import sha256

from libp2p_quic._exception_types import InvalidPeerIdError

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"
# Multihash codes (peer-ids spec): a key of up to 42 bytes is not hashed.
_IDENTITY = 0x00
_SHA2_256 = 0x12
_LONGEST_IDENTITY = 42
_SHA2_256_SIZE = 32
# The header of a CID version 1 with the multicodec "libp2p-key".
_CID_HEADER = bytes([0x01, 0x72])
# A SHA-256 multihash in a CID, in base 16, with its prefix: no form is longer.
_LONGEST_TEXT = 120


class PeerId:
    """The id of a peer: a hash of its public key. Immutable and hashable.

    ``str`` gives the base58 text that addresses contain, ``bytes`` the multihash.
    """

    __slots__ = ("_multihash", "_text")

    def __init__(self, multihash: bytes) -> None:
        """Raises InvalidPeerIdError if the bytes are not the multihash of a peer id."""
        self._multihash = _checked(bytes(multihash))
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """Read any text form: base58 ("12D3Koo...", "Qm..."), or a CID version 1 with the codec
        libp2p-key in base32 ("bafz..."), base36 ("k51..."), base58btc ("z...") or base16 ("f...").

        Raises InvalidPeerIdError.
        """
        if not isinstance(text, str):
            raise InvalidPeerIdError(f"a peer id is text, got a {type(text).__name__}: PeerId(multihash)?")
        if not 2 <= len(text) <= _LONGEST_TEXT:
            raise InvalidPeerIdError(f"not a peer id: {text[:_LONGEST_TEXT]!r} has {len(text)} characters")
        try:
            return cls(_decoded(text))
        except ValueError as error:
            raise InvalidPeerIdError(f"not a peer id: {text!r}: {error}") from error

    @classmethod
    def of_public_key(cls, public_key: bytes) -> PeerId:
        """The id of libp2p's PublicKey protobuf: the message itself up to 42 bytes, else its SHA-256.

        The key is not checked: `Identity` does that for a private key, and the handshake for a peer's.
        """
        data = bytes(public_key)
        if len(data) <= _LONGEST_IDENTITY:
            return cls(bytes([_IDENTITY, len(data)]) + data)
        return cls(bytes([_SHA2_256, _SHA2_256_SIZE]) + sha256(data).digest())

    def cid(self) -> str:
        """The CID version 1 in base32, the form that the specification recommends for other uses
        than addresses."""
        return "b" + _in_base32(_CID_HEADER + self._multihash)

    def __bytes__(self) -> bytes:
        return self._multihash

    def __str__(self) -> str:
        if self._text is None:
            self._text = _encoded(self._multihash, _BASE58)
        return self._text

    def __repr__(self) -> str:
        return f"PeerId.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PeerId) and other._multihash == self._multihash

    def __hash__(self) -> int:
        return hash(self._multihash)


def _checked(multihash: bytes) -> bytes:
    digest = multihash[2:]
    code, size = multihash[:2] if len(multihash) > 1 else (-1, -1)
    if size != len(digest):
        raise InvalidPeerIdError(f"a multihash is code, length and digest, got {multihash.hex()}")
    is_key = code == _IDENTITY and 0 < len(digest) <= _LONGEST_IDENTITY
    if not is_key and (code, size) != (_SHA2_256, _SHA2_256_SIZE):
        raise InvalidPeerIdError(
            f"a peer id is the SHA-256 of a public key or the key itself, got {multihash.hex()}"
        )
    return multihash


def _decoded(text: str) -> bytes:
    # Base58 text of a peer id begins with "1" (an identity multihash) or "Qm" (SHA-256).
    if text.startswith(("1", "Qm")):
        return _number(text, _BASE58)
    digits = text[1:]
    if text[0] in "bB":
        cid = b32decode(digits.upper() + "=" * (-len(digits) % 8))
    elif text[0] in "kK":
        cid = _number(digits.lower(), _BASE36)
    elif text[0] == "z":
        cid = _number(digits, _BASE58)
    elif text[0] in "fF":
        cid = bytes.fromhex(digits)
    else:
        raise ValueError("it begins with none of 1, Qm, b, k, z, f")
    if not cid.startswith(_CID_HEADER):
        raise ValueError("it is not a CID version 1 of a libp2p key")
    return cid.removeprefix(_CID_HEADER)


def _number(text: str, alphabet: str) -> bytes:
    value = 0
    for character in text:
        digit = alphabet.find(character)
        if digit < 0:
            raise ValueError(f"{character!r} is not a digit of base {len(alphabet)}")
        value = value * len(alphabet) + digit
    zeros = len(text) - len(text.lstrip(alphabet[0]))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def _encoded(data: bytes, alphabet: str) -> str:
    value = int.from_bytes(data, "big")
    digits = ""
    while value:
        value, digit = divmod(value, len(alphabet))
        digits = alphabet[digit] + digits
    return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + digits


def _in_base32(data: bytes) -> str:
    return b32encode(data).decode().rstrip("=").lower()
