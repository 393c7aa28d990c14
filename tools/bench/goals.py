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

ADAPTER, HOST, ENGINE, ASYNCIO, UVLOOP = "adapter", "host", "engine", "asyncio", "uvloop"
WEBTRANSPORT, BESIDE = "webtransport", "beside"
OURS = ADAPTER, HOST, ENGINE, ASYNCIO, UVLOOP, WEBTRANSPORT, BESIDE
QUINN, RUST, GO, STOCK, AIOQUIC = "quinn", "rust-libp2p", "go-libp2p", "stock", "aioquic"
FLOOR = "udp", "aes"
"""What no transfer can do without: sending datagrams, and encryption. Their CPU is added."""


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


def _floors(end: str) -> Callable[[Results], float | None]:
    """The adapter's CPU, in multiples of that of the floor."""

    def figure_of(found: Results) -> float | None:
        ours, *parts = [found.spread("up", name, end) for name in (ADAPTER, *FLOOR)]
        floor = [part.median for part in parts if part is not None]
        return None if ours is None or len(floor) < len(FLOOR) else ours.median / sum(floor)

    return figure_of


def _memory(measure: str) -> Callable[[Results], float | None]:
    """The end that uses more memory."""

    def figure_of(found: Results) -> float | None:
        ends = [found.spread(measure, ENGINE, end) for end in ("dialer", "listener")]
        medians = [each.median for each in ends if each is not None]
        return max(medians, default=None)

    return figure_of


def _listener_memory(found: Results) -> float | None:
    """The greater of both counts of connections."""
    spreads = [found.spread(measure, ADAPTER, "listener") for measure in ("idle1000", "idle10000")]
    medians = [each.median for each in spreads if each is not None]
    return max(medians) if len(medians) == len(spreads) else None


def _p99_beside_bulk(found: Results) -> float | None:
    spread = found.spread("ping-bulk", ADAPTER, "p99")
    return None if spread is None else spread.median / 1000


GOALS = (
    Goal("one-stream goodput, adapter / rust-libp2p", _both_ways(ADAPTER, RUST), 2.0),
    Goal("one-stream goodput, adapter / go-libp2p", _both_ways(ADAPTER, GO), 1.3),
    Goal("one-stream goodput, adapter / raw quinn", _both_ways(ADAPTER, QUINN), 1.25),
    Goal("one-stream goodput, py-libp2p host / rust-libp2p", _both_ways(HOST, RUST), 1.5),
    Goal("one-stream goodput, engine / raw quinn", _both_ways(ENGINE, QUINN), 1.5),
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
    Goal("one-stream goodput, WebTransport / adapter", _both_ways(WEBTRANSPORT, ADAPTER), 0.8),
    Goal("one-stream goodput, beside WebTransport / adapter", _both_ways(BESIDE, ADAPTER), 0.98),
    Goal("ping-pong p50, asyncio / adapter", _times("ping", "p50", ASYNCIO, ADAPTER), 1.0, is_most=True),
    Goal(
        "new streams, 100 in flight, asyncio / adapter",
        _times("requests100", "rate", ASYNCIO, ADAPTER),
        1.2,
    ),
    Goal("CPU of the sender, adapter / UDP and AES alone", _floors("sender"), 2.3, is_most=True),
    Goal("CPU of the receiver, adapter / UDP and AES alone", _floors("receiver"), 2.9, is_most=True),
    Goal(
        "CPU of a round trip, both ends, adapter / rust-libp2p",
        _times("ping", "cpu", ADAPTER, RUST),
        1.5,
        is_most=True,
    ),
    Goal(
        "ping-pong p50 on a busy machine, adapter / rust-libp2p",
        _times("ping-loaded", "p50", ADAPTER, RUST),
        1.5,
        is_most=True,
    ),
    Goal(
        "ping-pong p99 on a busy machine, adapter / rust-libp2p",
        _times("ping-loaded", "p99", ADAPTER, RUST),
        4.0,
        is_most=True,
    ),
    Goal("ping-pong p99 beside bulk, adapter", _p99_beside_bulk, 1.0, is_most=True, unit="ms"),
    Goal("new streams, in sequence, adapter / go-libp2p", _times("requests1", "rate", ADAPTER, GO), 1.0),
    Goal("new streams, 100 in flight, adapter / go-libp2p", _times("requests100", "rate", ADAPTER, GO), 1.2),
    Goal(
        "new streams, 100 in flight, engine / rust-libp2p", _times("requests100", "rate", ENGINE, RUST), 1.5
    ),
    Goal("new streams, 100 in flight, engine / raw quinn", _times("requests100", "rate", ENGINE, QUINN), 0.7),
    Goal("handshakes, 32 in flight, engine / raw quinn", _times("handshakes32", "rate", ENGINE, QUINN), 0.9),
    Goal("memory of an idle connection, adapter, listener", _listener_memory, 32.0, is_most=True, unit="KiB"),
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
