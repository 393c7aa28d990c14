"""Reads `exclusions.txt`: which of py-libp2p's tests cannot be run on any other transport, and why.

`differences.txt` has the same form: tests that are run, and fail because they assert a defect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "exclusions.txt"
DIFFERENCES = Path(__file__).parent / "differences.txt"
# The prefix that marks a skipped test as excluded.
EXCLUDED = "excluded: "


@dataclass(frozen=True)
class Exclusion:
    """``pattern`` is a test's id, in which ``*`` stands for any characters."""

    pattern: str
    reason: str

    def matches(self, test: str) -> bool:
        return re.fullmatch(".*".join(map(re.escape, self.pattern.split("*"))), test) is not None


def read_exclusions(file: Path = FILE) -> list[Exclusion]:
    """Read all entries of ``file``. Raises ValueError for a pattern without a reason above it."""
    exclusions = []
    reason: str | None = None
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            reason = line[1:-1]
        elif line and not line.startswith("#"):
            if not reason:
                raise ValueError(f"{file.name}: no reason above {line!r}")
            exclusions.append(Exclusion(line, reason))
    return exclusions
