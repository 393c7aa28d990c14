"""Reads and writes the wire format of protobuf, as far as libp2p's messages use it.

A message is a list of fields here; what a field means is its reader's.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The longest varint: 64 bits, 7 in each byte.
_LONGEST_VARINT = 10


def varint(value: int) -> bytes:
    """The unsigned varint of multiformats."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(data: bytes, start: int = 0) -> tuple[int, int]:
    """The varint at ``start`` and the offset after it. Raises ValueError if ``data`` ends before."""
    value = 0
    for index in range(_LONGEST_VARINT):
        if start + index >= len(data):
            raise ValueError("the message ends inside a number")
        byte = data[start + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, start + index + 1
    raise ValueError("a number has more than 64 bits")


def field(number: int, value: bytes) -> bytes:
    """A field with bytes or text."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: an int for a varint, bytes for the others, in their order.

    Raises ValueError for a message that is not protobuf.
    """
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = read_varint(message, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = read_varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {kind}")
        if size > len(message) - position:
            raise ValueError(f"field {number} is longer than the message")
        yield number, message[position : position + size]
        position += size
