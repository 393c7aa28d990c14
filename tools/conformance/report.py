"""Compares two runs: a verdict for each test, and the remarks on them. `page` and the terminal format it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from tools.conformance.exclusions import DIFFERENCES, read_exclusions
from tools.conformance.parts import Part, row_of
from tools.conformance.runs import Result
from tools.conformance.trials import Trial

Results = dict[str, Result]
# How pytest marks a line of an error, inside or outside of an exception group.
_BEFORE_A_REASON = re.compile(r"^[ |]*(?:E +)?")
HEADINGS = (
    "",
    "tests",
    "over QUIC",
    "passed",
    "failed",
    "stock passed",
    "stock failed",
    "excluded",
    "skipped",
)


def headings(part: Part) -> tuple[str, ...]:
    """The columns of the part's table."""
    return (*HEADINGS[:3], "punching", *HEADINGS[3:]) if part.hole_punching else HEADINGS


@dataclass
class Comparison:
    """``part`` on ours and on the stock transport.

    ``ours_alone`` has the trials of tests that failed on ours; ``stock_alone`` and ``as_shipped`` have
    those that failed alone, too.
    """

    part: Part
    ours: Results
    stock: Results | None
    ours_alone: dict[str, Trial] = field(default_factory=dict)
    stock_alone: dict[str, Trial] = field(default_factory=dict)
    as_shipped: Results = field(default_factory=dict)

    def __post_init__(self) -> None:
        for test, trial in self.ours_alone.items():
            self.ours[test].outcome = "passed" if trial.is_clean else "failed"
            self.ours[test].why = trial.why

    def failures(self) -> list[Result]:
        missing = [Result(test, "failed", "it was not run") for test in self._missing()]
        return [result for result in self.ours.values() if result.outcome == "failed"] + missing

    def _missing(self) -> set[str]:
        return set(self.stock or ()) - set(self.ours)

    def is_upstreams_too(self, test: str) -> bool:
        """Whether the test, alone, passes on the stock transport not clearly more often."""
        stock = self.stock_alone.get(test)
        return stock is not None and not self.ours_alone[test].is_clearly_worse_than(stock)

    def regressions(self) -> list[Result]:
        """The tests that make the run red. A QUIC test is red even if the stock transport fails it, too."""
        if not self.part.every_host:
            return self.failures()
        return [
            result
            for result in self.failures()
            if not (self.is_upstreams_too(result.test) or self.difference(result.test))
        ]

    def difference(self, test: str) -> str:
        """Why a test that was run must fail with hole punching; empty if it must not."""
        if not self.part.hole_punching or test not in self.ours:
            return ""
        return next((each.reason for each in read_exclusions(DIFFERENCES) if each.matches(test)), "")

    def stale_differences(self) -> list[str]:
        """The patterns that match no failed test."""
        if not self.part.hole_punching:
            return []
        failed = [result.test for result in self.failures()]
        known = read_exclusions(DIFFERENCES)
        return [each.pattern for each in known if not any(map(each.matches, failed))]

    def stale_exclusions(self) -> list[str]:
        used = {result.why for result in self.ours.values() if result.outcome == "excluded"}
        return [e.pattern for e in read_exclusions() if e.pattern not in used]

    def rows(self) -> list[tuple[str, ...]]:
        """Counts: a line for each row of the part, and their sum."""
        of = {test: row_of(self.part, test) for test in sorted({*self.ours, *(self.stock or ())})}
        lines = [self._counts(row, [t for t in of if of[t] == row]) for row in dict.fromkeys(of.values())]
        return [*lines, self._counts("together", list(of))]

    def _counts(self, name: str, tests: list[str]) -> tuple[str, ...]:
        ours = [self.ours[test] for test in tests if test in self.ours]
        here = Counter(result.outcome for result in ours)
        there = (
            Counter(self.stock[test].outcome for test in tests if test in self.stock) if self.stock else None
        )
        shown = [len(ours), sum(r.over_quic for r in ours)]
        if self.part.hole_punching:
            shown.append(sum(r.punching for r in ours))
        shown += [here["passed"], here["failed"]]
        stock = [str(there["passed"]), str(there["failed"])] if there else ["-", "-"]
        return (name, *map(str, shown), *stock, str(here["excluded"]), str(here["skipped"]))


def text(comparison: Comparison) -> str:
    """For the terminal."""
    rows = [headings(comparison.part), *comparison.rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    rule = "-" * len(lines[0])
    shown = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
    for heading, tests in remarks(comparison).items():
        shown += ["", f"{heading}:", *(f"  {test}\n      {said}" for test, said in tests.items())]
    if excluded := exclusions(comparison):
        shown += ["", "excluded, and why:", *(f"  {count:3}  {why}" for why, count in excluded.items())]
    return "\n".join(shown)


def remarks(comparison: Comparison) -> dict[str, dict[str, str]]:
    """For each kind of failure: its tests, and a remark on each."""
    red = {result.test for result in comparison.regressions()}
    remarks_by_heading: dict[str, dict[str, str]] = {
        "FAILED on ours": {},
        "failed with hole punching, as it must": {},
        "failed on ours and equally on the stock transport": {},
        "failed on ours in the parallel run, and never alone": {},
        "is named in differences.txt and DID NOT FAIL": dict.fromkeys(
            comparison.stale_differences(), "remove the line if the defect is mended"
        ),
    }
    ours, known, both, in_parallel, _ = remarks_by_heading.values()
    for result in comparison.failures():
        where = _where(comparison, result)
        if result.test in red:
            ours[result.test] = where
        elif reason := comparison.difference(result.test):
            known[result.test] = f"{reason}; {where}"
        else:
            both[result.test] = where
    for test, trial in comparison.ours_alone.items():
        if trial.is_clean:
            in_parallel[test] = f"passes {trial} alone"
    return {heading: tests for heading, tests in remarks_by_heading.items() if tests}


def _where(comparison: Comparison, result: Result) -> str:
    reason = next(
        (line for line in reversed(result.why.splitlines()) if "Error" in line or "E  " in line), ""
    )
    passed = [
        f"{trials[result.test]} {where}"
        for where, trials in (("on ours", comparison.ours_alone), ("on stock", comparison.stock_alone))
        if result.test in trials
    ]
    shipped = comparison.as_shipped.get(result.test)
    if shipped is not None:
        passed.append("fails as shipped, on TCP" if shipped.outcome == "failed" else "passes on TCP")
    return f"passes {', '.join(passed)}; {_BEFORE_A_REASON.sub('', reason)[:160].rstrip()}"


def exclusions(comparison: Comparison) -> dict[str, int]:
    """Each reason for an exclusion, and the number of its tests."""
    counts = Counter(r.why for r in comparison.ours.values() if r.outcome == "excluded")
    reasons: dict[str, int] = {}
    for exclusion in read_exclusions():
        reasons[exclusion.reason] = reasons.get(exclusion.reason, 0) + counts[exclusion.pattern]
    return {reason: count for reason, count in reasons.items() if count}
