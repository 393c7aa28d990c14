"""The environment of a process whose system calls can be made to fail: see `crates/faults`."""

from __future__ import annotations

from pathlib import Path

LIBRARY = Path(__file__).parent.parent / "target" / "release" / "libfaults.so"


def environment(faults: str) -> dict[str, str]:
    """With no fault yet: sends are only counted."""
    assert LIBRARY.exists(), "libp2p-quic-faults is not built: run `make build`"
    return {"LD_PRELOAD": str(LIBRARY), "FAULTS": faults}
