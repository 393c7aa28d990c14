"""`make nat`: which peers reach each other directly, behind which routers, and how fast.

Exit status: 0 when every cell is as expected or known, 1 otherwise, 2 for wrong arguments, 3 where the
laboratory cannot run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import trio

from tools.interop.__main__ import build_all
from tools.interop.peer import load
from tools.nat.cells import EXAMPLE, PEERS, SYNTAX, cells, named, with_references
from tools.nat.network import ROUTER_KINDS, LaboratoryError, missing
from tools.nat.picture import svg
from tools.nat.report import PAGES, WHOLE, Report, Result
from tools.nat.trial import Cell, Outcome, attempt, has_captures

# Tries at once that mostly wait. A divisor of `WHOLE`: no round is smaller than the others.
_JOBS = 5

_ABOUT_CELLS = (
    f"these cells instead, with commas: {SYNTAX}. A plus is between alternatives of a part; one kind of "
    f"router is that of both homes; without a relay it is each. Example: {EXAMPLE}"
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.nat", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default="", help=f"names, with commas; default: {','.join(PEERS)}")
    parser.add_argument("--relays", default="", help="names, with commas; default: all peers")
    parser.add_argument("--routers", default="", help=f"kinds, with commas: {','.join(ROUTER_KINDS)}")
    parser.add_argument("--delays", default="", help="one way, milliseconds, with commas; default: all")
    parser.add_argument("--cells", default="", help=_ABOUT_CELLS)
    parser.add_argument(
        "--tries",
        type=int,
        default=WHOLE,
        help="for each cell (default: %(default)s); cells that are compared take turns",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=_JOBS,
        help="tries at once, in cells where no time is compared (default: %(default)s)",
    )
    parser.add_argument(
        "--stock",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="py-libp2p's own transport as a home too, behind drop",
    )
    parser.add_argument(
        "--references",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="go with go too, for each cell that is compared with it",
    )
    parser.add_argument("--add", action="store_true", help="keep the other cells of the last run")
    parser.add_argument("--note", default="", help="a sentence of the page about this run")
    parser.add_argument("--pages", action="store_true", help="write the page even of a part")
    parser.add_argument("--judge", action="store_true", help="run nothing: evaluate the last run again")
    parser.add_argument("--list", action="store_true", help="run nothing: print the cells that are chosen")
    told = parser.parse_args()
    if told.judge:
        sys.exit(shown(Report.read(), told.pages))
    chosen = chosen_cells(told, parser)
    if told.list:
        print("\n".join(map(str, chosen)))
        sys.exit(0)
    if (why := missing()) is not None:
        print(f"make nat cannot run here: {why}")
        sys.exit(3)
    last = Report.read() if told.add else Report()
    used = {name for each in chosen for name in (each.listener, each.dialer, each.relay)}
    foreign = sorted(used & {"go", "rust"})
    if foreign:
        built, failures = trio.run(build_all, load(foreign), float("inf"))
        if any(name in failures for name in foreign):
            sys.exit(1)
        last.peers = sorted({*last.peers, *(each.label for each in built)})
    if not has_captures():
        print("no captures of failed tries: tcpdump is missing: apt-get install tcpdump")
    is_part = told.peers or told.relays or told.routers or told.delays or told.cells or not told.stock
    run(chosen, told.tries, last, told.note, told.jobs)
    sys.exit(shown(last, told.pages or not is_part))


def chosen_cells(told: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Cell]:
    if told.jobs < 1 or told.tries < 1:
        parser.error("--jobs and --tries are at least 1")
    if told.cells:
        if told.peers or told.relays or told.routers or told.delays:
            parser.error("--cells takes the place of --peers, --relays, --routers and --delays")
        try:
            chosen = named(told.cells)
        except ValueError as error:
            parser.error(str(error))
    else:
        peers = names(told.peers, PEERS, parser)
        relays = names(told.relays, peers, parser)
        kinds = set(names(told.routers, tuple(ROUTER_KINDS), parser))
        delays = {int(each) for each in told.delays.split(",") if each}
        chosen = [
            each
            for each in cells(peers, relays, told.stock)
            if kinds.issuperset(each.routers) and (not delays or each.delay in delays)
        ]
    if not chosen:
        parser.error("there is no such cell")
    return with_references(chosen) if told.references else chosen


def shown(report: Report, has_pages: bool) -> int:
    """Print a run, and write its page; returns 1 if a cell is not as expected, or is slower."""
    print(report.table())
    if has_pages:
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / "README.md").write_text(report.page("nat.svg"))
        (PAGES / "nat.svg").write_text(svg(report))
        (PAGES / "nat.json").write_text(json.dumps(report.data(), indent=1) + "\n")
        print(f"written: {PAGES}")
    return 1 if report.unexpected() or report.slow() else 0


def names(told: str, known: tuple[str, ...], parser: argparse.ArgumentParser) -> tuple[str, ...]:
    chosen = tuple(each for each in told.split(",") if each)
    for each in chosen:
        if each not in {*known, *PEERS}:
            parser.error(f"{each!r} is none of {', '.join(known)}")
    return chosen or known


def run(chosen: list[Cell], tries: int, report: Report, note: str = "", jobs: int = 1) -> None:
    began, this = time.monotonic(), report.begin(note, jobs)
    done = 0
    for group in compared(chosen):
        try:
            results = trio.run(tried, group, tries, jobs, not done)
        except LaboratoryError as error:
            print(f"make nat cannot run here: {error}")
            sys.exit(3)
        for result in results:
            done += 1
            report.add(result)
            told = f"{report.sign(result)} {result.cell}: {result.told}"
            print(f"[{done:3}/{len(chosen)}] {told}", flush=True)
        this.seconds = time.monotonic() - began
        this.note_load()
        # After each group: an interrupted run has told something too.
        report.write()


def compared(chosen: list[Cell]) -> list[list[Cell]]:
    """The cells in groups whose times are compared with each other: those in the same networks through the
    same relay. A cell that is not timed is alone."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in chosen:
        groups.setdefault(cell.reference if cell.is_timed else cell, []).append(cell)
    return list(groups.values())


