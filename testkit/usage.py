"""Memory, descriptors, threads and objects of a process with one host, in numbers that are comparable over
hours."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from libp2p.abc import IHost

from testkit.census import census
from testkit.near import transport_of


class _Mallinfo(ctypes.Structure):
    """glibc's `struct mallinfo2`: bytes, in all arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallinfo2"):
        libc.mallinfo2.restype = _Mallinfo
    return libc


def resident() -> int:
    """Resident bytes, after the allocator has returned its free pages. Partly used pages count, so this
    value goes up and down."""
    # musl has no such call and needs none.
    if hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allocated() -> int:
    """Bytes allocated by malloc and not freed: the engine's, and Python's objects of more than 512 bytes.
    Resident bytes if the C library has no count."""
    if not hasattr(_libc(), "mallinfo2"):
        return resident()
    info = _libc().mallinfo2()
    return int(info.uordblks + info.hblkhd)


def usage(host: IHost) -> dict[str, int]:
    now = census()
    transport = transport_of(host)
    endpoint = transport._endpoint
    assert endpoint is not None, "the transport has no endpoint: it neither listens nor has dialed"
    return {
        "allocated": allocated(),
        # Python's smaller objects, which are in Python's own arenas.
        "objects": sys.getallocatedblocks(),
        "resident": resident(),
        "descriptors": len(now.descriptors),
        # trio keeps idle threads for ten seconds.
        "threads": sum(not name.startswith("Trio") for name in now.threads),
        "tasks": len(now.tasks),
        # Tasks that keep a connection until its end was reported.
        "keepers": len(endpoint.connections),
        **endpoint.engine.census(),
    }
