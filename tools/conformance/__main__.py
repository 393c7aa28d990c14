"""The command line: `python -m tools.conformance`, or `make conformance`.

Exits with 0 if every QUIC test that is not excluded passes on ours, and no test of the other parts fails on
ours that passes on the stock transport, except those that must fail with hole punching.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

from tools.conformance import page, report, runs, suite
from tools.conformance.parts import PARTS, Part
from tools.conformance.trials import trials

_DESCRIPTION = """\
Runs py-libp2p's own test suite, from its source distribution, on libp2p-quic and on
py-libp2p's own QUIC transport, and compares. A test that fails on ours is run again, alone,
up to ten times on each, and the counts are shown. No test may take more than two minutes.
The final tables go to docs/reports/conformance.md, one section for each part, unless --ours-only is set.
The part "punching" has hole punching in the hosts on ours, and differences.txt has the tests that must fail
there. Half an hour on two idle processors, an hour on busy ones; --part quic --ours-only is a minute,
--part punching some five."""
# Seconds between two lines in a log; a terminal is updated at once.
_LOG_EVERY = 20.0


class _Progress:
    """A line with the progress of a run."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = time.monotonic()
        self._next = self._began
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, results: dict[str, runs.Result]) -> None:
        now = time.monotonic()
        if not self._is_terminal and now < self._next:
            return
        self._next = now + _LOG_EVERY
        failed = sum(result.outcome == "failed" for result in results.values())
        line = f"{self._what}: {len(results)} tests, {failed} failed, {now - self._began:.0f} s"
        print(f"\r{line}\x1b[K" if self._is_terminal else line, end="", file=sys.stderr)
        print(end="" if self._is_terminal else "\n", file=sys.stderr, flush=True)

    def done(self) -> None:
        if self._is_terminal:
            print(file=sys.stderr)


def compare(part: Part, is_ours_only: bool, where: Path, jobs: int) -> report.Comparison:
    def run(transport: str) -> dict[str, runs.Result]:
        progress = _Progress(f"{part.name} on {transport}")
        try:
            return runs.run(part, transport, where, jobs, progress)
        finally:
            progress.done()

    ours = run("ours")
    stock = None if is_ours_only else run("stock")
    # Each was run alone once, if it failed in the parallel run.
    doubtful = {test: result for test, result in ours.items() if result.runs > 1}
    if doubtful:
        print(f"{part.name}: {len(doubtful)} tests failed; each is run alone", file=sys.stderr, flush=True)
    ours_alone = trials(part, "ours", where, {**doubtful})
    failed = [test for test, trial in ours_alone.items() if not trial.is_clean]
    known = {test: result for test, result in (stock or {}).items() if result.runs > 1}
    stock_alone = {} if stock is None else trials(part, "stock", where, {t: known.get(t) for t in failed})
    as_shipped = runs.run_alone(part, "as-shipped", where, failed) if part.every_host else {}
    return report.Comparison(part, ours, stock, ours_alone, stock_alone, as_shipped)


def _versions() -> str:
    names = ("libp2p-quic", "libp2p", "aioquic", "trio", "pytest")
    return ", ".join([*(f"{name} {version(name)}" for name in names), f"Python {platform.python_version()}"])


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.conformance",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--part", choices=[part.name for part in PARTS], help="only this part")
    parser.add_argument("--ours-only", action="store_true", help="no comparison with the stock transport")
    parser.add_argument(
        "--jobs",
        type=int,
        default=2 * (os.cpu_count() or 1),
        help="processes at once (default: two for each processor, as most tests wait most of the time)",
    )
    options = parser.parse_args()

    try:
        where = suite.fetch()
    except suite.SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    print(_versions())
    is_green = True
    for part in PARTS:
        if options.part not in (None, part.name):
            continue
        began = time.monotonic()
        comparison = compare(part, options.ours_only, where, options.jobs)
        print(f"\n== {part.name}: {part.title}\n\n{report.text(comparison)}", flush=True)
        if not options.ours_only:
            page.write(comparison, page.Run(_versions(), time.monotonic() - began))
        is_green = is_green and not (comparison.regressions() or comparison.stale_differences())
        # Only tests in the part about QUIC can be excluded.
        for pattern in comparison.stale_exclusions() if not part.every_host else ():
            print(f"exclusions.txt: no test matches {pattern}")
            is_green = False
    print("\nGREEN" if is_green else "\nRED")
    return 0 if is_green else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
