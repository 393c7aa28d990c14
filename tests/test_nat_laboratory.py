"""The NAT laboratory itself: its networks, which need root, its verdicts and its page."""

from __future__ import annotations

import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from testkit.census import PATIENCE, eventually
from testkit.program import running
from tools.nat.__main__ import compared, main, run, tried
from tools.nat.cells import EXAMPLE, PEERS, cells, named, with_references
from tools.nat.network import RELAY, Home, LaboratoryError, missing, town
from tools.nat.picture import status, svg
from tools.nat.report import PAGES, Report, Result, Run
from tools.nat.trial import PROGRAMS, Cell, Outcome, captured, delayed, has_captures, released

_needs_laboratory = pytest.mark.skipif(missing() is not None, reason=str(missing()))
OURS = Cell("ours", "ours", "go", ("drop", "drop"))
GO = Cell("go", "go", "go", ("drop", "drop"))
SYMMETRIC = Cell("ours", "ours", "go", ("symmetric", "symmetric"))
DIRECT, RELAYED = Outcome(0.1, True), Outcome(None, True)


def opened(home: Home) -> socket.socket:
    """A socket of the home, at the address that it listens on."""
    _, family, address, _, port, _ = home.listen.split("/")
    with home.machine.entered():
        made = socket.socket(socket.AF_INET6 if family == "ip6" else socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((address, int(port)))
    made.settimeout(PATIENCE)
    return made


@_needs_laboratory
@pytest.mark.parametrize("kind", ["firewall", "firewall6"])
def test_a_firewall_drops_what_nobody_asked_for(kind: str) -> None:
    with town((kind, kind)) as where, opened(where.homes[0]) as near, opened(where.homes[1]) as far:
        far.sendto(b"unasked", near.getsockname())
        near.sendto(b"opens", far.getsockname())
        # It passes the router of far as the answer to "unasked", and shows that near's router knows of it.
        assert far.recv(100) == b"opens"
        far.sendto(b"asked", near.getsockname())
        assert near.recv(100) == b"asked"


@_needs_laboratory
def test_homes_behind_one_router_see_each_other_at_mapped_addresses() -> None:
    with town(("hairpin", "hairpin"), is_shared=True) as where:
        first, second = (opened(home) for home in where.homes)
        with first, second, opened(where.relay) as relay:
            first.sendto(b"here", relay.getsockname())
            _, mapped = relay.recvfrom(100)
            second.sendto(b"hello", mapped)
            # RFC 4787 requirement 9 a.
            assert first.recvfrom(100) == (b"hello", ("11.0.2.2", 4002))


@_needs_laboratory
def test_mappings_of_short_routers_end_after_five_seconds() -> None:
    with town(("short", "short")) as where:
        shown = subprocess.run(
            where.routers[0].command(["sysctl", "-n", "net.netfilter.nf_conntrack_udp_timeout_stream"]),
            check=True,
            capture_output=True,
        )
    assert shown.stdout == b"5\n"


@_needs_laboratory
@pytest.mark.parametrize("kind", ["none", "firewall6"])
async def test_a_delay_is_one_way_between_networks(kind: str) -> None:
    cell = Cell("ours", "ours", "go", (kind, kind), delay=100)
    with town(cell.routers) as where, opened(where.homes[0]) as home, opened(where.relay) as relay:
        async with delayed(cell, where):
            began = time.monotonic()
            home.sendto(b"late", relay.getsockname())
            assert await trio.to_thread.run_sync(relay.recv, 100) == b"late"
            # The promise is the least time.
            assert time.monotonic() - began >= 0.1


@_needs_laboratory
async def test_packets_are_lost_by_seed() -> None:
    cell = Cell("ours", "ours", "go", ("none", "none"), loss=50)
    chance = random.Random(7)
    arriving = [bytes([number]) for number in range(40) if chance.random() >= 0.5]
    with town(cell.routers) as where, opened(where.homes[0]) as home, opened(where.relay) as relay:
        async with delayed(cell, where, seed=7):
            for number in range(40):
                home.sendto(bytes([number]), relay.getsockname())
            assert [await trio.to_thread.run_sync(relay.recv, 100) for _ in arriving] == arriving


@_needs_laboratory
@pytest.mark.skipif(not has_captures(), reason="tcpdump is missing")
async def test_packets_at_a_router_are_written_to_a_file(tmp_path: Path) -> None:
    with town(("drop", "drop")) as where, opened(where.homes[0]) as home:

        def is_written() -> bool:
            # Again each time: the capture begins later than its program.
            home.sendto(b"captured", (RELAY, 4001))
            written = tmp_path / "router0.pcap"
            return written.exists() and b"captured" in written.read_bytes()

        async with captured(where, tmp_path):
            assert await eventually(is_written)


async def test_a_program_gets_the_options_that_come_later() -> None:
    command = [*PROGRAMS["ours"], "relay", "--wait", "--listen", "/ip6/::1/udp/0/quic-v1"]
    async with running(command) as program:
        await program.say('["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]')
        await program.line(lambda line: line.get("event") == "ready", PATIENCE, "ready")
        await program.end_input()
        left = await program.line(lambda line: line.get("event") == "left", PATIENCE, "census")
        assert left["what"] == {}


_LABORATORY = """
import json, os, trio
from tools.nat.network import town
from tools.nat.trial import Cell, delayed

async def main():
    cell = Cell("ours", "ours", "go", ("drop", "drop"), delay=100)
    with town(cell.routers) as where:
        async with delayed(cell, where):
            tasks = os.listdir("/proc/self/task")
            children = [open(f"/proc/self/task/{each}/children").read().split() for each in tasks]
            print(json.dumps({"children": sum(children, [])}), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


@_needs_laboratory
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_nothing_is_left_of_a_laboratory_that_a_signal_ends(how: signal.Signals) -> None:
    async with running([sys.executable, "-c", _LABORATORY]) as program:
        line = await program.line(bool, PATIENCE, "children")
        assert line["children"]
        os.kill(program.process.pid, how)
        for child in line["children"]:
            assert await eventually(lambda path=Path("/proc", child): not path.exists())  # type: ignore[misc]


def report(*results: Result) -> Report:
    return Report(
        list(results), [Run("2026-11-28", "Linux, 2 cores", 60.0, [1.0, 3.0])], {}, ["go-libp2p 0.51.0"]
    )


def test_one_relayed_try_of_ten_is_not_as_expected() -> None:
    assert not report().is_as_expected(Result(OURS, [DIRECT] * 9 + [RELAYED]))
    assert report().is_as_expected(Result(OURS, [DIRECT] * 19 + [RELAYED]))


def test_what_a_home_left_fails_the_cell() -> None:
    left = Outcome(0.1, True, left="the dialer left tasks: ['x']")
    assert not report().is_as_expected(Result(OURS, [DIRECT, left]))


def test_where_timing_decides_ours_is_compared_with_go() -> None:
    ours = Cell("ours", "ours", "go", ("accept", "accept"))
    go = Cell("go", "go", "go", ("accept", "accept"))
    tried = Result(ours, [RELAYED, DIRECT])
    assert report(Result(go, [RELAYED, RELAYED, DIRECT])).is_as_expected(tried)
    assert not report(Result(go, [DIRECT, DIRECT, RELAYED])).is_as_expected(tried)


def test_the_ratio_is_to_go_in_the_same_networks() -> None:
    elsewhere = Cell("go", "go", "go", ("drop", "drop"), delay=30)
    both = report(Result(GO, [Outcome(0.2, True)]), Result(elsewhere, [Outcome(2.0, True)]))
    assert both.ratio(Result(OURS, [DIRECT])) == 0.5


def test_a_whole_cell_that_takes_longer_than_go_allows_is_named() -> None:
    go, ours = [Outcome(0.1, True)] * 20, [Outcome(0.13, True)] * 20
    slow = report(Result(GO, go), Result(OURS, ours))
    assert [each.cell for each in slow.slow()] == [OURS]
    assert f"SLOW: {OURS}: 1.30 of go-libp2p's time" in slow.table()
    assert f"- {OURS}: 1.30.\n" in slow.page("nat.svg")
    slow.defects[str(OURS)] = "evidence"
    assert slow.slow() == []
    assert report(Result(GO, go), Result(OURS, [Outcome(0.12, True)] * 20)).slow() == []
    # Of a partial run, and of another one.
    assert report(Result(GO, go), Result(OURS, ours[:3])).slow() == []
    later = report(Result(GO, go))
    later.begin()
    later.add(Result(OURS, ours))
    assert later.slow() == []


@_needs_laboratory
def test_an_error_within_the_laboratory_is_not_one_of_the_network() -> None:
    with pytest.raises(FileNotFoundError), town(("none", "none")):
        raise FileNotFoundError("a program")


def test_a_network_that_is_refused_later_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.nat.report.DATA", tmp_path / "nat.json")
    outcomes: Iterator[Outcome | LaboratoryError] = iter([DIRECT, LaboratoryError("no device"), DIRECT])

    async def attempt(*_: object, **__: object) -> Outcome:
        outcome = next(outcomes)
        if isinstance(outcome, LaboratoryError):
            raise outcome
        return outcome

    monkeypatch.setattr("tools.nat.__main__.attempt", attempt)
    made = Report()
    run([OURS], 3, made)
    assert [each.error for each in made.results[0].outcomes] == ["", "no device", ""]
    outcomes = iter([LaboratoryError("no device")])
    with pytest.raises(SystemExit, match="3"):
        run([OURS], 3, made)


@pytest.mark.parametrize(
    "failed",
    [RELAYED, Outcome(0.1, False), Outcome(0.1, True, left="the dialer left tasks"), Outcome(error="no end")],
    ids=["relayed", "unusable", "leaking", "void"],
)
def test_only_failed_tries_keep_their_captures(
    failed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.nat.report.CAPTURES", tmp_path / "kept")
    (tmp_path / "of_the_try").mkdir()
    (tmp_path / "of_the_try" / "router0.pcap").touch()
    result = Result(OURS)
    assert result.add(DIRECT, tmp_path / "of_the_try") is None
    kept = result.add(failed, tmp_path / "of_the_try")
    assert kept is not None
    assert (kept / "router0.pcap").exists()
    # It cannot be punched.
    assert Result(SYMMETRIC).add(RELAYED, tmp_path / "of_the_try") is None


async def test_tries_that_only_wait_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    have_three_begun = trio.Event()

    async def attempt(*_: object, seed: int, alone: trio.Lock | None) -> Outcome:
        assert alone is None
        begun.append(seed)
        if len(begun) == 3:
            have_three_begun.set()
        with trio.fail_after(PATIENCE):
            await have_three_begun.wait()
        return RELAYED

    monkeypatch.setattr("tools.nat.__main__.attempt", attempt)
    (result,) = await tried([SYMMETRIC], 6, 3, is_first=False)
    assert sorted(begun) == [1, 2, 3, 4, 5, 6]
    assert result.outcomes == [RELAYED] * 6


async def test_tries_that_are_timed_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the cells whose times are compared: the machine's speed changes within minutes."""
    begun: list[tuple[int, Cell]] = []

    async def attempt(cell: Cell, *_: object, seed: int, alone: trio.Lock | None) -> Outcome:
        assert alone is not None
        async with alone:
            begun.append((seed, cell))
            await trio.testing.wait_all_tasks_blocked()
            assert begun[-1] == (seed, cell)
        return DIRECT

    monkeypatch.setattr("tools.nat.__main__.attempt", attempt)
    results = await tried([OURS, GO], 4, 2, is_first=False)
    assert begun == [(seed, cell) for seed in (1, 2, 3, 4) for cell in (OURS, GO)]
    assert [each.outcomes for each in results] == [[DIRECT] * 4] * 2


def test_cells_of_the_same_networks_and_relay_are_compared() -> None:
    other_relay = replace(GO, relay="rust")
    chosen = [OURS, SYMMETRIC, other_relay, GO, replace(SYMMETRIC, dialer="go")]
    assert compared(chosen) == [[OURS, GO], [SYMMETRIC], [other_relay], [chosen[-1]]]


async def test_a_try_begins_while_another_is_silent() -> None:
    alone = trio.Lock()
    order: list[str] = []

    async def other() -> None:
        async with alone:
            order.append("other")

    async with trio.open_nursery() as nursery, alone:
        nursery.start_soon(other)
        await trio.testing.wait_all_tasks_blocked()
        order.append("silent")
        async with released(alone):
            await trio.testing.wait_all_tasks_blocked()
        order.append("end")
    assert order == ["silent", "other", "end"]


def test_times_are_compared_where_timing_can_decide() -> None:
    accept = Cell("ours", "ours", "go", ("accept", "accept"))
    assert not accept.is_timed
    assert replace(accept, delay=30).is_timed
    assert OURS.is_timed
    assert not SYMMETRIC.is_timed
    assert not replace(OURS, dialer="stock").is_timed


def test_a_cell_is_run_with_its_reference() -> None:
    ours = replace(OURS, relay="rust")
    go = replace(GO, relay="rust")
    assert with_references([ours]) == [go, ours]
    assert with_references([ours, replace(ours, dialer="go"), go]) == [ours, replace(ours, dialer="go"), go]
    # Nothing is compared.
    alone = [SYMMETRIC, replace(OURS, listener="stock"), replace(OURS, listener="rust", dialer="rust")]
    assert with_references(alone) == alone


def test_cells_are_named_by_their_parts() -> None:
    first, *others = named(EXAMPLE)
    assert first == Cell("ours", "go", "rust", ("symmetric", "forwarded"))
    assert [str(each) for each in others[:3]] == [
        "ours and ours through go, behind drop and drop, 30 ms and 2 % loss",
        "ours and ours through ours, behind drop and drop, 30 ms and 2 % loss",
        "go and go through go, behind drop and drop, 30 ms and 2 % loss",
    ]
    assert len(others) == 8
    # As they are in a run of everything, and each once.
    every = cells(PEERS, PEERS, has_stock=True)
    assert set(named("hairpin ours>ours, hairpin ours>ours via go, drop stock>ours via ours")) < set(every)
    assert len(named("hairpin ours>ours, hairpin ours>ours via go")) == 3


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("drop", "'drop' is not like ROUTERS"),
        ("drop@x ours>go", "'drop@x' is not like ROUTERS"),
        ("open ours>go", "'open' is no kind of router: there are none, drop"),
        ("drop ours", "'' is no peer: there are ours, stock"),
        ("drop ours>go via stock", "'stock' is no relay: there are ours, go, rust"),
    ],
)
def test_a_cell_that_is_not_known_is_refused(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        named(text)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """The cells that a run with these arguments has."""

    def cells_of(arguments: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["nat", *shlex.split(arguments), "--list"])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capsys.readouterr().out.splitlines()

    return cells_of


def test_a_run_has_the_stock_transport_unless_it_is_left_out(listed: Callable[[str], list[str]]) -> None:
    stock = [
        "stock and ours through ours, behind drop and drop",
        "ours and stock through ours, behind drop and drop",
    ]
    assert [each for each in listed("") if "stock" in each] == stock
    assert not [each for each in listed("--no-stock") if "stock" in each]
    assert not [each for each in listed("--peers go") if "stock" in each]


def test_a_run_has_delays_between_routers_that_accept_input(listed: Callable[[str], list[str]]) -> None:
    found = listed("--routers accept --peers ours --relays ours")
    assert found == [
        "go and go through ours, behind accept and accept, 30 ms and 0 % loss",
        "ours and ours through ours, behind accept and accept, 30 ms and 0 % loss",
        "go and go through ours, behind accept and accept, 80 ms and 0 % loss",
        "ours and ours through ours, behind accept and accept, 80 ms and 0 % loss",
        "go and go through ours, behind accept and accept",
        "ours and ours through ours, behind accept and accept",
    ]


def test_a_run_of_named_cells_has_their_references(listed: Callable[[str], list[str]]) -> None:
    go = "go and go through ours, behind drop and drop"
    rust = "ours and rust through ours, behind drop and drop"
    assert listed("--cells 'drop ours>rust via ours'") == [go, rust]
    assert listed("--no-references --cells 'drop ours>rust via ours'") == [rust]


def test_the_page_and_the_picture_show_every_cell() -> None:
    both = report(Result(OURS, [DIRECT, RELAYED]), Result(GO, [Outcome(0.2, True)]))
    assert "| drop | ours | ours | go | 1/2 ✗ | 100 ms | 0.50 | 2/2 | 2/2 |" in both.page("nat.svg")
    assert "1/2 100" in svg(both)
    assert status(both, both.results[0]) == "red"
    both.defects[str(OURS)] = "evidence"
    assert status(both, both.results[0]) == "known"


def test_the_page_says_how_it_was_made() -> None:
    page = report(Result(OURS, [DIRECT])).page("nat.svg")
    assert "Made by `make nat`: 2026-11-28, Linux, 2 cores, in 60 s, at a load of 1 to 3. Do not edit" in page


def test_the_page_says_how_many_jobs_a_run_had() -> None:
    made = report(Result(OURS, [DIRECT]))
    assert "With several jobs" not in made.page("nat.svg")
    made.runs[0].jobs = 5
    page = made.page("nat.svg")
    assert "in 60 s, with 5 jobs, at a load of 1 to 3" in page
    assert "With several jobs" in page


def test_go_of_an_earlier_run_stays_while_cells_are_compared_with_it() -> None:
    made = report(Result(GO, [Outcome(0.2, True)]), Result(OURS, [DIRECT]))
    made.begin()
    made.add(Result(GO, [Outcome(0.4, True)]))
    made.add(Result(replace(OURS, dialer="rust"), [DIRECT]))
    assert [made.ratio(each) for each in made.results] == [1.0, 0.5, 1.0, 0.25]
    made.add(Result(OURS, [DIRECT]))
    assert [(made.ratio(each), each.run) for each in made.results] == [(1.0, 1), (0.25, 1), (0.25, 1)]


def test_cells_of_several_runs_are_told_apart() -> None:
    made = report(Result(GO, [Outcome(0.2, True)]))
    later = made.begin("With another keep-alive.")
    made.add(Result(OURS, [DIRECT]))
    page = made.page("nat.svg")
    assert "Made by `make nat` in 2 runs" in page
    assert f"2. {later.told}: 1 cells. With another keep-alive." in page
    # The ratio mixes two runs.
    assert "| drop | ours | ours | go | 1/1 | 100 ms | (0.50) | 1/1 | 1/1 | 2 |" in page
    # The later run has both: nothing is left of the first.
    made.add(Result(GO, [Outcome(0.4, True)]))
    assert "in 2 runs" not in made.page("nat.svg")
    assert "| 100 ms | 0.25 | 1/1 | 1/1 |\n" in made.page("nat.svg")


def test_a_run_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.nat.report.DATA", tmp_path / "nat.json")
    monkeypatch.setattr("tools.nat.report.PAGES", tmp_path / "pages")
    assert Report.read().results == []
    made = report(Result(GO, [DIRECT]))
    made.begin()
    made.add(Result(OURS, [RELAYED]))
    made.write()
    assert Report.read() == Report(made.results, made.runs, peers=made.peers)
    # Without a run of one's own, the committed one is judged.
    (tmp_path / "pages").mkdir()
    (tmp_path / "nat.json").rename(tmp_path / "pages" / "nat.json")
    assert Report.read().runs == made.runs


def test_the_committed_page_is_generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.nat.report.DATA", tmp_path / "none")
    assert (PAGES / "README.md").read_text() == Report.read().page("nat.svg")
