"""The reviewed list of known defects of peers, and the verdict on a result.

A red cell is known only if an entry of known-defects.toml names it and has a `shows` that is part of the
evidence, so that a known failure does not hide a new one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tools.interop.matrix import Result

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

LIST = Path(__file__).parent / "known-defects.toml"

Verdict = Literal["green", "known", "red", "absent", "unbuilt"]


@dataclass(frozen=True)
class Defect:
    """One entry. ``directions`` and ``cases`` select its cells."""

    peers: tuple[str, ...]
    cases: tuple[str, ...]
    directions: tuple[str, ...]
    shows: tuple[str, ...]
    """A red cell is known if one of these is part of its evidence."""
    reason: str
    evidence: str
    is_intermittent: bool = False
    """The peer fails some of these runs only, so green cells do not show that it was mended."""

    def covers(self, result: Result) -> bool:
        return self.is_about(result) and any(each in result.evidence for each in self.shows)

    def is_about(self, result: Result) -> bool:
        named = (result.peer in self.peers, result.case in self.cases, result.direction in self.directions)
        return all(named)


def known() -> list[Defect]:
    listed = tomllib.loads(LIST.read_text()).get("defect", [])
    return [
        Defect(
            peers=tuple(each["peers"]),
            cases=tuple(each["cases"]),
            directions=tuple(each["directions"]),
            shows=tuple(each["shows"]),
            reason=each["reason"],
            evidence=each["evidence"],
            is_intermittent=each.get("intermittent", False),
        )
        for each in listed
    ]


def verdict(result: Result, defects: list[Defect]) -> tuple[Verdict, Defect | None]:
    """The verdict on a cell, and the entry that covers it."""
    if result.outcome in ("red", "unbuilt"):
        for defect in defects:
            if defect.covers(result):
                return "known", defect
    return result.outcome, None


def stale(results: list[Result], defects: list[Defect]) -> list[Defect]:
    """Entries of which all cells that were run are green, and were red in every run before: they should be
    removed."""
    found = []
    for defect in defects:
        if defect.is_intermittent:
            continue
        about = [result for result in results if defect.is_about(result)]
        if about and all(result.outcome == "green" for result in about):
            found.append(defect)
    return found
