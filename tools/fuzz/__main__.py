"""`make fuzz`: run the targets in turn, show progress, end with a table.

Exits with 1 if anything was found, and says how to reproduce and keep it, or if a target tried no input; with
2 if no target can run here.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.fuzz.targets import (
    FOUND,
    PYTHON,
    ROOT,
    RUST,
    Outcome,
    build,
    command,
    edges,
    executions,
    finds,
    has_compiler,
)

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `1h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write 90s, 10m or 1h")
    return float(match[1]) * UNITS[match[2] or "s"]


def processor_seconds() -> float:
    """CPU seconds of ended children, because on a busy machine an hour of time is less work."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(target: str, time_for: float, built: Path | None) -> Outcome:
    """Run one target for its time, and show its progress."""
    before, began, shown = finds(target), time.monotonic(), 0.0
    worked = processor_seconds()
    tried = reached = None
    output: list[str] = []
    with subprocess.Popen(
        command(target, time_for, built),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output = [*output[-400:], line]
            tried, reached = executions(line) or tried, edges(line) or reached
            now = time.monotonic()
            if now - shown > 1:
                shown = now
                print(f"\r{target:<14} {now - began:6.0f} s  {tried or 0:>9} executions", end="", flush=True)
    print("\r\033[K" if sys.stdout.isatty() else "", end="", flush=True)
    found = tuple(sorted(finds(target) - before))
    # A target that tried nothing shows nothing.
    is_good = process.returncode == 0 and not found and bool(tried)
    if not is_good:
        print(f"\n{target} ended with {process.returncode}. Its last output:\n{''.join(output[-80:])}")
    return Outcome(
        target, time.monotonic() - began, processor_seconds() - worked, tried, reached, found, is_good
    )


def table(outcomes: list[Outcome]) -> str:
    lines = [f"{'target':<14} {'time':>8} {'processor':>10} {'executions':>12} {'edges':>7}  found"]
    for each in outcomes:
        found = "nothing" if each.is_good else ", ".join(str(path.relative_to(ROOT)) for path in each.found)
        lines.append(
            f"{each.target:<14} {each.seconds:>6.0f} s {each.processor:>8.0f} s {each.executions or 0:>12} "
            f"{each.edges or '-':>7}  {found or 'a failure, see above'}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--time", type=seconds, default=60.0, help="for each target: 60s, 10m, 1h")
    parser.add_argument("--only", default="", help=f"some of {','.join([*RUST, *PYTHON])}")
    arguments = parser.parse_args()
    chosen = [name for name in arguments.only.split(",") if name] or [*RUST, *PYTHON]
    if unknown := set(chosen) - {*RUST, *PYTHON}:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if shutil.which("cargo") is None or not has_compiler():
        left = [name for name in chosen if name in RUST]
        if left:
            print(f"LEFT OUT: {', '.join(left)}. libFuzzer needs cargo and a C++ compiler; one is missing.")
        chosen = [name for name in chosen if name in PYTHON]
        if not chosen:
            parser.error("no target is left to run")
    built = build() if set(chosen) & set(RUST) else None
    outcomes = [run(target, arguments.time, built) for target in chosen]
    print(f"\n{table(outcomes)}")
    bad = [each for each in outcomes if not each.is_good]
    if bad and built is not None:
        cases = sorted(str(RUST[each.target].relative_to(ROOT)) for each in bad if each.target in RUST)
        print(
            f"\nTo reproduce: {built.relative_to(ROOT)}/TARGET FILE. Fix the defect, and move the file from "
            f"{FOUND.relative_to(ROOT)} to {' or '.join(cases)}, under a name that describes it."
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
