"""What a linker writes into a module about its own run, set to values that are equal in every build: the UUID
of a Mach-O file, and the times and the PDB's number in a PE file.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

# Numbers of `mach-o/loader.h`.
_MACH_O_64 = 0xFEEDFACF
_LC_UUID = 0x1B
LC_CODE_SIGNATURE = 0x1D

# Numbers of the PE format ("PE Format" in Microsoft's documentation).
_PE32_PLUS = 0x20B
_EXPORTS, _DEBUG = 0, 6
_CODE_VIEW = 2


def with_uuid(module: bytes, uuid: bytes) -> bytes:
    """A Mach-O file with that UUID, of 16 bytes, in place of its own; unchanged if it has none."""
    for kind, at in load_commands(module):
        if kind == _LC_UUID:
            return module[: at + 8] + uuid + module[at + 24 :]
    return module


def uuid_of_contents(module: bytes) -> bytes:
    """A UUID that depends on all of a Mach-O file but its own UUID and its signature."""
    end = len(module)
    for kind, at in load_commands(module):
        if kind == LC_CODE_SIGNATURE:
            (end,) = struct.unpack_from("<I", module, at + 8)
    digest = bytearray(hashlib.sha256(with_uuid(module, bytes(16))[:end]).digest()[:16])
    # The form of version 5 (RFC 9562 section 5.5).
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def load_commands(module: bytes) -> Iterator[tuple[int, int]]:
    """The kind and the offset of each load command of a Mach-O file."""
    magic, _, _, _, count = struct.unpack_from("<IIIII", module)
    if magic != _MACH_O_64:
        raise ValueError("the module is not a 64-bit Mach-O file for one processor")
    at = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", module, at)
        yield kind, at
        at += size


def without_times(module: bytes) -> bytes:
    """A PE file with zero in place of each time of linking, of the checksum, which depends on them, and of
    the number of a PDB file, which is not published. Windows compares the checksum of drivers alone.
    """
    data = bytearray(module)
    (header,) = struct.unpack_from("<I", data, 0x3C)
    options = header + 24
    if data[header : header + 4] != b"PE\0\0" or struct.unpack_from("<H", data, options)[0] != _PE32_PLUS:
        raise ValueError("the module is not a PE file for 64 bits")
    _, count, _, _, _, size = struct.unpack_from("<HHIIIH", data, header + 4)
    sections = [struct.unpack_from("<IIII", data, options + size + 40 * each + 8) for each in range(count)]

    def directory(index: int) -> tuple[int, int]:
        """The offset and the length of a data directory; no length if the file has none."""
        (known,) = struct.unpack_from("<I", data, options + 108)
        if index >= known:
            return 0, 0
        address, length = struct.unpack_from("<II", data, options + 112 + 8 * index)
        for _, start, raw_length, raw in sections:
            if start <= address < start + raw_length:
                return address - start + raw, length
        return 0, 0

    struct.pack_into("<I", data, header + 8, 0)
    struct.pack_into("<I", data, options + 64, 0)
    exports, length = directory(_EXPORTS)
    if length:
        struct.pack_into("<I", data, exports + 4, 0)
    entries, length = directory(_DEBUG)
    for entry in range(entries, entries + length, 28):
        struct.pack_into("<I", data, entry + 4, 0)
        kind, _, _, raw = struct.unpack_from("<IIII", data, entry + 12)
        if kind == _CODE_VIEW and data[raw : raw + 4] == b"RSDS":
            data[raw + 4 : raw + 20] = bytes(16)
    return bytes(data)
