"""A test that failed, run again on its own, on both transports, until it is plain whose failure it is.

Many of py-libp2p's tests sleep for a moment and then expect something, and a loaded machine
is not always through by then. One good run proves nothing, nor does one bad one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conformance import runs
from conformance.parts import Part
from conformance.runs import Result

_RUNS = 10
# That often without a single pass, and it is no matter of luck: no need of ten.
_HOPELESS = 3
# Fisher's exact test: of ten runs each, a difference of less than this may well be chance (5 %).
_PLAINLY = 4


@dataclass
class Trial:
    """How often a test passed on one transport when nothing else ran; ``why`` it failed, if it did."""

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

    def is_plainly_worse_than(self, other: Trial) -> bool:
        if self.passed == 0:
            return other.passed > 0
        return other.passed - self.passed >= _PLAINLY

    def __str__(self) -> str:
        return f"{self.passed} of {self.runs}"


def trials(part: Part, transport: str, suite: Path, first: dict[str, Result | None]) -> dict[str, Trial]:
    """Each of these tests, alone, up to ten times; the first of which may have been run before."""
    found = {test: Trial() for test in first}
    for test, result in first.items():
        if result is not None:
            found[test].count(result)
    while left := [test for test, trial in found.items() if not trial.is_settled]:
        results = runs.run_alone(part, transport, suite, left)
        for test in left:
            # A test that no longer appears did not pass.
            found[test].count(results.get(test, Result(test, "failed", "it was not run")))
    return found
