"""The measures: the options that a dialer gets, and the figures of its line.

A table, which starts no program. It names contenders only where a measure is for some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]

GIB = 1 << 30
_TIME = 4_000
"""Milliseconds after which a measure ends, if its size or count does not end it earlier."""


@dataclass(frozen=True)
class Figure:
    """One number of a measure, and its place in the dialer's line."""

    title: str
    unit: str
    of: Callable[[Line], float]
    is_more_better: bool = False


@dataclass(frozen=True)
class Measure:
    name: str
    group: str
    title: str
    options: dict[str, Any]
    figures: dict[str, Figure]
    runs: int | None = None
    """The most runs, if it takes long or hardly varies."""
    path: tuple[float, float] | None = None
    """Round-trip time in milliseconds and loss in percent of the relay."""
    only: tuple[str, ...] = field(default=())
    """The contenders of this measure; all if empty."""
    is_loaded: bool = False
    """A third process computes all the time, as on a machine that is not idle."""

    @property
    def command(self) -> str:
        return str(self.options["do"])


def _gigabits(line: Line) -> float:
    return float(line["bytes"] * 8 / line["seconds"] / 1e9)


def _per_gib(side: int) -> Callable[[Line], float]:
    return lambda line: float(line["cpu"][side] / (line["bytes"] / GIB))


def _goodput(sender: int) -> dict[str, Figure]:
    """``sender`` is 0 when the dialer sends."""
    return {
        "goodput": Figure("goodput", "Gbit/s", _gigabits, is_more_better=True),
        "sender": Figure("CPU, sender", "s/GiB", _per_gib(sender)),
        "receiver": Figure("CPU, receiver", "s/GiB", _per_gib(1 - sender)),
    }


_ROUNDS = {
    "p50": Figure("p50", "µs", lambda line: float(line["p50"])),
    "p99": Figure("p99", "µs", lambda line: float(line["p99"])),
    "rate": Figure("rate", "/s", lambda line: line["count"] / line["seconds"], is_more_better=True),
    "cpu": Figure("CPU, both ends", "µs each", lambda line: sum(line["cpu"]) * 1e6 / line["count"]),
}
_BESIDE_BULK = {
    "p99": _ROUNDS["p99"],
    "p50": _ROUNDS["p50"],
    # A slow transfer delays round trips less, so it is shown beside them.
    "bulk": Figure("the transfer", "Gbit/s", lambda line: line["rates"][0] * 8 / 1e9, is_more_better=True),
}
# The rate comes first if the goal is about it.
_RATE = {name: _ROUNDS[name] for name in ("rate", "p50", "p99", "cpu")}
_MEMORY = {
    "listener": Figure("listener", "KiB each", lambda line: line["each"][1] / 1024),
    "dialer": Figure("dialer", "KiB each", lambda line: line["each"][0] / 1024),
}
_GROWTH = {name: _ROUNDS[name] for name in ("cpu", "rate", "p50", "p99")}


def _share(of: Callable[[list[float]], float]) -> Callable[[Line], float]:
    return lambda line: of(line["rates"]) * len(line["rates"]) / sum(line["rates"])


_FAIRNESS = {
    "least": Figure("least share", "of 1", _share(min), is_more_better=True),
    "most": Figure("largest share", "of 1", _share(max)),
    "goodput": Figure("goodput", "Gbit/s", _gigabits, is_more_better=True),
}


_LATENCY = ("adapter", "asyncio", "engine", "quinn", "rust-libp2p", "go-libp2p")
"""Those whose latency is compared on a busy machine and in a busy process; all would lengthen a run."""


