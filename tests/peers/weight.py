"""What a process with a host of ours weighs, in numbers that can be compared over hours."""

from __future__ import annotations

import ctypes
import os

from libp2p.abc import IHost

from peers.census import census
from peers.near import transport_of


def resident() -> int:
    """Bytes of memory, those excepted that nobody uses and the allocator only keeps."""
    # musl has no such call, and needs none.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def weight(host: IHost) -> dict[str, int]:
    now = census()
    transport = transport_of(host)
    endpoint = transport._endpoint
    assert endpoint is not None, "it neither listens nor has dialed"
    return {
        "memory": resident(),
        "descriptors": len(now.descriptors),
        # trio keeps its threads for ten seconds, in case that there is more for them to do.
        "threads": sum(not name.startswith("Trio") for name in now.threads),
        "tasks": len(now.tasks),
        # Tasks that look after a connection until all have heard of its end.
        "keepers": len(transport._connections),
        **endpoint.engine.census(),
    }
