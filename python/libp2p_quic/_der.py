"""Reads and writes DER (X.690), as far as private and public keys use it."""

from __future__ import annotations

# Tags. The last one is that of an EC key's curve (RFC 5915, "parameters").
INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, PARAMETERS = 0x30, 0xA0


class DerReader:
    """Reads DER values one after another."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, tag: int) -> bytes:
        """The contents of the next value. Raises ValueError if it is not of ``tag``."""
        if len(self.rest) < 2 or self.rest[0] != tag:
            raise ValueError(f"not the DER of a key: no value with tag {tag:#04x}")
        length, start = self.rest[1], 2
        if length >= 0x80:
            start += length & 0x7F
            length = int.from_bytes(self.rest[2:start], "big")
        contents = self.rest[start : start + length]
        if len(contents) != length:
            raise ValueError("not the DER of a key: a value is longer than the data")
        self.rest = self.rest[start + length :]
        return contents


def write(tag: int, contents: bytes) -> bytes:
    """A value of ``tag``."""
    size = len(contents)
    if size < 0x80:
        return bytes([tag, size]) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + contents
