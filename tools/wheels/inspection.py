"""Checks a wheel without running it: its tags, its size, what its module loads and exports, symbols,
signature and bill of materials. Each check returns what it found, or raises `Unfit` with what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path

import lief

from tools.wheels import archive, bom, linkedit
from tools.wheels.platforms import Platform

# It prints lines about empty tables, without the name of the file; what matters here raises `Unfit`.
lief.logging.disable()

LARGEST = 6_000_000
"""Bytes that a wheel may have."""

# What each system or CPython itself brings. auditwheel's policies list the same for glibc (PEP 600). musl's
# loader takes any name that begins with "libc." for itself; zig writes libc.so. A musl system may lack
# libgcc_s.
_LOADED = {
    "linux": re.compile(r"lib(c|m|pthread|dl|rt|gcc_s)\.so\.\d+|ld-linux[-\w]*\.so\.\d"),
    "macos": re.compile(
        r"/usr/lib/lib(System|charset|iconv|resolv|objc)[.\w]*\.dylib|/System/Library/Frameworks/.*"
    ),
    "musl": re.compile(r"libc\.so|libc\.musl-\w+\.so\.1"),
    "windows": re.compile(
        r"(python3|python3\d+t|kernel32|ntdll|ws2_32|bcrypt|bcryptprimitives|advapi32|userenv|iphlpapi"
        r"|crypt32|msvcrt|ucrtbase|api-ms-win-[-\w]+)\.dll",
        re.IGNORECASE,
    ),
}
_ENTRY = "PyInit__engine"
"""The function that Python calls when it imports the module."""
_FORMAT = {"linux": lief.ELF.Binary, "macos": lief.MachO.Binary, "windows": lief.PE.Binary}


class Unfit(Exception):
    """The wheel must not be published, and why."""


def tags(wheel: Path, platform: Platform) -> str:
    """The tags in the name and in the metadata (PEP 427)."""
    files = archive.read(wheel)
    found = "-".join(wheel.stem.split("-")[2:])
    metadata = next(data for name, data in files.items() if name.endswith(".dist-info/WHEEL")).decode()
    listed = re.findall(r"^Tag: (\S+)$", metadata, re.MULTILINE)
    if not (found == platform.tag and listed == [platform.tag]):
        raise Unfit(f"{wheel.name} has the tags {found} and {listed}, and must have {platform.tag}")
    return found


def size(wheel: Path) -> int:
    """Bytes of the wheel."""
    found = wheel.stat().st_size
    if found > LARGEST:
        raise Unfit(f"{wheel.name} has {found:,} bytes, and may have {LARGEST:,}")
    return found


def contents(wheel: Path) -> int:
    """How many files the wheel has. Those that Python and type checkers look for must be among them."""
    files = archive.read(wheel)
    package = {name.partition("/")[2] for name in files if name.startswith("libp2p_quic/")}
    wanted = {"__init__.py", "_engine.pyi", "py.typed", "asyncio/__init__.py"}
    if lacking := wanted - package:
        raise Unfit(f"{wheel.name} lacks libp2p_quic/{', libp2p_quic/'.join(sorted(lacking))}")
    if left := sorted(name for name in files if "__pycache__" in name):
        raise Unfit(f"{wheel.name} contains {left[0]}")
    return len(files)


def sbom(wheel: Path) -> int:
    """How many packages the software bill of materials lists (PEP 770)."""
    files = archive.read(wheel)
    boms = {name: data for name, data in files.items() if bom.is_bom(name)}
    if not any(b"quinn-proto" in data for data in boms.values()):
        raise Unfit(f"{wheel.name} has no software bill of materials that lists quinn-proto")
    for name, data in boms.items():
        if str(Path.cwd()).encode() in data:
            raise Unfit(f"{name} contains the path {Path.cwd()} of the machine that built it")
    return max(len(json.loads(data).get("components", [])) for data in boms.values())


def libraries(wheel: Path, platform: Platform) -> list[str]:
    """The libraries that the module loads. None may be foreign to the system."""
    files = archive.read(wheel)
    binary = _parsed(files, platform)
    if isinstance(binary, lief.PE.Binary):
        found = sorted(str(each.name) for each in binary.imports)
    elif isinstance(binary, lief.MachO.Binary):
        # The first is the module's own name.
        own = lief.MachO.LoadCommand.TYPE.ID_DYLIB
        found = sorted(str(each.name) for each in binary.libraries if each.command != own)
    else:
        found = sorted(map(str, binary.libraries))
    system = "musl" if platform.is_musl else platform.system
    if foreign := [name for name in found if not _LOADED[system].fullmatch(name)]:
        raise Unfit(f"{wheel.name} loads {', '.join(foreign)}, which is not a part of {system}")
    return found


def entry(wheel: Path, platform: Platform) -> int:
    """How many functions the module exports. The one that Python calls must be among them: a linker of
    another system may drop it.
    """
    binary = _parsed(archive.read(wheel), platform)
    # Mach-O puts a line before the names of C.
    entry = f"_{_ENTRY}" if platform.system == "macos" else _ENTRY
    exported = {str(each.name) for each in binary.exported_functions}
    if entry not in exported:
        raise Unfit(f"{wheel.name} does not export {entry}, which Python calls to import the module")
    return len(exported)


def no_symbols(wheel: Path, platform: Platform) -> None:
    """The module has no debug information, no local symbol, and no path of the machine that built it."""
    files = archive.read(wheel)
    binary = _parsed(files, platform)
    names = [str(each.name) for each in binary.sections]
    if left := [name for name in names if name.startswith((".debug", "__debug"))]:
        raise Unfit(f"{wheel.name} has the debug sections {left}")
    has_local = (isinstance(binary, lief.ELF.Binary) and list(binary.symtab_symbols)) or (
        isinstance(binary, lief.PE.Binary) and binary.header.numberof_symbols
    )
    if has_local:
        raise Unfit(f"{wheel.name} has a table of local symbols")
    module = files[archive.module_name(files)]
    for path in {str(Path.home()), str(Path.cwd())} - {"/", "/root"}:
        if path.encode() in module:
            raise Unfit(f"{wheel.name} contains the path {path} of the machine that built it")
    for path in re.findall(rb"/(?:root|home/\w+)/\.(?:cargo|rustup)/[\w./-]*", module):
        raise Unfit(f"{wheel.name} contains the path {path.decode()} of the machine that built it")


def signature(wheel: Path, platform: Platform) -> None:
    """macOS on ARM loads only modules whose pages have the hashes of their signature, and macOS 27 only those
    whose tables are aligned. Other systems need neither.
    """
    if platform.system != "macos":
        return
    files = archive.read(wheel)
    binary, module = _parsed(files, platform), files[archive.module_name(files)]
    assert isinstance(binary, lief.MachO.Binary)
    oldest = _oldest_macos(binary)
    if oldest is None or oldest > [int(part) for part in platform.platform_tag.split("_")[1:3]]:
        raise Unfit(f"{wheel.name}: the module is for macOS {oldest} and later, which its tag does not say")
    if found := linkedit.misaligned(module):
        raise Unfit(f"{wheel.name}: macOS 27 will not load the module: {', '.join(found)} is not aligned")
    signed = binary.code_signature
    if signed is None:
        if platform.processor == "aarch64":
            raise Unfit(f"{wheel.name}: the module is not signed, so that macOS on ARM will not load it")
        return
    if not has_its_hashes(module, signed.data_offset):
        raise Unfit(f"{wheel.name}: the signature is not that of the module")


def _oldest_macos(binary: lief.MachO.Binary) -> list[int] | None:
    """The major and minor version of the oldest macOS that loads the module, if it says one."""
    if (built := binary.build_version) is not None:
        return list(built.minos)[:2]
    if (least := binary.version_min) is not None:
        return list(least.version)[:2]
    return None


def has_its_hashes(module: bytes, offset: int) -> bool:
    """Whether the signature at `offset` of a Mach-O file has the SHA-256 of every page before it. The layout
    is that of `cs_blobs.h` of XNU; its numbers are big-endian.
    """
    count = struct.unpack_from(">I", module, offset + 8)[0]
    for index in range(count):
        kind, start = struct.unpack_from(">II", module, offset + 12 + 8 * index)
        if kind != 0:  # CSSLOT_CODEDIRECTORY
            continue
        directory = offset + start
        hashes, _, _, pages, limit = struct.unpack_from(">IIIII", module, directory + 16)
        width, kind_of_hash, _, log_of_page = struct.unpack_from(">BBBB", module, directory + 36)
        if (width, kind_of_hash) != (32, 2):  # SHA-256
            return False
        page = 1 << log_of_page
        return pages == -(-limit // page) and all(
            hashlib.sha256(module[at * page : min((at + 1) * page, limit)]).digest()
            == module[directory + hashes + 32 * at : directory + hashes + 32 * (at + 1)]
            for at in range(pages)
        )
    return False


def newest_glibc(wheel: Path, platform: Platform) -> str | None:
    """The newest version of glibc whose functions the module needs; `None` where it needs none."""
    files = archive.read(wheel)
    binary = _parsed(files, platform)
    if not isinstance(binary, lief.ELF.Binary) or platform.is_musl:
        return None
    needed = [
        str(aux.name) for each in binary.symbols_version_requirement for aux in each.get_auxiliary_symbols()
    ]
    versions = [tuple(map(int, name[6:].split("."))) for name in needed if name.startswith("GLIBC_2")]
    newest = max(versions, default=(2, 0))
    allowed = tuple(map(int, platform.platform_tag.split("_")[1:3]))
    if newest > allowed:
        raise Unfit(f"{wheel.name} needs glibc {newest}, and its tag says {allowed}")
    return ".".join(map(str, newest))


def equal(first: Path, second: Path) -> None:
    """Two builds of one wheel are equal to the byte."""
    if first.read_bytes() == second.read_bytes():
        return
    one, other = archive.read(first), archive.read(second)
    differing = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    parts = [(name, one.get(name, b""), other.get(name, b"")) for name in differing]
    where = [f"{name} from byte {_differ_from(left, right)}" for name, left, right in parts]
    raise Unfit(f"two builds of {first.name} differ in {', '.join(where) or 'the archive alone'}")


def _differ_from(one: bytes, other: bytes) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _parsed(
    files: dict[str, bytes], platform: Platform
) -> lief.ELF.Binary | lief.MachO.Binary | lief.PE.Binary:
    name = archive.module_name(files)
    binary = lief.parse(files[name])
    if not isinstance(binary, _FORMAT[platform.system]):
        raise Unfit(f"{name} is not a module of {platform.system}")
    assert isinstance(binary, (lief.ELF.Binary, lief.MachO.Binary, lief.PE.Binary))
    return binary
