"""Decides whether anything grew: compares the first measurement that counts with the last.

Counts must not be higher at the end. Allocated memory fluctuates, so its increase has a bound; its slope
over the whole time may be half of the bound, because a leak is slow and continues, and a buffer is kept
once. Resident memory goes up and down with partly used pages, by more in a minute than a leak, and has
only a wide bound.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from tools.soak.run import Record

MIB = 1 << 20
UNITS = {"allocated": MIB, "resident": MIB}

ROOM = {"allocated": 1.0, "objects": 1 / 256, "resident": 8.0}
"""The allowed increase, as a fraction of the plan's growth; zero for all other kinds. An object has about
a hundred bytes."""
BREATHES = ("resident",)
"""Kinds for which a slope has no meaning."""


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Growth per second: the median of the slopes between all pairs (Theil and Sen), which one outlier
    does not change."""
    pairs = combinations(zip(at, values, strict=True), 2)
    return statistics.median((v - u) / (t - s) for (s, u), (t, v) in pairs)


@dataclass(frozen=True)
class Row:
    process: str
    kind: str
    start: float
    end: float
    peak: float
    slope: float
    """Per second."""
    seconds: float
    """From start to end."""
    bound: float
    """The allowed increase."""

    @property
    def has_grown(self) -> bool:
        is_more = self.end - self.start > self.bound
        # Counts are integers: a single step is no slope, and fluctuation is none.
        has_slope = self.bound > 0 and self.kind not in BREATHES
        return is_more or (has_slope and self.slope * self.seconds > self.bound / 2)

    @property
    def cells(self) -> list[str]:
        unit = UNITS.get(self.kind, 1)
        digits = 0 if unit == 1 else 1
        numbers = [f"{value / unit:.{digits}f}" for value in (self.start, self.end, self.peak)]
        bound = f"+{self.bound / unit:.0f}" if self.bound else "equal"
        name = f"{self.kind}, MiB" if unit == MIB else self.kind
        verdict = "GREW" if self.has_grown else "ok"
        return [self.process, name, *numbers, f"{self.slope * 60 / unit:+.3f}", bound, verdict]


HEADS = ["process", "what", "start", "end", "peak", "slope/min", "bound", ""]


def rows(record: Record) -> list[Row]:
    counted = record.counted
    if len(counted) < 2:
        return []
    at = [sample.at for sample in counted]
    found = []
    for process, first in counted[0].usages.items():
        for kind in first:
            values = [sample.usages[process][kind] for sample in counted]
            bound = record.plan.growth * ROOM.get(kind, 0)
            figures = (values[0], values[-1], max(values), slope(at, values), at[-1] - at[0], bound)
            found.append(Row(process, kind, *figures))
    return found


def is_good(record: Record) -> bool:
    return not record.failures and not any(row.has_grown for row in rows(record))


def table(record: Record) -> str:
    """The table for the terminal, the failures, and the verdict."""
    lines = [HEADS, *(row.cells for row in rows(record))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    parts = []
    for line in lines:
        names = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
        figures = [text.rjust(width) for text, width in zip(line[2:-1], widths[2:-1], strict=True)]
        parts.append("  ".join([*names, *figures, line[-1]]).rstrip())
    for row in rows(record):
        names = record.left.get(row.process, {}).get(row.kind, [])
        if row.has_grown and names:
            parts.append(f"more {row.kind} in {row.process}: {', '.join(names)}")
    parts += [f"FAILED  {failure}" for failure in record.failures]
    parts.append(sentence(record))
    return "\n".join(parts)


def sentence(record: Record) -> str:
    grown = [f"{row.kind} of {row.process}" for row in rows(record) if row.has_grown]
    if grown:
        return f"It grew: {', '.join(grown)}."
    if record.failures:
        return f"Nothing grew, but there were {len(record.failures)} failures."
    return "Nothing grew, and every byte arrived."