def _spaced(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _memory(count: int) -> Measure:
    title = f"Memory of an idle connection, {_spaced(count)} held"
    return Measure(f"idle{count}", "memory", title, {"do": "idle", "count": count}, _MEMORY, runs=1)


def _growth(count: int) -> Measure:
    options = {"do": "ping", "connections": count, "count": 20_000, "limit": _TIME}
    title = (
        f"Round trips on {_spaced(count)} connections at once"
        if count > 1
        else "Round trips on one connection"
    )
    return Measure(f"active{count}", "growth", title, options, _GROWTH, runs=1)


def _path(rtt: int, loss: float) -> Measure:
    options = {"do": "down", "size": GIB, "limit": 6_000}
    # The goals are about the first and the last row.
    runs = 2 if (rtt, loss) in ((100, 0), (100, 1)) else 1
    title = f"Goodput, {rtt} ms round trip, {loss:g} % loss"
    return Measure(f"path-{rtt}-{loss:g}", "path", title, options, _goodput(1), runs, (rtt, loss))


MEASURES = (
    Measure(
        "up",
        "goodput",
        "One stream, dialer to listener",
        {"do": "up", "size": 2 * GIB, "limit": _TIME},
        _goodput(0),
    ),
    Measure(
        "down",
        "goodput",
        "One stream, listener to dialer",
        {"do": "down", "size": 2 * GIB, "limit": _TIME},
        _goodput(1),
    ),
    Measure(
        "streams10",
        "streams",
        "Ten streams at once",
        {"do": "up", "size": 2 * GIB, "limit": _TIME, "streams": 10},
        _goodput(0),
    ),
    Measure(
        "ping",
        "ping",
        "Round trips of one byte on an open stream",
        {"do": "ping", "count": 5_000, "limit": _TIME},
        _ROUNDS,
    ),
    Measure(
        "ping-loaded",
        "ping-loaded",
        "Round trips beside a process that keeps one processor busy",
        {"do": "ping", "count": 5_000, "limit": _TIME},
        _ROUNDS,
        only=_LATENCY,
        is_loaded=True,
    ),
    Measure(
        "ping-bulk",
        "ping-bulk",
        "Round trips while another connection of both processes moves bulk",
        {"do": "ping-bulk", "count": 5_000, "limit": 3_000},
        _BESIDE_BULK,
        only=_LATENCY,
    ),
    Measure(
        "requests1",
        "requests",
        "A new stream per request, in sequence",
        {"do": "requests", "inflight": 1, "count": 5_000, "limit": 3_000},
        _RATE,
    ),
    Measure(
        "requests100",
        "requests",
        "A new stream per request, 100 in flight",
        {"do": "requests", "inflight": 100, "count": 20_000, "limit": 3_000},
        _RATE,
    ),
    Measure(
        "handshakes1",
        "handshakes",
        "Handshakes, in sequence",
        {"do": "handshakes", "inflight": 1, "count": 1_000, "limit": 3_000},
        _RATE,
    ),
    Measure(
        "handshakes32",
        "handshakes",
        "Handshakes, 32 in flight",
        {"do": "handshakes", "inflight": 32, "count": 2_000, "limit": 3_000},
        _RATE,
    ),
    _memory(1_000),
    _memory(10_000),
    Measure(
        "busy",
        "busy",
        "One stream into a Python thread that computes for half of the time",
        {"do": "down", "size": 2 * GIB, "limit": _TIME, "busy": 1},
        _goodput(1),
        only=("adapter", "host", "stock"),
    ),
    *(_growth(count) for count in (1, 10, 100, 1_000)),
    *(_path(rtt, loss) for rtt in (20, 100) for loss in (0, 0.1, 1)),
    Measure(
        "fair10",
        "fairness",
        "Ten connections at once, and the share of each",
        {"do": "up", "size": 16 * GIB, "limit": 3_000, "streams": 10, "connections": 10},
        _FAIRNESS,
    ),
)

GROUPS = {
    "goodput": "One stream",
    "streams": "Ten streams",
    "ping": "Ping-pong",
    "ping-loaded": "Ping-pong on a busy machine",
    "ping-bulk": "Ping-pong beside bulk",
    "requests": "A stream per request",
    "handshakes": "Handshakes",
    "memory": "Memory",
    "busy": "A busy receiver",
    "growth": "Growing numbers of connections",
    "path": "Distance and loss",
    "fairness": "Fairness",
}


def chosen(names: list[str]) -> list[Measure]:
    """The measures of these groups or names, or all. Raises KeyError for an unknown one."""
    known = {*GROUPS, *(measure.name for measure in MEASURES)}
    for name in names:
        if name not in known:
            groups, single = ", ".join(GROUPS), ", ".join(measure.name for measure in MEASURES)
            raise KeyError(f"no measure {name!r}: there are the groups {groups}, and in them {single}")
    return [each for each in MEASURES if not names or each.group in names or each.name in names]