async def tried(group: list[Cell], tries: int, jobs: int, is_first: bool) -> list[Result]:
    """Try each cell of the group once, then each again: the machine's speed changes within minutes. Up to
    ``jobs`` tries at once; those of cells that are timed take turns, but for their silence.

    Raises LaboratoryError if the first try of the run has no network.
    """
    results = [Result(cell) for cell in group]
    attempts = iter([(number, result) for number in range(1, tries + 1) for result in results])
    alone = trio.Lock() if group[0].is_timed else None
    refusals: list[LaboratoryError] = []

    async def work() -> None:
        for number, result in attempts:
            cell = result.cell
            with tempfile.TemporaryDirectory() as folder:
                try:
                    outcome = await attempt(cell, Path(folder), seed=number, alone=alone)
                except LaboratoryError as error:
                    if is_first and number == 1:
                        refusals.append(error)
                        nursery.cancel_scope.cancel()
                        return
                    # It has run here: one network that the system refuses does not end a run of hours.
                    outcome = Outcome(error=str(error))
                kept = result.add(outcome, Path(folder))
            if result is results[-1] and number % 5 == 0 and len(group) > 1:
                print(f"{'':10}{number} of {tries} tries of each of {len(group)} cells", flush=True)
            if sys.stdout.isatty() or kept:
                captures = f"; captures in {kept}" if kept else ""
                print(f"{'':10}{len(result.outcomes):3} {cell}: {outcome.told}{captures}", flush=True)

    async with trio.open_nursery() as nursery:
        for _ in range(min(jobs, tries * len(group))):
            nursery.start_soon(work)
    if refusals:
        raise refusals[0]
    return results


if __name__ == "__main__":
    main()
