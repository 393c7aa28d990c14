"""`make bench-goals`: compares the last run's JSON with the goals of this project's speed.

Exits with 0 if all are met, 1 if one is not met or was not measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.bench import results
from tools.bench.results import Results, shown

ADAPTER, HOST, ENGINE, ASYNCIO, UVLOOP = OURS = "adapter", "host", "engine", "asyncio", "uvloop"
QUINN, RUST, GO, STOCK, AIOQUIC = "quinn", "rust-libp2p", "go-libp2p", "stock", "aioquic"


@dataclass(frozen=True)
class Goal:
    text: str
    figure: Callable[[Results], float | None]
    bound: float
    is_most: bool = False
    """The figure must not exceed the bound; otherwise it must reach it."""
    unit: str = "x"

    def is_met(self, found: Results) -> bool:
        value = self.figure(found)
        if value is None:
            return False
        return value <= self.bound if self.is_most else value >= self.bound

    def line(self, found: Results) -> str:
        value = self.figure(found)
        figure = "not measured" if value is None else f"{shown(value)} {self.unit}"
        sign = "<=" if self.is_most else ">="
        status = "met" if self.is_met(found) else "NOT MET"
        bound = f"{shown(self.bound)} {self.unit}"
        return f"{status:8} {figure:>14}  {sign} {bound:8}  {self.text}"


def _times(measure: str, figure: str, ours: str, theirs: str) -> Callable[[Results], float | None]:
    def figure_of(found: Results) -> float | None:
        pair = [found.spread(measure, name, figure) for name in (ours, theirs)]
        if pair[0] is None or pair[1] is None or pair[1].median == 0:
            return None
        return pair[0].median / pair[1].median

    return figure_of


def _both_ways(ours: str, theirs: str) -> Callable[[Results], float | None]:
    """The lesser of both directions, because a goal for goodput holds for both."""
    ways = [_times(measure, "goodput", ours, theirs) for measure in ("up", "down")]

    def figure_of(found: Results) -> float | None:
        values = [way(found) for way in ways]
        return None if None in values else min(value for value in values if value is not None)

    return figure_of


def _against_best(measure: str) -> Callable[[Results], float | None]:
    def figure_of(found: Results) -> float | None:
        ours = found.spread(measure, ADAPTER, "goodput")
        names = [each.name for each in found.contenders if each.name not in OURS]
        others = [found.spread(measure, name, "goodput") for name in names]
        medians = [each.median for each in others if each is not None]
        return None if ours is None or not medians else ours.median / max(medians)

    return figure_of


def _memory(measure: str) -> Callable[[Results], float | None]:
    """The end that uses more memory."""

    def figure_of(found: Results) -> float | None:
        ends = [found.spread(measure, ENGINE, end) for end in ("dialer", "listener")]
        medians = [each.median for each in ends if each is not None]
        return max(medians, default=None)

    return figure_of


GOALS = (
    Goal("one-stream goodput, adapter / rust-libp2p", _both_ways(ADAPTER, RUST), 2.0),
    Goal("one-stream goodput, adapter / go-libp2p", _both_ways(ADAPTER, GO), 1.3),
    Goal("one-stream goodput, adapter / raw quinn", _both_ways(ADAPTER, QUINN), 1.0),
    Goal("one-stream goodput, py-libp2p host / rust-libp2p", _both_ways(HOST, RUST), 1.5),
    Goal("one-stream goodput, engine / raw quinn", _both_ways(ENGINE, QUINN), 1.2),
    Goal(
        "CPU of the sender, adapter / rust-libp2p", _times("up", "sender", ADAPTER, RUST), 0.6, is_most=True
    ),
    Goal(
        "CPU of the receiver, adapter / rust-libp2p",
        _times("up", "receiver", ADAPTER, RUST),
        0.6,
        is_most=True,
    ),
    Goal("ping-pong p50, adapter / rust-libp2p", _times("ping", "p50", ADAPTER, RUST), 1.3, is_most=True),
    Goal("new streams, 100 in flight, adapter / stock", _times("requests100", "rate", ADAPTER, STOCK), 10.0),
    Goal(
        "handshakes, in sequence, adapter / rust-libp2p",
        _times("handshakes1", "rate", ADAPTER, RUST),
        1.0,
    ),
    Goal(
        "handshakes, 32 in flight, adapter / rust-libp2p", _times("handshakes32", "rate", ADAPTER, RUST), 1.0
    ),
    Goal(
        "memory of an idle connection of 1 000, engine", _memory("idle1000"), 30.0, is_most=True, unit="KiB"
    ),
    Goal(
        "memory of an idle connection of 10 000, engine", _memory("idle10000"), 30.0, is_most=True, unit="KiB"
    ),
    Goal("goodput at 100 ms, 0 % loss, adapter / best other", _against_best("path-100-0"), 0.95),
    Goal("goodput at 100 ms, 1 % loss, adapter / best other", _against_best("path-100-1"), 1.0),
    Goal("one-stream goodput, asyncio / adapter", _both_ways(ASYNCIO, ADAPTER), 0.9),
    Goal("one-stream goodput, asyncio / aioquic", _both_ways(ASYNCIO, AIOQUIC), 50.0),
    Goal("ping-pong p50, asyncio / adapter", _times("ping", "p50", ASYNCIO, ADAPTER), 1.0, is_most=True),
    Goal(
        "new streams, 100 in flight, asyncio / adapter",
        _times("requests100", "rate", ASYNCIO, ADAPTER),
        1.2,
    ),
)


def text(found: Results) -> str:
    met = sum(goal.is_met(found) for goal in GOALS)
    lines = [goal.line(found) for goal in GOALS]
    return "\n".join([*lines, "", f"{met} of {len(GOALS)} goals are met by the run of {found.moment}."])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.goals", description=__doc__.split("\n")[0])
    parser.add_argument(
        "path", nargs="?", type=Path, default=results.LAST, help="a run (default: %(default)s)"
    )
    path = parser.parse_args().path
    try:
        found = results.read(path)
    except FileNotFoundError:
        parser.error(f"no run at {path}: run `make bench`")
    print(text(found))
    sys.exit(0 if all(goal.is_met(found) for goal in GOALS) else 1)


if __name__ == "__main__":
    main()
