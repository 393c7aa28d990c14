"""What an address of WebTransport has beside those of QUIC: /webtransport, and texts of certificate hashes.

/certhash is a multihash in a base of multibase. Only SHA-256 is known, as in browsers. Nothing is compared
here: the engine does that. The rest of an address is in `_addr`, and for asyncio in `asyncio/address.py`.
"""

from __future__ import annotations

import binascii
from base64 import b32decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

# The addresses that browsers dial (libp2p webtransport spec, "Addressing").
WEBTRANSPORT = "quic-v1/webtransport"
# The reason of a dial without hashes.
NEEDS_CERTHASH = (
    "an address of WebTransport needs /certhash, as in the peer's own addresses; certificates of an "
    "authority are not supported"
)
# SHA-256 of 32 bytes, as a multihash begins. https://multiformats.io/multihash/
_SHA2_256 = b"\x12\x20"
_SIZE = 34


def certificate_hash_text(multihash: bytes) -> str:
    """The text that go-libp2p and js-libp2p write: base64url."""
    return "u" + urlsafe_b64encode(multihash).decode().rstrip("=")


def certificate_hashes_text(hashes: Iterable[bytes]) -> str:
    """The part of an address with these multihashes, such as "/certhash/u.../certhash/u..."."""
    return "".join(f"/certhash/{certificate_hash_text(each)}" for each in hashes)


def parse_certificate_hash(text: str) -> bytes:
    """The multihash of ``text``, in base64, base64url, base32 or base16. Raises ValueError."""
    base, digits = text[:1], text[1:]
    try:
        if base in ("u", "U", "m", "M"):
            digits = digits.rstrip("=").translate(str.maketrans("+/", "-_"))
            if not digits.replace("-", "").replace("_", "").isalnum():
                raise ValueError("not base64")
            multihash = urlsafe_b64decode(digits + "=" * (-len(digits) % 4))
        elif base in ("b", "B"):
            multihash = b32decode(digits.upper() + "=" * (-len(digits) % 8))
        elif base in ("f", "F"):
            multihash = bytes.fromhex(digits)
        else:
            raise ValueError("it is in none of the bases 16, 32 and 64")
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"/certhash/{text[:80]} is not a certificate hash: {error}") from error
    if len(multihash) != _SIZE or not multihash.startswith(_SHA2_256):
        raise ValueError(f"/certhash/{text[:80]} is not a SHA-256 multihash")
    return multihash
