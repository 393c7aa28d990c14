"""`make bench`: arguments, progress, and output files. Knows no measure.

Exits with 0 if every cell has a figure or is absent on purpose, 1 if one failed, 2 for
wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

import trio

from testkit.program import ProgramError
from tools.bench import cell, goals, page, results
from tools.bench.contender import HERE, BuildError, Contender, build, load
from tools.bench.measure import Measure, chosen
from tools.bench.results import Cell, Results, shown

_EPILOG = """\
Runs are interleaved: every contender once, then every contender again. Run nothing else, and compare only
figures of one run. Every run is kept in tools/bench/results/last.json; a run of all measures also writes
docs/reports/bench, the page and its pictures.

examples:
  make bench                               all measures, about 40 minutes
  make bench ONLY=goodput RUNS=5           one group of measures
  make bench ONLY=ping,up WHO=adapter,quinn
  make bench-goals                         compare the last run with the goals"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Compares this transport with its alternatives, on loopback.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="groups or measures, with commas; default: all")
    parser.add_argument("--who", default="", help="contenders, with commas; default: all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each cell (default: %(default)s)")
    parser.add_argument("--no-build", action="store_true", help="use the programs of an earlier build")
    parser.add_argument("--pages", action="store_true", help="write docs/reports/bench also after a part")
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
        print("\nInterrupted; every process was ended. The results so far are kept.")
        is_whole, status = False, 130
    found.write(results.LAST)
    print(f"\n{page.table(found)}")
    print(f"kept: {results.LAST}")
    if is_whole or arguments.pages:
        print(f"page: {page.write(found, goals.text(found))}")
    sys.exit(status or int(any(each.failure for each in found.cells)))


def build_all(contenders: list[Contender], measures: list[Measure]) -> dict[str, str]:
    """Build the programs of each language and the relay. Returns the error of each build that failed."""
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
    """The failure and the last output of the program on one line, without paths of this machine and
    frames of tracebacks."""
    line = re.sub(r"(?:\s*(?:[|^+]|-{2,})\s*)+|\s+", " ", error.replace(f"{HERE.parent}/", "")).strip()
    return line if len(line) <= 300 else f"{line[:80]} ... {line[-215:]}"


def clock(began: float) -> str:
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    return f"{minutes:2}:{seconds:02}"


if __name__ == "__main__":
    main()
