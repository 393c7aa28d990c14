"""The benchmark: cells run and end, failures are reported and stop no other cell, goals are checked."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import trio

from testkit.census import PATIENCE
from testkit.program import Program, ProgramError
from tools.bench import cell, front, goals, page
from tools.bench.__main__ import run_all
from tools.bench.contender import Contender, load
from tools.bench.measure import MEASURES, Line, Measure
from tools.bench.python.level import Stream, running
from tools.bench.results import Cell, Results, begin, read, shown

SMALL = {"size": 4 << 20, "count": 200, "limit": 2_000}


def small(name: str) -> Measure:
    """A measure of the table with less work."""
    (measure,) = (each for each in MEASURES if each.name == name)
    options = {
        key: min(value, SMALL[key]) if key in SMALL else value for key, value in measure.options.items()
    }
    return replace(measure, options=options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["up", "down", "streams10", "ping", "requests100", "handshakes32", "busy"])
async def test_a_cell_gives_every_figure_of_its_measure(name: str) -> None:
    (adapter,) = load(["adapter"])
    measure = small(name)
    line = await cell.run(adapter, measure)
    figures = {key: figure.of(line) for key, figure in measure.figures.items()}
    assert all(value > 0 for value in figures.values()), figures
    if "bytes" in line:
        assert line["bytes"] == 4 << 20 if name != "streams10" else line["bytes"] > 4_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contender", "name"),
    [
        *product(
            ["asyncio", "uvloop", "aioquic"],
            ["up", "down", "streams10", "ping", "requests100", "handshakes32", "idle1000"],
        ),
        *product(["webtransport", "beside"], ["up", "down", "ping", "requests1", "handshakes1"]),
    ],
)
async def test_a_cell_of_another_contender_gives_every_figure(contender: str, name: str) -> None:
    (found,) = load([contender])
    measure = small(name)
    assert cell.absence(found, measure) is None
    line = await cell.run(found, measure)
    figures = {key: figure.of(line) for key, figure in measure.figures.items()}
    assert name == "idle1000" or all(value > 0 for value in figures.values()), figures


@pytest.mark.parametrize(("web", "is_dialed_by_it"), [("off", False), ("only", True), ("beside", False)])
async def test_a_node_is_dialed_over_webtransport_only_if_it_listens_on_nothing_else(
    web: str, is_dialed_by_it: bool
) -> None:
    async def refuse(stream: Stream) -> None:
        await stream.close()

    async with running(False, False, False, is_listener=True, web=web) as node:
        address = await node.listen(refuse)
    assert ("/webtransport/certhash/" in address) is is_dialed_by_it


@pytest.mark.slow
@pytest.mark.parametrize("contender", ["adapter", "asyncio"])
async def test_round_trips_beside_bulk_are_shown_with_the_goodput_of_the_transfer(contender: str) -> None:
    (found,) = load([contender])
    measure = small("ping-bulk")
    assert cell.absence(found, measure) is None
    line = await cell.run(found, measure)
    figures = {key: figure.of(line) for key, figure in measure.figures.items()}
    assert list(figures) == ["p99", "p50", "bulk"]
    assert all(value > 0 for value in figures.values()), figures


async def test_the_load_has_computed_when_its_block_begins_and_is_killed_at_its_end() -> None:
    async with cell.loading() as program:
        (line,) = program.lines
        assert line["computing"] >= 0.02
        assert program.is_running
    assert program.process.returncode == -signal.SIGKILL


async def test_the_load_is_killed_when_the_bench_is_interrupted() -> None:
    with trio.CancelScope() as interrupted:
        async with cell.loading() as program:
            interrupted.cancel()
            await trio.lowlevel.checkpoint()
    assert program.process.returncode == -signal.SIGKILL


async def test_the_load_ends_by_itself_with_the_process_that_started_it() -> None:
    async with cell.loading() as program:
        await program.end_input()
        await program.ended(PATIENCE)
        assert program.process.returncode == 0


# A listener that is never dialed, and a dialer that prints a line or fails.
SERVES = 'if [ $1 = serve ]; then echo \'{{"address": "/ip4/127.0.0.1/udp/1/quic-v1"}}\'; cat; fi; '
PRINTS = 'echo \'{{"count": 1, "seconds": 1, "p50": 1, "p99": 1, "cpu": [1, 1]}}\''


@pytest.mark.parametrize(("name", "loads"), [("ping-loaded", 1), ("ping", 0)])
@pytest.mark.parametrize("dialer", [PRINTS, "exit 3"])
async def test_only_a_measure_of_a_busy_machine_has_a_load_and_it_ends_with_the_cell(
    monkeypatch: pytest.MonkeyPatch, name: str, loads: int, dialer: str
) -> None:
    started: list[Program] = []
    loading = cell.loading

    @asynccontextmanager
    async def noted() -> AsyncIterator[Program]:
        async with loading() as program:
            started.append(program)
            yield program

    monkeypatch.setattr(cell, "loading", noted)
    contender = Contender("shell", "a shell", "it does nothing", ["sh", "-c", SERVES + dialer, "shell"])
    if dialer == PRINTS:
        assert (await cell.run(contender, small(name)))["count"] == 1
    else:
        with pytest.raises(ProgramError, match="ended without result"):
            await cell.run(contender, small(name))
    assert len(started) == loads
    assert all(program.process.returncode == -signal.SIGKILL for program in started)


async def test_a_contender_that_fails_is_shown_and_the_run_goes_on() -> None:
    (adapter,) = load(["adapter"])
    broken = Contender("broken", "a broken one", "it ends at once", ["sh", "-c", "echo no luck >&2; exit 3"])
    missing = Contender("missing", "a missing one", "nobody built it", ["/nonexistent/program"])
    found = begin([broken, missing, adapter], runs=1)
    await run_all(found, [small("ping")], {})
    assert "no luck" in found.reason("ping", "broken")
    assert "/nonexistent/program" in found.reason("ping", "missing")
    assert found.spread("ping", "adapter", "p50") is not None
    table = page.table(found)
    assert "a broken one" in table
    assert "failed (1 of 1)" in table


async def test_a_silent_listener_ends_at_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell, "START_LIMIT", 0.2)
    silent = Contender("silent", "a silent one", "it says nothing", ["sh", "-c", "sleep 60"])
    with pytest.raises(ProgramError, match="no address"):
        await cell.run(silent, small("ping"))


def goodput(gigabits: float, cpu: float) -> Line:
    return {
        "bytes": int(gigabits * 1e9 / 8),
        "seconds": 1.0,
        "cpu": [cpu, cpu],
        "rates": [1.0],
        "rss": [1, 1],
    }


def judged(adapter: float, rust: float) -> Results:
    """Results of one stream, at these Gbit/s."""
    found = begin(load(["adapter", "rust-libp2p"]), runs=3)
    for name, speed in (("adapter", adapter), ("rust-libp2p", rust)):
        for measure in ("up", "down"):
            # The median is the second; a failed run does not count.
            found.cells += [Cell(measure, name, goodput(speed * part, 1.0)) for part in (0.5, 1.0, 3.0)]
            found.cells.append(Cell(measure, name, failure="once"))
    return found


def test_a_goal_compares_medians() -> None:
    goal = goals.GOALS[0]
    assert goal.is_met(judged(adapter=4.0, rust=2.0))
    assert not goal.is_met(judged(adapter=3.9, rust=2.0))


def rounds(rate: float, p50: float, p99: float | None = None, cpu: float = 1.0) -> Line:
    return {
        "count": 1000,
        "seconds": 1000 / rate,
        "p50": p50,
        "p99": p50 if p99 is None else p99,
        "cpu": [cpu, cpu],
        "rss": [1, 1],
    }


def test_goals_of_asyncio_are_the_ratios_to_the_adapter_and_to_aioquic() -> None:
    found = begin(load(["adapter", "asyncio", "aioquic"]), runs=1)
    for name, speed in (("adapter", 2.0), ("asyncio", 1.9), ("aioquic", 0.04)):
        found.cells += [Cell(measure, name, goodput(speed, 1.0)) for measure in ("up", "down")]
    for name, rate, p50 in (("adapter", 1000, 100), ("asyncio", 1500, 110)):
        found.cells += [Cell(measure, name, rounds(rate, p50)) for measure in ("ping", "requests100")]
    judged = {goal.text: goal for goal in goals.GOALS if "asyncio /" in goal.text}
    expected = {
        "one-stream goodput, asyncio / adapter": (0.95, True),
        "one-stream goodput, asyncio / aioquic": (47.5, False),
        "ping-pong p50, asyncio / adapter": (1.1, False),
        "new streams, 100 in flight, asyncio / adapter": (1.5, True),
    }
    assert {*judged} == {*expected}
    for text, (ratio, is_met) in expected.items():
        assert judged[text].figure(found) == pytest.approx(ratio)
        assert judged[text].is_met(found) == is_met


def test_goals_of_webtransport_are_ratios_to_the_adapter() -> None:
    found = begin(load(["adapter", "webtransport", "beside"]), runs=1)
    for name, gbits in (("adapter", 8.0), ("webtransport", 6.0), ("beside", 7.9)):
        found.cells += [Cell(way, name, goodput(gbits, 0)) for way in ("up", "down")]
    judged = {goal.text: goal for goal in goals.GOALS}
    for text, figure, is_met in (
        ("one-stream goodput, WebTransport / adapter", 0.75, False),
        ("one-stream goodput, beside WebTransport / adapter", 0.9875, True),
    ):
        assert judged[text].figure(found) == pytest.approx(figure), text
        assert judged[text].is_met(found) == is_met, text


def test_goals_of_latency_requests_and_handshakes_compare_the_named_contenders() -> None:
    found = begin(load(["adapter", "engine", "quinn", "rust-libp2p", "go-libp2p"]), runs=1)
    lines = {
        ("ping", "adapter"): rounds(1, 130, cpu=0.8),
        ("ping", "rust-libp2p"): rounds(1, 100, cpu=0.5),
        ("ping-loaded", "adapter"): rounds(1, 150, p99=900),
        ("ping-loaded", "rust-libp2p"): rounds(1, 100, p99=200),
        ("ping-bulk", "adapter"): rounds(1, 300, p99=950),
        ("requests1", "adapter"): rounds(900, 1),
        ("requests1", "go-libp2p"): rounds(1000, 1),
        ("requests100", "adapter"): rounds(1250, 1),
        ("requests100", "go-libp2p"): rounds(1000, 1),
        ("requests100", "engine"): rounds(1500, 1),
        ("requests100", "rust-libp2p"): rounds(1000, 1),
        ("requests100", "quinn"): rounds(2500, 1),
        ("handshakes32", "engine"): rounds(900, 1),
        ("handshakes32", "quinn"): rounds(1000, 1),
    }
    found.cells += [Cell(measure, name, line) for (measure, name), line in lines.items()]
    judged = {goal.text: goal for goal in goals.GOALS}
    for text, figure, is_met in (
        ("CPU of a round trip, both ends, adapter / rust-libp2p", 1.6, False),
        ("ping-pong p50 on a busy machine, adapter / rust-libp2p", 1.5, True),
        ("ping-pong p99 on a busy machine, adapter / rust-libp2p", 4.5, False),
        ("ping-pong p99 beside bulk, adapter", 0.95, True),
        ("new streams, in sequence, adapter / go-libp2p", 0.9, False),
        ("new streams, 100 in flight, adapter / go-libp2p", 1.25, True),
        ("new streams, 100 in flight, engine / rust-libp2p", 1.5, True),
        ("new streams, 100 in flight, engine / raw quinn", 0.6, False),
        ("handshakes, 32 in flight, engine / raw quinn", 0.9, True),
    ):
        assert judged[text].figure(found) == pytest.approx(figure), text
        assert judged[text].is_met(found) == is_met, text


def test_the_floor_of_cpu_is_the_sum_of_udp_and_aes() -> None:
    found = begin(load(["adapter", "udp", "aes"]), runs=1)
    for name, cpu in (("adapter", [0.6, 0.6]), ("udp", [0.1, 0.04])):
        found.cells.append(Cell("up", name, {**goodput(8.0, 0), "cpu": cpu}))
    floors = [goal for goal in goals.GOALS if "UDP and AES" in goal.text]
    assert [goal.figure(found) for goal in floors] == [None, None]
    found.cells.append(Cell("up", "aes", {**goodput(8.0, 0), "cpu": [0.2, 0.16]}))
    assert [goal.figure(found) for goal in floors] == [pytest.approx(2.0), pytest.approx(3.0)]
    assert [goal.is_met(found) for goal in floors] == [True, False]


def test_the_memory_of_the_adapters_listener_is_the_greater_of_both_counts() -> None:
    found = begin(load(["adapter"]), runs=1)
    (goal,) = (each for each in goals.GOALS if "adapter, listener" in each.text)
    found.cells.append(Cell("idle1000", "adapter", {"count": 1000, "each": [90 * 1024, 30 * 1024]}))
    assert goal.figure(found) is None
    found.cells.append(Cell("idle10000", "adapter", {"count": 10_000, "each": [90 * 1024, 33 * 1024]}))
    assert goal.figure(found) == pytest.approx(33)
    assert not goal.is_met(found)


def test_a_whole_run_measures_every_goal() -> None:
    found = begin(load([]), runs=1)
    line = {**goodput(1.0, 1.0), **rounds(1, 1), "each": [1024, 1024]}
    found.cells = [
        Cell(measure.name, contender.name, line)
        for measure in MEASURES
        for contender in found.contenders
        if cell.absence(contender, measure) is None
    ]
    assert [goal.text for goal in goals.GOALS if goal.figure(found) is None] == []


def test_our_own_programs_are_not_the_best_other() -> None:
    found = begin(load(["adapter", "asyncio", "uvloop", "rust-libp2p"]), runs=1)
    for name, speed in (("adapter", 2.0), ("asyncio", 4.0), ("uvloop", 4.0), ("rust-libp2p", 1.0)):
        found.cells.append(Cell("path-100-1", name, goodput(speed, 1.0)))
    (goal,) = (each for each in goals.GOALS if "100 ms, 1 % loss" in each.text)
    assert goal.figure(found) == pytest.approx(2.0)


def test_what_was_not_measured_is_not_met() -> None:
    found = judged(adapter=4.0, rust=2.0)
    unmeasured = [goal for goal in goals.GOALS if goal.figure(found) is None]
    assert unmeasured
    assert not any(goal.is_met(found) for goal in unmeasured)
    assert "not measured" in goals.text(found)


def test_a_goal_with_an_upper_bound_is_checked_against_it() -> None:
    (goal,) = (each for each in goals.GOALS if each.text == "CPU of the sender, adapter / rust-libp2p")
    found = judged(adapter=4.0, rust=2.0)
    ratio = goal.figure(found)
    assert ratio is not None
    assert goal.is_met(found) == (ratio <= 0.6) is True


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    found = judged(adapter=4.0, rust=2.0)
    found.write(tmp_path / "run.json")
    assert read(tmp_path / "run.json") == found


def test_the_page_and_one_picture_for_each_group_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGES", tmp_path)
    found = judged(adapter=4.0, rust=2.0)
    text = page.write(found, goals.text(found)).read_text()
    assert "2 [1 .. 6]" in text
    assert "failed (1 of 4): once" in text
    assert "rust-libp2p" in (tmp_path / "goodput.svg").read_text()
    assert (tmp_path / "bench.json").exists()


def test_the_front_picture_shows_the_data_of_the_last_run() -> None:
    found = read(page.PAGES / "bench.json")
    drawn = front.svg(found)
    assert (page.PAGES / "front.svg").read_text() == drawn, front.__doc__
    for name in front.SHOWN:
        spread = found.spread(front.MEASURE, name, front.FIGURE)
        assert spread is not None
        assert f">{shown(spread.median)}</text>" in drawn


def test_the_readme_has_the_figures_of_the_last_run() -> None:
    readme = (page.PAGES.parents[2] / "README.md").read_text()
    found = read(page.PAGES / "bench.json")
    ratio = found.ratio(front.MEASURE, "stock", front.FIGURE)
    assert ratio is not None
    assert f"{1 / ratio:.0f} times the goodput" in readme
    assert f"`make bench` of {found.moment[:10]}" in readme
    for title, contender in (
        ("this transport", "adapter"),
        ("rust-libp2p", "rust-libp2p"),
        ("go-", "go-libp2p"),
    ):
        (row,) = re.findall(rf"^\| {title}.*?\| ([\d.]+) \|", readme, re.MULTILINE)
        spread = found.spread(front.MEASURE, contender, front.FIGURE)
        assert spread is not None
        assert float(row) == pytest.approx(spread.median, rel=0.02)
