"""The conformance run judges rightly; and its fast part: py-libp2p's own tests about QUIC, and
its example programs. The whole of it is `make conformance`.

The fast part runs in processes of its own, since it puts this transport where py-libp2p has
its own. Needs network access once, for the suite.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conformance.exclusions import Exclusion, read_exclusions
from conformance.parts import QUIC, WIDE, Part
from conformance.report import Comparison
from conformance.runs import Result

ROOT = Path(__file__).parent.parent


def compared(part: Part, ours: str, stock: str | None) -> Comparison:
    """One test, which ended as ``ours`` and ``stock`` say; None: it was not run on stock."""
    return Comparison(part, {"t": Result("t", ours)}, {"t": Result("t", stock)} if stock else None, {})


@pytest.mark.parametrize(
    ("part", "ours", "stock", "is_red"),
    [
        (WIDE, "passed", "passed", False),
        (WIDE, "passed", "failed", False),
        (WIDE, "failed", "failed", False),
        (WIDE, "failed", "passed", True),
        (WIDE, "failed", None, True),
        # A test about QUIC has to pass, whatever the stock transport makes of it.
        (QUIC, "failed", "failed", True),
        (QUIC, "passed", "failed", False),
    ],
)
def test_red_is_what_fails_on_ours_alone(part: Part, ours: str, stock: str | None, is_red: bool) -> None:
    assert bool(compared(part, ours, stock).regressions()) is is_red


def test_a_test_that_was_run_only_on_stock_is_red() -> None:
    assert Comparison(WIDE, {}, {"t": Result("t", "passed")}, {}).regressions()


def test_an_exclusion_that_matches_nothing_is_noticed() -> None:
    first, *rest = read_exclusions()
    excluded = {str(i): Result(str(i), "excluded", e.pattern) for i, e in enumerate(rest)}
    assert Comparison(QUIC, excluded, None, {}).stale_exclusions() == [first.pattern]


def test_only_a_star_is_special_in_an_exclusion() -> None:
    assert Exclusion("a.py::t*", "why").matches("a.py::test[1-x]")
    assert not Exclusion("a.py::t*", "why").matches("a_py::test")
    assert not Exclusion("a.py::t[12]", "why").matches("a.py::t1")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=280
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_public_quic_test_of_py_libp2p_passes_on_ours() -> None:
    result = run("conformance", "--part", "quic", "--ours-only")
    assert result.returncode == 0, result.stdout + result.stderr
    # Green because nothing failed, not because nothing was run.
    counts = next(line.split() for line in result.stdout.splitlines() if line.startswith("together"))
    tests, over_quic, passed, failed = map(int, counts[1:5])
    assert tests > 200
    assert over_quic >= 15
    assert passed > 100
    assert failed == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", ["echo", "ping", "pubsub", "perf"])
def test_example_programs_of_py_libp2p_run_on_ours(program: str) -> None:
    result = run("conformance.examples", "--only", program, "--size", "8", "--iterations", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("ok")
