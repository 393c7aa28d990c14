"""One long form besides the ten minutes of hosts: its progress, what it counted, what failed,
and the comparison of what the processes weigh before and after. Knows no scenario.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost

from peers.far import FarHost
from peers.mixture import OF_A_CONNECTION
from peers.weight import weight
from soak.verdict import ROOM

Weights = dict[str, dict[str, int]]
"""By process, then by kind: see `peers.weight`."""

GROWTH = 2 << 20
"""Bytes that a process may have allocated more in the end."""


@dataclass
class Trial:
    name: str
    total: int
    """Rounds, dials, seconds: what `done` counts up to."""
    unit: str
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, str] = field(default_factory=dict)
    """What was measured, in the words of the report."""
    failures: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_good(self) -> bool:
        return not self.failures and self.done >= self.total

    def line(self) -> str:
        """Where it stands."""
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
"""Told now and then how far it is."""


class Scales:
    """What processes with a host each weigh, by name."""

    def __init__(self, near: dict[str, IHost], far: dict[str, FarHost]) -> None:
        self._near = near
        self._far = far

    async def now(self) -> Weights:
        found = {name: weight(host) for name, host in self._near.items()}
        for name, far in self._far.items():
            found[name] = await far.do("weight")
        return found

    async def quiet(self, within: float = 25) -> Weights:
        """What they weigh once the engines hold nothing of a connection, or time is over. That is
        10 s after the last at most, which is as long as a closing period may take."""
        deadline = trio.current_time() + within
        while trio.current_time() < deadline:
            weights = await self.now()
            if not any(each[kind] for each in weights.values() for kind in OF_A_CONNECTION):
                break
            await trio.sleep(0.2)  # scenario: no event says that a process became quiet
        return weights

    async def grown(self, before: Weights, within: float) -> tuple[list[str], Weights]:
        """What is more than it was before, once it had ``within`` seconds to go, and all that
        there was then."""
        deadline = trio.current_time() + within
        while True:
            after = await self.now()
            more = grown(before, after)
            if not more or trio.current_time() >= deadline:
                return more, after
            await trio.sleep(0.2)  # scenario: no event says that a process became quiet


def grown(before: Weights, after: Weights) -> list[str]:
    """Of a connection nothing may be there at all: it may have been left before, too."""
    found = []
    for process, kinds in after.items():
        for kind, value in kinds.items():
            then = 0 if kind in OF_A_CONNECTION else before[process][kind]
            if value - then > GROWTH * ROOM.get(kind, 0):
                found.append(f"{kind} of {process}: {then} before, {value} after")
    return found
