"""The last segment of a Mach-O file, __LINKEDIT: symbols, their names, and the signature. macOS 27 loads no
module in which one of these tables begins at an offset that is no multiple of 8. Until June 2026 LLVM's
objcopy wrote no padding before the names, which half of all modules need (issue 203678 of llvm-project).
"""

from __future__ import annotations

import hashlib
import struct

from tools.wheels.identity import LC_CODE_SIGNATURE, load_commands

_LC_SYMTAB = 0x2
_LC_DYSYMTAB = 0xB
_LC_SEGMENT_64 = 0x19
_LC_DYLD_INFO = (0x22, 0x80000022)
# Those of an offset and a size alone: split info, function starts, data in code, exports, fixups.
_LC_TABLES = (0x1E, 0x26, 0x29, 0x80000033, 0x80000034)
_PAGE_OF_SEGMENT = 0x4000
"""Bytes of a page of memory on ARM; other processors have smaller ones."""


def misaligned(module: bytes) -> list[str]:
    """The tables that begin at an offset at which macOS 27 refuses them."""
    found = []
    for name, offset, alignment in _tables(module):
        if offset % alignment:
            found.append(f"{name} at {offset}")
    return found


def _tables(module: bytes) -> list[tuple[str, int, int]]:
    """The name, the offset and the needed alignment of each table that is not empty."""
    found = []
    for kind, at in load_commands(module):
        if kind == _LC_SYMTAB:
            found.append(("symbols", *_pair(module, at + 8, 8)))
            found.append(("names of symbols", *_pair(module, at + 16, 8)))
        elif kind == LC_CODE_SIGNATURE:
            found.append(("signature", *_pair(module, at + 8, 16)))
        elif kind == _LC_DYSYMTAB:
            found.append(("indirect symbols", *_pair(module, at + 56, 4)))
        elif kind in _LC_DYLD_INFO:
            for index, name in enumerate(("rebasing", "binding", "weak binding", "lazy binding", "exports")):
                found.append((name, *_pair(module, at + 8 + 8 * index, 8)))
        elif kind in _LC_TABLES:
            found.append((f"table of command {kind:#x}", *_pair(module, at + 8, 8)))
    return [(name, offset, alignment) for name, offset, alignment, size in found if size]


def _pair(module: bytes, at: int, alignment: int) -> tuple[int, int, int]:
    offset, size = struct.unpack_from("<II", module, at)
    return offset, alignment, size


def aligned(module: bytes) -> bytes:
    """The module with padding before the names of its symbols if they need it. If it was signed, it is then
    signed again.

    ValueError if something else than the signature follows the names.
    """
    commands = dict(load_commands(module))
    symbols = commands.get(_LC_SYMTAB)
    if symbols is None:
        return module
    begin, size = struct.unpack_from("<II", module, symbols + 16)
    if not (size and begin % 8):
        return module
    signing = commands.get(LC_CODE_SIGNATURE)
    end = len(module) if signing is None else struct.unpack_from("<I", module, signing + 8)[0]
    if not begin + size <= end < begin + size + 16:
        raise ValueError(f"{end - begin - size} bytes follow the names of the symbols")
    moved = begin + -begin % 8
    data = bytearray(module[:begin].ljust(moved, b"\0") + module[begin : begin + size])
    struct.pack_into("<I", data, symbols + 16, moved)
    if signing is None:
        _resize(data, len(data))
        return bytes(data)
    data += bytes(-len(data) % 16)
    old = module[end:]
    start = _directory(old)
    # What is before the hashes stays: flags, and the name that was signed.
    hashes, log_of_page = struct.unpack_from(">I", old, start + 16)[0], old[start + 39]
    count = -(-len(data) >> log_of_page)
    length = start + hashes + 32 * count
    length += -length % 16
    struct.pack_into("<II", data, signing + 8, len(data), length)
    _resize(data, len(data) + length)
    signature = bytearray(old[: start + hashes])
    struct.pack_into(">I", signature, 4, length)
    struct.pack_into(">I", signature, start + 4, length - start)
    struct.pack_into(">II", signature, start + 28, count, len(data))
    for at in range(0, len(data), 1 << log_of_page):
        signature += hashlib.sha256(data[at : at + (1 << log_of_page)]).digest()
    return bytes(data + signature.ljust(length, b"\0"))


def _directory(signature: bytes) -> int:
    """Where the code directory begins in a signature (`cs_blobs.h` of XNU); ValueError unless it is alone and
    has SHA-256.
    """
    count, kind, start = struct.unpack_from(">III", signature, 8)
    if (count, kind, signature[start + 36], signature[start + 37]) != (1, 0, 32, 2):
        raise ValueError("the signature is not what objcopy writes")
    return int(start)


def _resize(data: bytearray, end: int) -> None:
    """Let the segment reach to the end of the file, at `end`."""
    for kind, at in load_commands(bytes(data)):
        if kind == _LC_SEGMENT_64 and data[at + 8 : at + 24].rstrip(b"\0") == b"__LINKEDIT":
            memory, offset, _ = struct.unpack_from("<QQQ", data, at + 32)
            size = end - offset
            if size > memory:
                memory = size + -size % _PAGE_OF_SEGMENT
            struct.pack_into("<QQQ", data, at + 32, memory, offset, size)
            return
    raise ValueError("the module has no segment __LINKEDIT")
