"""What a process with a host of ours weighs, in numbers that can be compared over hours."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

from libp2p.abc import IHost

from peers.census import census
from peers.near import transport_of


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
    """Bytes of memory that the system gave, without the whole pages that the allocator only
    keeps. Pages of which a small part is in use count, so that this goes up and down."""
    # musl has no such call, and needs none.
    if hasattr(_libc(), "malloc_trim"):
        _libc().malloc_trim(0)
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allocated() -> int:
    """Bytes that were asked of malloc and not given back: the engine's, and Python's objects of
    more than 512 bytes. Where the C library does not tell, what is resident."""
    if not hasattr(_libc(), "mallinfo2"):
        return resident()
    info = _libc().mallinfo2()
    return int(info.uordblks + info.hblkhd)


def weight(host: IHost) -> dict[str, int]:
    now = census()
    transport = transport_of(host)
    endpoint = transport._endpoint
    assert endpoint is not None, "it neither listens nor has dialed"
    return {
        "allocated": allocated(),
        # Python's smaller objects, which it keeps in memory of its own.
        "objects": sys.getallocatedblocks(),
        "resident": resident(),
        "descriptors": len(now.descriptors),
        # trio keeps its threads for ten seconds, in case that there is more for them to do.
        "threads": sum(not name.startswith("Trio") for name in now.threads),
        "tasks": len(now.tasks),
        # Tasks that look after a connection until all have heard of its end.
        "keepers": len(transport._connections),
        **endpoint.engine.census(),
    }
