"""The result of one long run: its progress, counters and failures, and the comparison of the processes'
usage before and after. Knows no scenario.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost

from testkit.far import FarHost
from testkit.mixture import OF_A_CONNECTION
from testkit.usage import usage
from tools.soak.verdict import ROOM

Usage = dict[str, dict[str, int]]
"""By process, then by kind: see `testkit.usage`."""

GROWTH = 2 << 20
"""Bytes by which the allocations of a process may grow."""


@dataclass
class Trial:
    name: str
    total: int
    """Rounds, dials, seconds: what `done` counts up to."""
    unit: str
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str] = field(default_factory=dict)
    """The measured figures, as text for the report."""
    failures: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_good(self) -> bool:
        return not self.failures and self.done >= self.total

    def line(self) -> str:
        """The progress line."""
        rate = self.done / max(self.seconds, 0.001)
        left = (self.total - self.done) / rate if self.done else float("inf")
        counted = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        return (
            f"{self.name}: {self.done} of {self.total} {self.unit}, {rate:.0f}/s, "
            f"{self.seconds:.0f} s, about {left:.0f} s left; {counted}; {len(self.failures)} failed"
        )

    def report(self) -> str:
        lines = [f"{self.name}: {self.done} of {self.total} {self.unit} in {self.seconds:.1f} s"]
        lines += [f"  {count:>9} {name}" for name, count in sorted(self.counts.items())]
        lines += [f"  {name}: {figure}" for name, figure in self.figures.items()]
        lines += [f"  FAILED  {failure}" for failure in self.failures]
        return "\n".join([*lines, "  passed" if self.is_good else "  FAILED"])


Watch = Callable[[Trial], None]
"""Called from time to time with the progress."""


class Usages:
    """Measures processes with one host each, by name."""

    def __init__(self, near: dict[str, IHost], far: dict[str, FarHost]) -> None:
        self._near = near
        self._far = far

    async def now(self) -> Usage:
        found = {name: usage(host) for name, host in self._near.items()}
        for name, far in self._far.items():
            found[name] = await far.do("usage")
        return found

    async def idle(self, within: float = 25) -> Usage:
        """Measure when the engines hold no connection, or after the time limit. A closing period ends at
        most 10 s after the last connection."""
        deadline = trio.current_time() + within
        while trio.current_time() < deadline:
            usages = await self.now()
            if not any(each[kind] for each in usages.values() for kind in OF_A_CONNECTION):
                break
            await trio.sleep(0.2)  # scenario: no event says that a process became idle
        return usages

    async def grown(self, before: Usage, within: float) -> tuple[list[str], Usage]:
        """What has grown, after at most ``within`` seconds to release it, and the last measurement."""
        deadline = trio.current_time() + within
        while True:
            after = await self.now()
            more = grown(before, after)
            if not more or trio.current_time() >= deadline:
                return more, after
            await trio.sleep(0.2)  # scenario: no event says that a process became idle


def grown(before: Usage, after: Usage) -> list[str]:
    """No state of a connection may exist at all, because it may also be left from before."""
    found = []
    for process, kinds in after.items():
        for kind, value in kinds.items():
            then = 0 if kind in OF_A_CONNECTION else before[process][kind]
            if value - then > GROWTH * ROOM.get(kind, 0):
                found.append(f"{kind} of {process}: {then} before, {value} after")
    return found
