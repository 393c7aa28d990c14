"""`make fuzz`: run the targets, one for each processor at once; show progress, end with a table.

Exits with 1 if anything was found, and says how to reproduce and keep it, or if a target tried no input; with
2 if no target can run here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class Progress:
    """What the running targets have done. Several threads report; no output is within that of another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}
        self._is_terminal = sys.stdout.isatty()
        # Seconds between two lines; a terminal replaces the last one.
        self._interval = 1.0 if self._is_terminal else 60.0
        self._shown = time.monotonic()

    def update(self, target: str, text: str) -> None:
        """Show a line of all running targets from time to time."""
        with self._lock:
            self._running[target] = text
            now = time.monotonic()
            if now - self._shown < self._interval:
                return
            self._shown = now
            line = "   ".join(f"{name} {done}" for name, done in self._running.items())
            if self._is_terminal:
                # A longer line would wrap, and the next one could not replace it.
                width = shutil.get_terminal_size().columns - 1
                print(f"\r\033[K{line[:width]}", end="", flush=True)
            else:
                print(line, flush=True)

    def end(self, target: str, text: str) -> None:
        """Show the result of a target."""
        with self._lock:
            self._running.pop(target, None)
            print(f"\r\033[K{text}" if self._is_terminal else text, flush=True)


def run(target: str, time_for: float, built: Path | None, progress: Progress) -> Outcome:
    """Run one target for its time, and show its progress."""
    before, began = finds(target), time.monotonic()
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
            progress.update(target, f"{time.monotonic() - began:.0f} s, {tried or 0} executions")
        # The processor time of this child alone; on a busy machine an hour of time is less work.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    found = tuple(sorted(finds(target) - before))
    # A target that tried nothing shows nothing.
    is_good = process.returncode == 0 and not found and bool(tried)
    text = f"{target:<14} {seconds:6.0f} s {tried or 0:>12} executions"
    if not is_good:
        text += f"\n\n{target} ended with {process.returncode}. Its last output:\n{''.join(output[-80:])}"
    progress.end(target, text)
    return Outcome(target, seconds, used.ru_utime + used.ru_stime, tried, reached, found, is_good)


def run_all(targets: list[str], time_for: float, built: Path | None, jobs: int) -> list[Outcome]:
    """Run ``jobs`` targets at once. After Ctrl-C, which also ends those that run, no further one begins."""
    progress = Progress()
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda target: run(target, time_for, built, progress), targets))


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
    parser.add_argument(
        "--jobs", type=int, default=processors(), help="targets at once (default: one for each processor)"
    )
    arguments = parser.parse_args()
    # Two processes of one target would share a corpus and its findings.
    chosen = list(dict.fromkeys(name for name in arguments.only.split(",") if name)) or [*RUST, *PYTHON]
    if arguments.jobs < 1:
        parser.error(f"--jobs must be >= 1, got {arguments.jobs}")
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
    outcomes = run_all(chosen, arguments.time, built, arguments.jobs)
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
