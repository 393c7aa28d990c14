"""What every Python contender measures of itself, whatever its event loop."""

from __future__ import annotations

import os
import time

PIECE = 64 * 1024
BLOCK = bytes(PIECE)
BULK = (1 << 40).to_bytes(8, "big") + (60 * 10**9).to_bytes(8, "big")
"""The size and the limit of a transfer that lasts until its dialer ends."""


def usage() -> tuple[int, int]:
    """Nanoseconds of CPU time of all threads, and resident bytes."""
    with open("/proc/self/statm") as file:
        return time.process_time_ns(), int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def latencies(times: list[int], began: int) -> dict[str, object]:
    """What many rounds were like: microseconds."""
    times.sort()
    at = [times[len(times) * part // 100] / 1e3 for part in (50, 99)]
    seconds = (time.perf_counter_ns() - began) / 1e9
    return {"count": len(times), "seconds": seconds, "p50": at[0], "p99": at[1]}
