"""Runs rounds of scenarios, and measures the processes when they are idle after each.

They are idle when every peer has ended and the engines hold no connection. If that takes too long, they
are measured anyway. `verdict` evaluates the figures.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost
from libp2p.exceptions import BaseLibp2pError

from libp2p_quic.asyncio import QUICError
from testkit.census import Census, census
from testkit.far import FarError, FarHost, far_host
from testkit.near import IP4, near_host
from testkit.usage import usage
from tools.soak.leaks import leaking
from tools.soak.scenarios import CONFIG, Scenarios

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup  # type: ignore[import-not-found, unused-ignore]

WARM_UP = 0.2
"""The share of the time after which measurements count."""

_LONGEST_ROUND = 15.0
_ROUNDS = 20
_AT_ONCE = 5
_FAILURES = 10
"""The number of failures after which a run ends."""

_WRONG = (
    AssertionError,
    BaseLibp2pError,
    EOFError,
    FarError,
    OSError,
    ExceptionGroup,
    QUICError,
    asyncio.TimeoutError,
)
"""Exceptions of a scenario that failed."""

Usage = dict[str, int]


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int = 0
    has_children: bool = True
    patience: float = 20.0
    """Seconds that the processes may take to become idle."""
    growth: int = 2 << 20
    """Bytes by which the allocations of a process may grow. Fluctuations are a tenth of it."""
    leak: str = ""
    """The kind of leak that is made on purpose: see `leaks`."""


@dataclass(frozen=True)
class Sample:
    at: float
    """Seconds since the beginning."""
    counts: bool
    """The warm-up is over."""
    usages: dict[str, Usage]
    """By process: "home", "away"."""


@dataclass
class Record:
    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    left: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By process, the objects at the end that did not exist after the warm-up."""

    @property
    def counted(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.counts]


Watch = Callable[[float, Record], None]
"""Called from time to time with the elapsed seconds."""


def shown(error: BaseException) -> str:
    """The first line of each cause, also inside of trio's groups."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(shown(each) for each in error.exceptions)
    first = str(error).splitlines()[:1]
    return f"{type(error).__name__}: {''.join(first)}"


@asynccontextmanager
async def _away(plan: Plan) -> AsyncIterator[FarHost | None]:
    if not plan.has_children:
        yield None
        return
    async with far_host(config=CONFIG) as far:
        yield far
        await far.leave()


class _Soak:
    def __init__(self, plan: Plan, home: IHost, away: FarHost | None) -> None:
        self.record = Record(plan)
        self._home = home
        self._away = away
        self._scenarios = Scenarios(home, away, plan.seed)
        self.record.done = self._scenarios.done
        self._began = trio.current_time()
        self._first: dict[str, Census] = {}

    def close(self) -> None:
        self._scenarios.close()

    @property
    def clock(self) -> float:
        return trio.current_time() - self._began

    async def fill(self) -> None:
        await self._scenarios.fail_often()

    async def load(self, seconds: float) -> None:
        """Run every scenario once, then random ones until the time is over, several at once."""
        until = self.clock + seconds
        todo = self._scenarios.all
        self._scenarios.dice.shuffle(todo)

        async def worker() -> None:
            while todo or self.clock < until:
                chosen = todo.pop() if todo else self._scenarios.dice.choice(self._scenarios.all)
                try:
                    await self._scenarios.run(chosen)
                except _WRONG as error:
                    # The run continues, and fails at its end.
                    self.record.failures.append(f"{chosen.__name__} at {self.clock:.1f} s: {shown(error)}")

        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(worker)

    async def measure(self) -> None:
        counts = self.clock >= WARM_UP * self.record.plan.seconds
        deadline = self.clock + self.record.plan.patience
        usages = await self._usages()
        while not self._is_idle(usages) and self.clock < deadline:
            await trio.sleep(0.1)  # scenario: no event says that a process became idle
            usages = await self._usages()
        self.record.samples.append(Sample(self.clock, counts, usages))
        if counts:
            now = await self._censuses()
            self._first = self._first or now
            self.record.left = {name: now[name].beyond(self._first[name]) for name in now}

    async def _usages(self) -> dict[str, Usage]:
        found = {"home": usage(self._home)}
        if self._away is not None:
            found["away"] = await self._away.do("usage")
        return found

    async def _censuses(self) -> dict[str, Census]:
        found = {"home": census()}
        if self._away is not None:
            found["away"] = await self._away.census()
        return found

    def _is_idle(self, usages: dict[str, Usage]) -> bool:
        held = ("keepers", "connections", "handshakes", "streams", "promised", "unacked", "kept")
        if any(each[name] for each in usages.values() for name in held):
            return False
        # Also wait for objects that are about to end, such as finished threads.
        first = next(iter(self.record.counted), None)
        return first is None or all(
            usages[process][name] <= first.usages[process][name]
            for process in usages
            for name in ("descriptors", "threads", "tasks")
        )


async def soak(plan: Plan, watch: Watch) -> Record:
    async with near_host(IP4, config=CONFIG) as home, _away(plan) as away:
        run = _Soak(plan, home, away)

        async def tell() -> None:
            while True:
                watch(run.clock, run.record)
                await trio.sleep(1)  # scenario: progress once a second

        with leaking(plan.leak, home) as leak:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                await run.fill()
                # A comparison needs at least two measurements.
                while run.clock < plan.seconds or len(run.record.counted) < 2:
                    await run.load(min(_LONGEST_ROUND, plan.seconds / _ROUNDS))
                    await leak()
                    await run.measure()
                    if len(run.record.failures) >= _FAILURES:
                        break
                nursery.cancel_scope.cancel()
        run.close()
    return run.record
