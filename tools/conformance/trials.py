"""Runs a test that failed again, alone and on both transports, until the cause is clear.

Many of py-libp2p's tests sleep and then expect a result, which a loaded machine may not have by then. So
one run, passed or failed, proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.conformance import runs
from tools.conformance.parts import Part
from tools.conformance.runs import Result

_RUNS = 10
# After this many failures without a pass the outcome is certain, and ten runs are not needed.
_HOPELESS = 3
# Fisher's exact test: of ten runs each, a smaller difference may be chance (5 %).
_PLAINLY = 4


@dataclass
class Trial:
    """How often a test passed alone on one transport; ``why`` it failed, if it did."""

    passed: int = 0
    runs: int = 0
    why: str = ""

    @property
    def is_settled(self) -> bool:
        return self.runs == _RUNS or (self.runs == _HOPELESS and self.passed == 0)

    @property
    def is_clean(self) -> bool:
        return self.passed == self.runs > 0

    def count(self, result: Result) -> None:
        self.runs += 1
        if result.outcome == "failed":
            self.why = result.why
        else:
            self.passed += 1

    def is_clearly_worse_than(self, other: Trial) -> bool:
        if self.passed == 0:
            return other.passed > 0
        return other.passed - self.passed >= _PLAINLY

    def __str__(self) -> str:
        return f"{self.passed} of {self.runs}"


def trials(part: Part, transport: str, suite: Path, first: dict[str, Result | None]) -> dict[str, Trial]:
    """Run each of these tests alone up to ten times; the first run may be an earlier one."""
    found = {test: Trial() for test in first}
    for test, result in first.items():
        if result is not None:
            found[test].count(result)
    while left := [test for test, trial in found.items() if not trial.is_settled]:
        results = runs.run_alone(part, transport, suite, left)
        for test in left:
            # A missing test counts as failed.
            found[test].count(results.get(test, Result(test, "failed", "it was not run")))
    return found
