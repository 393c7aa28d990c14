"""The comparison of two runs: verdicts per test, and the table in text or Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from conformance.exclusions import read_exclusions
from conformance.parts import Part, row_of
from conformance.runs import Result
from conformance.trials import Trial

Results = dict[str, Result]
# How pytest marks a line of an error, within the frame of an exception group or without.
_BEFORE_A_REASON = re.compile(r"^[ |]*(?:E +)?")
_HEADINGS = (
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


@dataclass
class Comparison:
    """``part`` on ours and on the stock transport.

    ``ours_alone`` has the trials of what failed on ours; ``stock_alone`` and ``as_shipped``
    only those of them that failed alone, too.
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
        """Whether the stock transport does not plainly better, alone."""
        stock = self.stock_alone.get(test)
        return stock is not None and not self.ours_alone[test].is_plainly_worse_than(stock)

    def regressions(self) -> list[Result]:
        """What makes the run red. About QUIC itself, that stock fails too is no excuse."""
        if not self.part.every_host:
            return self.failures()
        return [result for result in self.failures() if not self.is_upstreams_too(result.test)]

    def stale_exclusions(self) -> list[str]:
        used = {result.why for result in self.ours.values() if result.outcome == "excluded"}
        return [e.pattern for e in read_exclusions() if e.pattern not in used]

    def rows(self, of: Callable[[str], str]) -> list[tuple[str, ...]]:
        """Counts by what ``of`` says of a test's id, and their sum."""
        names = dict.fromkeys(of(test) for test in sorted({*self.ours, *(self.stock or ())}))
        lines = [self._counts(name, [r for t, r in self.ours.items() if of(t) == name], of) for name in names]
        return [*lines, self._counts("together", self.ours.values(), lambda _: "together")]

    def _counts(self, name: str, ours: Iterable[Result], of: Callable[[str], str]) -> tuple[str, ...]:
        ours = list(ours)
        here = Counter(result.outcome for result in ours)
        there = Counter(r.outcome for t, r in self.stock.items() if of(t) == name) if self.stock else None
        shown = [len(ours), sum(r.over_quic for r in ours), here["passed"], here["failed"]]
        stock = [str(there["passed"]), str(there["failed"])] if there else ["-", "-"]
        return (name, *map(str, shown), *stock, str(here["excluded"]), str(here["skipped"]))

    def by_row(self, test: str) -> str:
        return row_of(self.part, test)


def by_file(test: str) -> str:
    return test.partition("::")[0]


def text(comparison: Comparison) -> str:
    rows = [_HEADINGS, *comparison.rows(comparison.by_row)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], *_notes(comparison)])


def _notes(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    failures = comparison.failures()
    red = {result.test for result in comparison.regressions()}
    for heading, tests in (
        ("FAILED on ours:", [r for r in failures if r.test in red]),
        ("failed on ours, and on the stock transport alike:", [r for r in failures if r.test not in red]),
    ):
        if tests:
            lines += ["", heading, *(f"  {r.test}\n      {_where(comparison, r)}" for r in tests)]
    crowded = [test for test, trial in comparison.ours_alone.items() if trial.is_clean]
    if crowded:
        lines += ["", "failed on ours beside other tests, and never alone:"]
        lines += [f"  {test}: {comparison.ours_alone[test]}" for test in crowded]
    return lines


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


def exclusions(comparison: Comparison) -> str:
    counts = Counter(r.why for r in comparison.ours.values() if r.outcome == "excluded")
    reasons: dict[str, int] = {}
    for exclusion in read_exclusions():
        reasons[exclusion.reason] = reasons.get(exclusion.reason, 0) + counts[exclusion.pattern]
    lines = [f"  {count:3}  {reason}" for reason, count in reasons.items() if count]
    return "\n".join(["excluded, and why:", *lines]) if lines else ""


def markdown(comparison: Comparison) -> str:
    """One row a file: what is recorded."""
    rows = comparison.rows(by_file)
    lines = [f"## {comparison.part.name}: {comparison.part.title}", ""]
    lines.append("| " + " | ".join(heading or "file" for heading in _HEADINGS) + " |")
    lines.append("|---|" + "---:|" * (len(_HEADINGS) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    notes = "\n".join(filter(None, [*_notes(comparison), "", exclusions(comparison)]))
    if notes.strip():
        lines += ["", "```text", notes.strip("\n"), "```"]
    return "\n".join(lines)
