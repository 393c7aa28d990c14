"""The table of wheels, for the terminal and for `docs/platforms.md`. Results of earlier runs of `make
wheels` are kept in `docs/reports/wheels.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from tools.wheels.building import ROOT
from tools.wheels.platforms import PLATFORMS

RESULTS = ROOT / "docs" / "reports" / "wheels.json"
PAGE = ROOT / "docs" / "platforms.md"
_BEGIN = "<!-- make wheels writes from here -->"
_END = "<!-- to here -->"


@dataclass
class Row:
    """What became of one platform's wheel."""

    platform: str
    state: str = "NOT RUN"
    """`built`, `FAILED` or `NOT RUN`."""
    tag: str = ""
    size: int = 0
    """Bytes."""
    reproducible: str = "not compared"
    tested: list[str] = field(default_factory=list)
    why: str = ""
    """Why it was not built, or why the wheel must not be published."""
    on: str = ""
    """The day of the run."""

    def cells(self) -> list[str]:
        size = f"{self.size / 1e6:.1f} MB" if self.size else ""
        tested = "; ".join(self.tested) or ("checked, not loaded" if self.state == "built" else "")
        if self.why:
            tested = f"{tested}; {self.why}" if tested else self.why
        return [self.platform, self.state, f"`{self.tag}`", size, self.reproducible, tested, self.on]


_HEAD = ["wheel", "state", "tag", "size", "two builds", "how it was tested", "on"]


def kept() -> dict[str, Row]:
    """The results of earlier runs, by platform."""
    if not RESULTS.exists():
        return {}
    return {each["platform"]: Row(**each) for each in json.loads(RESULTS.read_text())}


def keep(rows: list[Row]) -> None:
    """Replace the results of these platforms, and the table of the page."""
    results = {**kept(), **{each.platform: each for each in rows}}
    ordered = [results.get(each.name, Row(each.name, tag=each.tag)) for each in PLATFORMS]
    RESULTS.write_text(json.dumps([asdict(each) for each in ordered], indent=2) + "\n")
    PAGE.write_text(with_table(PAGE.read_text(), ordered))


def with_table(page: str, rows: list[Row]) -> str:
    """The page with the table of these rows between its two marks."""
    head, _, rest = page.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    if not tail:
        raise ValueError(f"docs/platforms.md lacks the lines {_BEGIN} and {_END}")
    lines = [_HEAD, ["---"] * len(_HEAD), *(each.cells() for each in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{head}{_BEGIN}\n\n{table}\n\n{_END}{tail}"


def printed(rows: list[Row]) -> str:
    """The table for a terminal."""
    lines = [_HEAD, *(each.cells() for each in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    )
