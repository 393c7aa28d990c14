"""The tables of wheels and of tests, for the terminal and for `docs/platforms.md`. Results of earlier runs
are kept in `docs/reports/wheels.json` and `docs/reports/platforms.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tools.wheels.building import ROOT
from tools.wheels.platforms import PLATFORMS

RESULTS = ROOT / "docs" / "reports" / "wheels.json"
TESTS = ROOT / "docs" / "reports" / "platforms.json"
PAGE = ROOT / "docs" / "platforms.md"
_BEGIN = "<!-- make wheels writes from here -->"
_END = "<!-- to here -->"
_TESTS_BEGIN = "<!-- make test-musl and the other tests of platforms write from here -->"
_TESTS_END = "<!-- the tests write to here -->"


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
        cells = [self.platform, self.state, f"`{self.tag}`", size, self.reproducible, tested, self.on]
        return [cell.replace("|", "/") for cell in cells]


_HEAD = ["wheel", "state", "tag", "size", "two builds", "how it was tested", "on"]


@dataclass
class RunResult:
    """What one run of tests on a platform or an interpreter showed."""

    platform: str
    what: str
    """What was run: the engine's tests, or the Python tests."""
    how: str
    """natively, emulated, or compiled only"""
    result: str
    on: str
    """The day of the run."""

    def cells(self) -> list[str]:
        return [cell.replace("|", "/") for cell in (self.platform, self.what, self.how, self.result, self.on)]


_TESTS_HEAD = ["platform", "what was run", "how", "result", "on"]


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


def keep_tests(tests: RunResult, results: Path = TESTS, page: Path = PAGE) -> None:
    """Replace the result of the same tests on the same platform, and the table of the page. ValueError, after
    the result is kept, if the page has no place for the table.
    """
    known = [RunResult(**each) for each in json.loads(results.read_text())] if results.exists() else []
    rows = [each for each in known if (each.platform, each.what) != (tests.platform, tests.what)]
    rows = sorted([*rows, tests], key=lambda each: (each.what, each.platform))
    results.write_text(json.dumps([asdict(each) for each in rows], indent=2) + "\n")
    page.write_text(with_tests(page.read_text(), rows))


def with_table(page: str, rows: list[Row]) -> str:
    """The page with the table of these wheels between its two marks."""
    return _between(page, (_BEGIN, _END), _HEAD, [each.cells() for each in rows])


def with_tests(page: str, rows: list[RunResult]) -> str:
    """The page with the table of these tests between its two marks."""
    return _between(page, (_TESTS_BEGIN, _TESTS_END), _TESTS_HEAD, [each.cells() for each in rows])


def _between(page: str, marks: tuple[str, str], names: list[str], rows: list[list[str]]) -> str:
    begin, end = marks
    head, _, rest = page.partition(begin)
    _, _, tail = rest.partition(end)
    if not tail:
        raise ValueError(f"docs/platforms.md lacks the lines {begin} and {end}")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [names, ["---"] * len(names), *rows])
    return f"{head}{begin}\n\n{table}\n\n{end}{tail}"


def printed(rows: list[Row]) -> str:
    """The table for a terminal."""
    lines = [_HEAD, *(each.cells() for each in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in lines
    )
