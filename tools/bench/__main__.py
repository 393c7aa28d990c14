"""`make bench`: arguments, progress, and what is written where. No measure and no figure.

Exit status: 0 when every cell gave a figure or was rightly absent, 1 when one failed, 2 for
wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

import trio

from bench import cell, goals, page, results
from bench.contender import HERE, BuildError, Contender, build, load
from bench.measure import Measure, chosen
from bench.results import Cell, Results, shown
from interop.program import ProgramError

_EPILOG = """\
Runs are interleaved: every contender once, then every contender again. Let nothing else run,
and compare only figures of one run. Every run is kept in bench/results/last.json; a whole one
also makes docs/reports/bench, the page and its pictures.

examples:
  make bench                               everything, about half an hour
  make bench ONLY=goodput RUNS=5           one group of measures
  make bench ONLY=ping,up WHO=adapter,quinn
  make bench-goals                         judge the last run"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="This transport beside everything that could be used instead of it, on loopback.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="groups or measures, with commas; default: all")
    parser.add_argument("--who", default="", help="contenders, with commas; default: all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each cell (default: %(default)s)")
    parser.add_argument("--no-build", action="store_true", help="the programs are there already")
    parser.add_argument("--pages", action="store_true", help="write docs/reports/bench even of a part")
    arguments = parser.parse_args()
    try:
        measures = chosen([name for name in arguments.only.split(",") if name])
        contenders = load([name for name in arguments.who.split(",") if name])
    except KeyError as error:
        parser.error(str(error.args[0]))
    if arguments.runs < 1:
        parser.error("--runs: at least one")
    unbuilt = {} if arguments.no_build else build_all(contenders, measures)
    found = results.begin(contenders, arguments.runs)
    is_whole = not (arguments.only or arguments.who)
    status = 0
    try:
        trio.run(run_all, found, measures, unbuilt)
    except KeyboardInterrupt:
        print("\nInterrupted; every process was ended. What was measured is kept.")
        is_whole, status = False, 130
    found.write(results.LAST)
    print(f"\n{page.table(found)}")
    print(f"kept: {results.LAST}")
    if is_whole or arguments.pages:
        print(f"page: {page.write(found, goals.text(found))}")
    sys.exit(status or int(any(each.failure for each in found.cells)))


def build_all(contenders: list[Contender], measures: list[Measure]) -> dict[str, str]:
    """Why a language's programs, or the relay, cannot be had; those that can are not in it."""
    wanted = {each.build for each in contenders if each.build}
    if any(measure.path for measure in measures):
        wanted.add("relay")
    unbuilt = {}
    for name in sorted(wanted):
        try:
            build(name, lambda step: print(f"build  {step}", flush=True))
        except BuildError as error:
            print(f"build  {name}: {error}", flush=True)
            unbuilt[name] = str(error)
    return unbuilt


async def run_all(found: Results, measures: list[Measure], unbuilt: dict[str, str]) -> None:
    plan = [
        (measure, run, contender)
        for measure in measures
        for run in range(min(found.runs, measure.runs or found.runs))
        for contender in found.contenders
    ]
    began = time.monotonic()
    for done, (measure, run, contender) in enumerate(plan):
        absent = cell.absence(contender, measure)
        if absent is not None:
            found.cells.append(Cell(measure.name, contender.name, absent=absent))
            continue
        head = f"{done + 1:4}/{len(plan)} {clock(began)}  {measure.name:12} {contender.name:20}"
        if sys.stdout.isatty():
            print(head, end="\r", flush=True)
        missing = unbuilt.get(contender.build) or (measure.path and unbuilt.get("relay"))
        try:
            if missing:
                raise ProgramError(f"not built: {missing}")
            line = await cell.run(contender, measure, run)
        except (ProgramError, OSError) as error:
            reason = shortened(str(error))
            found.cells.append(Cell(measure.name, contender.name, failure=reason))
            print(f"{head} FAILED: {reason}", flush=True)
            continue
        found.cells.append(Cell(measure.name, contender.name, line=line))
        said = [
            f"{figure.title} {shown(figure.of(line))} {figure.unit}" for figure in measure.figures.values()
        ]
        print(f"{head} {', '.join(said)}", flush=True)


def shortened(error: str) -> str:
    """On one line: what failed, and the last words of the program; no path of this machine,
    and no frames of tracebacks."""
    words = re.sub(r"(?:\s*(?:[|^+]|-{2,})\s*)+|\s+", " ", error.replace(f"{HERE.parent}/", "")).strip()
    return words if len(words) <= 300 else f"{words[:80]} ... {words[-215:]}"


def clock(began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"{minutes:2}:{seconds:02}"


if __name__ == "__main__":
    main()
