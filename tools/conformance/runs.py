"""Runs a part of the suite on one transport, in separate processes, and collects the outcomes.

A test that failed is run again alone, and the second run counts, for both transports. `trials` evaluates
failures that do not always occur.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tools.conformance.exclusions import EXCLUDED
from tools.conformance.parts import Part

# For one test. py-libp2p's longest takes half a minute on an idle machine. Seconds.
_TEST_TIMEOUT = 120
_TICK = 0.5


@dataclass
class Result:
    """How a test ended. ``why`` is pytest's text for a failure or the reason of a skip."""

    test: str
    outcome: str  # passed, failed, skipped, excluded
    why: str = ""
    over_quic: bool = False
    runs: int = 1
    # A host of it punched holes.
    punching: bool = False


Progress = Callable[[dict[str, Result]], None]


def run(part: Part, transport: str, suite: Path, jobs: int, progress: Progress) -> dict[str, Result]:
    """Every test of ``part`` on ``transport``, by its id."""
    paths = [path for paths in part.rows.values() for path in paths]
    results = _pytest(part, transport, suite, [*paths, "-m", "not serial_only"], jobs, progress)
    # Their authors mark them as not to be run in parallel.
    results.update(_pytest(part, transport, suite, [*paths, "-m", "serial_only"], 0, lambda _: None))
    results.update(run_alone(part, transport, suite, skipped(results.values())))
    failed = [result.test for result in results.values() if result.outcome == "failed"]
    for test, again in run_alone(part, transport, suite, failed).items():
        again.runs = 2
        results[test] = again
    return results


def skipped(results: Iterable[Result]) -> list[str]:
    """The tests that skip themselves. Some do so only under xdist, which does not always report their
    reason."""
    return [each.test for each in results if each.outcome == "skipped"]


def run_alone(part: Part, transport: str, suite: Path, tests: Iterable[str]) -> dict[str, Result]:
    """Only ``tests``, one after the other."""
    tests = list(tests)
    return _pytest(part, transport, suite, tests, 0, lambda _: None) if tests else {}


def _pytest(
    part: Part, transport: str, suite: Path, arguments: list[str], jobs: int, progress: Progress
) -> dict[str, Result]:
    with tempfile.TemporaryDirectory() as scratch:
        outcomes, screen = Path(scratch) / "outcomes", Path(scratch) / "screen"
        outcomes.touch()
        command = [sys.executable, "-m", "pytest", "-p", "tools.conformance.plugin", "-p", "no:cacheprovider"]
        # The suite's own options stop at ten failures.
        command += ["-o", "addopts=", "--tb=short", f"--timeout={_TEST_TIMEOUT}", f"-n{jobs}"]
        # Without it, one process runs the slow tests of a directory at the end.
        command.append("--dist=worksteal")
        command += [f"--transport={transport}", f"--outcomes={outcomes}"]
        if part.every_host:
            command.append("--every-host")
        if part.hole_punching:
            command.append("--hole-punching")
        # Both have packages named tests and examples, and the suite's must be imported.
        places = os.pathsep.join([str(suite), str(Path(__file__).parents[2])])
        # A test of this project may start this run in a process of xdist, and some of the suite's tests
        # skip themselves if xdist's variables are set.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST_")}
        environment["PYTHONPATH"] = places
        with screen.open("w") as out:
            process = subprocess.Popen(
                [*command, *arguments], cwd=suite, env=environment, stdout=out, stderr=subprocess.STDOUT
            )
            try:
                while not _has_ended(process):
                    progress(_read(outcomes))
            finally:
                process.terminate()
                process.wait()
        results = _read(outcomes)
        # With 0 and 1 the tests were run. Any other status is no outcome of a test.
        if process.returncode not in (0, 1) or not results:
            raise RuntimeError(
                f"pytest ended with status {process.returncode}:\n{screen.read_text()[-4000:]}"
            )
        return results


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_TICK)
    except subprocess.TimeoutExpired:
        return False
    return True


def _read(outcomes: Path) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for line in outcomes.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            # The line is incomplete.
            break
        fields = json.loads(line)
        result = results.setdefault(fields["test"], Result(fields["test"], "passed"))
        result.over_quic = result.over_quic or fields["over_quic"]
        result.punching = result.punching or fields["punching"]
        # A test is reported for its setup, its call and its end: any failure of those counts.
        if fields["outcome"] == "failed" and result.outcome != "failed":
            result.outcome, result.why = "failed", fields["why"]
        elif fields["outcome"] == "skipped" and result.outcome == "passed":
            reason = fields["why"].removeprefix("Skipped: ")
            is_excluded = reason.startswith(EXCLUDED)
            result.outcome = "excluded" if is_excluded else "skipped"
            result.why = reason.removeprefix(EXCLUDED)
    return results
