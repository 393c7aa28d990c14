"""Rounds of life, and what the processes weigh at the quiet point after each.

A point is quiet when every guest is gone and the engines hold nothing; that is waited for, and
whoever waits in vain is weighed as it is. Knows no figure's meaning; those are `verdict`'s.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost
from libp2p.exceptions import BaseLibp2pError

from peers.census import Census, census
from peers.far import FarError, FarHost, far_host
from peers.near import IP4, near_host
from peers.weight import weight
from soak.life import CONFIG, Life
from soak.plant import planted

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup  # type: ignore[import-not-found, unused-ignore]

WARM_UP = 0.2
"""The part of the time after which the first weighing counts."""

_LONGEST_ROUND = 15.0
_ROUNDS = 20
_AT_ONCE = 5
_FAILURES = 10
"""Enough to see what is wrong."""

_WRONG = (AssertionError, BaseLibp2pError, FarError, OSError, ExceptionGroup)
"""What a way of living raises when it did not go as it should."""

Weight = dict[str, int]


@dataclass(frozen=True)
class Plan:
    seconds: float
    seed: int = 0
    has_children: bool = True
    patience: float = 20.0
    """How long a point may take to become quiet."""
    growth: int = 2 << 20
    """Bytes that a process may have allocated more in the end. What wavers is a tenth of it."""
    leak: str = ""
    """What `plant` leaves behind."""


@dataclass(frozen=True)
class Sample:
    at: float
    """Seconds since the beginning."""
    counts: bool
    """The warm-up is over."""
    weights: dict[str, Weight]
    """By process: "home", "away"."""


@dataclass
class Record:
    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    left: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By process, what was there in the end and not when the warm-up was over."""

    @property
    def counted(self) -> list[Sample]:
        return [sample for sample in self.samples if sample.counts]


Watch = Callable[[float, Record], None]
"""Told the seconds that went by, now and then."""


def shown(error: BaseException) -> str:
    """The first line of each reason, out of whatever groups trio put them in."""
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
        self._life = Life(home, away, plan.seed)
        self.record.done = self._life.done
        self._began = trio.current_time()
        self._first: dict[str, Census] = {}

    @property
    def clock(self) -> float:
        return trio.current_time() - self._began

    async def live(self, seconds: float) -> None:
        """Every way once, and then by dice until the time is over; several at once."""
        until = self.clock + seconds
        todo = self._life.ways
        self._life.dice.shuffle(todo)

        async def guest() -> None:
            while todo or self.clock < until:
                way = todo.pop() if todo else self._life.dice.choice(self._life.ways)
                try:
                    await self._life.live(way)
                except _WRONG as error:
                    # The run goes on, and ends as failed.
                    self.record.failures.append(f"{way.__name__} at {self.clock:.1f} s: {shown(error)}")

        async with trio.open_nursery() as nursery:
            for _ in range(_AT_ONCE):
                nursery.start_soon(guest)

    async def weigh(self) -> None:
        counts = self.clock >= WARM_UP * self.record.plan.seconds
        deadline = self.clock + self.record.plan.patience
        weights = await self._weights()
        while not self._is_quiet(weights) and self.clock < deadline:
            await trio.sleep(0.1)  # scenario: no event says that a process became quiet
            weights = await self._weights()
        self.record.samples.append(Sample(self.clock, counts, weights))
        if counts:
            now = await self._censuses()
            self._first = self._first or now
            self.record.left = {name: now[name].beyond(self._first[name]) for name in now}

    async def _weights(self) -> dict[str, Weight]:
        found = {"home": weight(self._home)}
        if self._away is not None:
            found["away"] = await self._away.do("weight")
        return found

    async def _censuses(self) -> dict[str, Census]:
        found = {"home": census()}
        if self._away is not None:
            found["away"] = await self._away.census()
        return found

    def _is_quiet(self, weights: dict[str, Weight]) -> bool:
        held = ("keepers", "connections", "handshakes", "streams", "promised", "unacked", "kept")
        if any(each[name] for each in weights.values() for name in held):
            return False
        # What is on its way out, like a thread that has done its work, is waited for, too.
        first = next(iter(self.record.counted), None)
        return first is None or all(
            weights[process][name] <= first.weights[process][name]
            for process in weights
            for name in ("descriptors", "threads", "tasks")
        )


async def soak(plan: Plan, watch: Watch) -> Record:
    async with near_host(IP4, config=CONFIG) as home, _away(plan) as away:
        run = _Soak(plan, home, away)

        async def tell() -> None:
            while True:
                watch(run.clock, run.record)
                await trio.sleep(1)  # scenario: once a second for whoever looks on

        with planted(plan.leak, home) as leak:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tell)
                # Two that count are the least that can be compared.
                while run.clock < plan.seconds or len(run.record.counted) < 2:
                    await run.live(min(_LONGEST_ROUND, plan.seconds / _ROUNDS))
                    await leak()
                    await run.weigh()
                    if len(run.record.failures) >= _FAILURES:
                        break
                nursery.cancel_scope.cancel()
    return run.record
