"""What the tries of a cell came to, the expected outcome, and the page. No network here."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tools.nat.network import ROUTER_KINDS
from tools.nat.trial import Cell, Outcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

PAGES = Path(__file__).parents[2] / "docs" / "reports" / "nat"
BUILD = Path(__file__).parent / "build"
CAPTURES = BUILD / "captures"
DATA = BUILD / "nat.json"

WHOLE = 20
"""Tries of a cell in a run of everything."""

# Of the tries of a pair of routers that can be punched, this share must give a direct connection.
ENOUGH = 0.95
# Of go-libp2p's median time in the same networks and the same run.
SLOWEST = 1.2
# Pairs in which timing decides are compared with go-libp2p's, and have no share of their own.
_BY_TIMING = "accept"


def known_defects() -> dict[str, str]:
    """Cell -> the evidence, from known-defects.toml."""
    text = (Path(__file__).parent / "known-defects.toml").read_text()
    return {each["cell"]: each["evidence"] for each in tomllib.loads(text).get("defect", [])}


@dataclass
class Result:
    """One cell and its tries."""

    cell: Cell
    outcomes: list[Outcome] = field(default_factory=list)
    # The index of its run in `Report.runs`.
    run: int = 0

    def add(self, outcome: Outcome, captures: Path) -> Path | None:
        """Note a try. If it failed or left something, its packets at the routers are kept in the folder that
        this returns."""
        self.outcomes.append(outcome)
        is_late = self.cell.is_timed and outcome.seconds is None
        is_failed = bool(outcome.error or outcome.left) or not outcome.is_usable or is_late
        if not is_failed or not any(captures.iterdir()):
            return None
        kept = CAPTURES / re.sub("[^a-z0-9]+", "-", str(self.cell)) / str(len(self.outcomes))
        shutil.copytree(captures, kept, dirs_exist_ok=True)
        return kept

    @property
    def is_by_timing(self) -> bool:
        return _BY_TIMING in self.cell.routers

    @property
    def direct(self) -> int:
        return sum(each.seconds is not None for each in self.outcomes)

    @property
    def usable(self) -> int:
        return sum(each.is_usable for each in self.outcomes)

    @property
    def clean(self) -> int:
        return sum(not each.left for each in self.outcomes)

    @property
    def median(self) -> float | None:
        seconds = [each.seconds for each in self.outcomes if each.seconds is not None]
        return statistics.median(seconds) if seconds else None

    @property
    def told(self) -> str:
        median = "" if self.median is None else f", median {self.median * 1000:.0f} ms"
        told = f"{self.direct} of {len(self.outcomes)} direct{median}, {self.usable} usable"
        problems = {each.error or each.left for each in self.outcomes}
        return "; ".join([told, *sorted(each[:300] for each in problems if each)])


@dataclass
class Run:
    """One run of the laboratory, of all cells or some."""

    day: str
    machine: str
    # 0: not noted.
    seconds: float = 0.0
    # The lowest and the highest load average of a minute that was seen; empty: none was noted.
    load: list[float] = field(default_factory=list)
    note: str = ""
    # Tries at once, where no time is compared. 0: not noted.
    jobs: int = 0

    @classmethod
    def begin(cls, note: str = "", jobs: int = 0) -> Run:
        """A run that begins now, on this machine."""
        day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
        machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
        run = cls(day, machine, note=note, jobs=jobs)
        run.note_load()
        return run

    def note_load(self) -> None:
        now = os.getloadavg()[0]
        self.load = [min([now, *self.load]), max([now, *self.load])]

    @property
    def told(self) -> str:
        load = f", at a load of {self.load[0]:.0f} to {self.load[1]:.0f}" if self.load else ""
        seconds = f", in {self.seconds:.0f} s" if self.seconds else ""
        jobs = f", with {self.jobs} {'job' if self.jobs == 1 else 'jobs'}" if self.jobs else ""
        return f"{self.day}, {self.machine}{seconds}{jobs}{load}"


@dataclass
class Report:
    """The cells of a run, and of the runs that it adds to."""

    results: list[Result] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    defects: dict[str, str] = field(default_factory=known_defects)
    # What the peers are, with versions.
    peers: list[str] = field(default_factory=list)

    @classmethod
    def read(cls) -> Report:
        """The last run, or that of the page; an empty one if there was none."""
        path = next((each for each in (DATA, PAGES / "nat.json") if each.exists()), None)
        if path is None:
            return cls()
        data = json.loads(path.read_text())
        results = []
        for each in data["cells"]:
            cell = {**each["cell"], "routers": tuple(each["cell"]["routers"])}
            outcomes = [Outcome(**outcome) for outcome in each["tries"]]
            results.append(Result(Cell(**cell), outcomes, each["run"]))
        return cls(results, [Run(**each) for each in data["runs"]], peers=data["peers"])

    def begin(self, note: str = "", jobs: int = 0) -> Run:
        """Add a run, to which the cells belong that `add` notes from now on."""
        self.runs.append(Run.begin(note, jobs))
        return self.runs[-1]

    def add(self, result: Result) -> None:
        """Note a cell, in the place of its earlier tries if there are some.

        Earlier tries of go-libp2p with itself stay while cells of their run are compared with them.
        """
        result.run = len(self.runs) - 1
        known = [each for each in self.results if (each.cell, each.run) != (result.cell, result.run)]
        newest = {each.cell: each for each in [*known, result]}
        needed = {(each.cell.reference, each.run) for each in newest.values()}
        kept = [each for each in known if newest[each.cell] is each or (each.cell, each.run) in needed]
        self.results = [*kept, result]

    @property
    def shown_runs(self) -> list[int]:
        """The indexes of the runs that cells are from; the page counts them from 1."""
        return sorted({each.run for each in self.results})

    def reference(self, result: Result) -> Result | None:
        """go-libp2p with itself in the same place: through the same relay in the same run, or through go."""
        go = result.cell.reference
        same = next((each for each in self.results if each.cell == go and each.run == result.run), None)
        through_go = replace(go, relay="go")
        # The newest is the last.
        return same or next((each for each in reversed(self.results) if each.cell == through_go), None)

    def ratio(self, result: Result) -> float | None:
        """Its median as a multiple of go-libp2p's."""
        reference = self.reference(result)
        if reference is None or not reference.median or result.median is None:
            return None
        return result.median / reference.median

    def is_as_expected(self, result: Result) -> bool:
        tries = len(result.outcomes)
        if result.usable < tries or result.clean < tries:
            return "stock" in (result.cell.listener, result.cell.dialer) and result.clean == tries
        if not result.cell.is_punchable:
            return True
        if result.is_by_timing:
            reference = self.reference(result)
            # As often as go-libp2p, by share: the number of tries may differ.
            return reference is None or result.direct * len(reference.outcomes) >= reference.direct * tries
        return result.direct >= ENOUGH * tries

    def sign(self, result: Result) -> str:
        return "+" if self.is_as_expected(result) else "-"

    def unexpected(self) -> list[Result]:
        return [
            each
            for each in self.results
            if not self.is_as_expected(each) and str(each.cell) not in self.defects
        ]

    def slow(self) -> list[Result]:
        """The whole cells with a home of ours whose ratio is above `SLOWEST`, and that are not known."""
        found = []
        for each in self.results:
            reference, ratio = self.reference(each), self.ratio(each)
            if reference is None or ratio is None or "ours" not in (each.cell.listener, each.cell.dialer):
                continue
            # A few tries tell nothing of the median, and another run is not the same machine's load.
            is_whole = min(len(each.outcomes), len(reference.outcomes)) >= WHOLE
            is_judged = is_whole and reference.run == each.run and str(each.cell) not in self.defects
            if is_judged and ratio > SLOWEST:
                found.append(each)
        return found

    def table(self) -> str:
        seconds = sum(self.runs[each].seconds for each in self.shown_runs)
        count = len({each.cell for each in self.results})
        lines = ["", f"{count} cells" + (f", in {seconds:.0f} s" if seconds else "")]
        lines += [f"NOT AS EXPECTED: {each.cell}: {each.told}" for each in self.unexpected()]
        lines += [f"SLOW: {each.cell}: {self.ratio(each):.2f} of go-libp2p's time" for each in self.slow()]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        cells = [
            {
                "cell": asdict(each.cell),
                "run": each.run,
                "tries": [asdict(outcome) for outcome in each.outcomes],
            }
            for each in self.results
        ]
        return {"peers": self.peers, "runs": [asdict(each) for each in self.runs], "cells": cells}

    def write(self) -> None:
        """Keep the run for `read`."""
        DATA.parent.mkdir(parents=True, exist_ok=True)
        DATA.write_text(json.dumps(self.data(), indent=1) + "\n")

    @property
    def told_when(self) -> str:
        """When and where it was made, in a line."""
        shown = self.shown_runs
        if len(shown) == 1:
            return self.runs[shown[0]].told
        return f"{len(shown)} runs, {' and '.join(sorted({self.runs[each].machine for each in shown}))}"

    def _about_runs(self) -> list[str]:
        """How the page was made: the run, or each of several."""
        shown = self.shown_runs
        if len(shown) == 1:
            run = self.runs[shown[0]]
            note = f" {run.note}" if run.note else ""
            return [f"Made by `make nat`: {run.told}.{note} Do not edit: run it again."]
        lines = [
            f"Made by `make nat` in {len(shown)} runs of some cells each; the last column names the run. A "
            "ratio in parentheses is to go-libp2p's time of another run. Do not edit: run it again.",
            "",
        ]
        for number, index in enumerate(shown, 1):
            run, cells = self.runs[index], sum(each.run == index for each in self.results)
            lines.append(f"{number}. {run.told}: {cells} cells.{f' {run.note}' if run.note else ''}")
        return lines

    def _about_jobs(self) -> list[str]:
        """What several jobs did, if a run had them."""
        if all(self.runs[each].jobs < 2 for each in self.shown_runs):
            return []
        return [
            "With several jobs, that many tries of a cell are made at once where no time is compared: behind "
            "two symmetric routers, behind two that accept input with no delay between them, and with "
            "py-libp2p's own transport. Behind short, a try may begin while others are silent. Every other "
            "try has the machine to itself.",
            "",
        ]

    def page(self, picture: str) -> str:
        """The page, which shows the file ``picture`` of the same folder."""
        has_runs = len(self.shown_runs) > 1
        lines = [
            "# Behind NATs",
            "",
            *self._about_runs(),
            "",
            "Each try has new network namespaces: the listener holds a reservation at the relay, the dialer "
            "comes through it, and both are behind a router. The time is the median from the relayed to the "
            "direct connection, each when the dialer's swarm has it, and its ratio to go-libp2p's with "
            "itself in the same networks, through the same relay where the run has it. A try is usable if a "
            "ping passes in the end, over the direct connection if there was one. It is clean if our homes "
            "gave back every descriptor, task and connection.",
            "",
            f"Expected: at least {ENOUGH:.0%} of the tries are direct; behind routers that accept input, "
            "where timing decides, the share of go-libp2p with itself; behind two symmetric routers a usable "
            "relayed connection; and every try usable and clean. Delays are one way, between any two of the "
            "three networks, so that the relayed way is twice as long. The loss is of the packets between "
            "two networks, by seed.",
            "",
            *self._about_jobs(),
            f"Peers: {'; '.join(self.peers)}. A whole run has {WHOLE} tries of each cell; a cell with "
            "fewer is from a partial run.",
            "",
            f"![The cells as a picture]({picture})",
            "",
            "| networks | listener | dialer | relay | direct | median | to go's | usable | clean |"
            + (" run |" if has_runs else ""),
            "|---|---|---|---|---|---|---|---|---|" + ("---|" if has_runs else ""),
        ]
        lines += [self._row(each) for each in self.results]
        lines += ["", "Networks:", ""]
        lines += [f"- **{kind.name}**: {kind.about}." for kind in ROUTER_KINDS.values() if kind.rules]
        found = {str(each.cell) for each in self.results}
        known = [f"- {cell}: {why}" for cell, why in self.defects.items() if cell in found]
        if known:
            lines += ["", "Known defects:", "", *known]
        if self.unexpected():
            lines += ["", "Not as expected:", ""]
            lines += [f"- {each.cell}: {_plain(each.told)}." for each in self.unexpected()]
        if self.slow():
            lines += ["", f"Slower than {SLOWEST} times go-libp2p's median in the same run:", ""]
            lines += [f"- {each.cell}: {self.ratio(each):.2f}." for each in self.slow()]
        return "\n".join(lines) + "\n"

    def _row(self, result: Result) -> str:
        cell, tries = result.cell, len(result.outcomes)
        median = "" if result.median is None else f"{result.median * 1000:.0f} ms"
        ratio = self.ratio(result)
        mark = "" if self.is_as_expected(result) else " ✗"
        reference, shown = self.reference(result), self.shown_runs
        to_go = "" if ratio is None else f"{ratio:.2f}"
        if reference is not None and reference.run != result.run and to_go:
            to_go = f"({to_go})"
        columns = [
            place_of(cell),
            cell.listener,
            cell.dialer,
            cell.relay,
            f"{result.direct}/{tries}{mark}",
            median,
            to_go,
            f"{result.usable}/{tries}",
            f"{result.clean}/{tries}",
            *([str(shown.index(result.run) + 1)] if len(shown) > 1 else []),
        ]
        return f"| {' | '.join(columns)} |"


def place_of(cell: Cell) -> str:
    """The routers and the path of a cell, as a reader of the page sees them."""
    first, second = cell.routers
    where = f"{first}, shared" if cell.is_shared else first if first == second else f"{first} / {second}"
    return where + cell.path


def about_place(place: str) -> str:
    """What its routers are."""
    names = re.split("[ ,/]+", place)
    return "; ".join(f"{name}: {ROUTER_KINDS[name].about}" for name in names if name in ROUTER_KINDS)


def _plain(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
