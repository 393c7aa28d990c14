"""Stores the lines of a run as JSON, and computes its figures: median, spread, ratio."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from testkit import origin
from tools.bench.contender import HERE, OURS, Contender
from tools.bench.measure import MEASURES, Figure, Line, Measure

LAST = HERE / "results" / "last.json"
"""The last run, also of a part. Pages of runs of all measures are in docs/reports/bench."""

_BY_NAME = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True)
class Spread:
    """Median, least and most of the runs of one figure."""

    median: float
    least: float
    most: float
    runs: int


@dataclass(frozen=True)
class Cell:
    """One run of one measure of one contender: a line, or the reason for its absence."""

    measure: str
    contender: str
    line: Line | None = None
    failure: str = ""
    absent: str = ""


@dataclass
class Results:
    moment: str
    machine: str
    commit: str
    runs: int
    contenders: list[Contender]
    cells: list[Cell] = field(default_factory=list)

    @property
    def measures(self) -> list[Measure]:
        """The measures that were run, in their order."""
        names = {cell.measure for cell in self.cells}
        return [measure for measure in MEASURES if measure.name in names]

    def of(self, measure: str, contender: str) -> list[Cell]:
        return [cell for cell in self.cells if (cell.measure, cell.contender) == (measure, contender)]

    def spread(self, measure: str, contender: str, figure: str) -> Spread | None:
        """None if no run succeeded."""
        read = _BY_NAME[measure].figures[figure].of
        values = [read(cell.line) for cell in self.of(measure, contender) if cell.line is not None]
        if not values:
            return None
        return Spread(statistics.median(values), min(values), max(values), len(values))

    def ratio(self, measure: str, contender: str, figure: str) -> float | None:
        """The ratio to our adapter's median."""
        ours, theirs = (self.spread(measure, name, figure) for name in (OURS, contender))
        if ours is None or theirs is None or ours.median == 0:
            return None
        return theirs.median / ours.median

    def reason(self, measure: str, contender: str) -> str:
        """Why there is no figure, or which runs failed."""
        cells = self.of(measure, contender)
        failed = [cell.failure for cell in cells if cell.failure]
        if failed:
            return f"failed ({len(failed)} of {len(cells)}): {failed[0]}"
        return next((cell.absent for cell in cells if cell.absent), "")

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def begin(contenders: list[Contender], runs: int) -> Results:
    return Results(
        moment=origin.moment(),
        machine=origin.machine(),
        commit=origin.commit(),
        runs=runs,
        contenders=contenders,
    )


def read(path: Path) -> Results:
    """Raises OSError if there is no such run."""
    found: dict[str, Any] = json.loads(path.read_text())
    found["contenders"] = [Contender(**each) for each in found["contenders"]]
    found["cells"] = [Cell(**each) for each in found["cells"]]
    return Results(**found)


def shown(value: float) -> str:
    """Three significant digits, and no exponents."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1g}"


def labeled(figure: Figure) -> str:
    return f"{figure.title}, {figure.unit}"
