"""The environment of a process below which system calls fail: see `crates/faults`."""

from __future__ import annotations

from pathlib import Path

LIBRARY = Path(__file__).parent.parent.parent / "target" / "release" / "libfaults.so"


def environment(faults: str) -> dict[str, str]:
    """Empty: none fails yet, and what is sent is counted."""
    assert LIBRARY.exists(), "no library: make build"
    return {"LD_PRELOAD": str(LIBRARY), "FAULTS": faults}
