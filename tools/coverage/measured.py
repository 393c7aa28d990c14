"""Converts the reports of coverage.py and llvm-cov into counts of lines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tools.coverage.packages import ROOT, counted, has_code, package_of, sources


@dataclass(frozen=True)
class Lines:
    """Lines of one or several files: executable ones, and those that were run."""

    all: int
    run: int

    @property
    def percent(self) -> float:
        return 100.0 * self.run / self.all if self.all else 100.0


def python_lines(report: Path) -> dict[str, Lines]:
    """Parse the report of ``coverage json``."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {
        path: Lines(file["summary"]["num_statements"], file["summary"]["covered_lines"])
        for path, file in files.items()
        if package_of(path)
    }


def rust_lines(report: Path) -> dict[str, Lines]:
    """Parse the report of ``llvm-cov export -format=lcov``."""
    counts: dict[str, dict[int, int]] = {}
    path = ""
    for entry in report.read_text(encoding="utf-8").splitlines():
        kind, _, value = entry.partition(":")
        if kind == "SF":
            # Dependencies are outside of every package.
            path = value.removeprefix(f"{ROOT}/")
        elif kind == "DA" and package_of(path):
            number, count = value.split(",")[:2]
            counts.setdefault(path, {})[int(number)] = int(count)
    lines = {}
    for path, by_number in counts.items():
        last = len(counted(path))
        runs = [count for number, count in by_number.items() if number <= last]
        lines[path] = Lines(len(runs), sum(count > 0 for count in runs))
    return lines


def with_unloaded_files(lines: dict[str, Lines]) -> dict[str, Lines]:
    """``lines``, and every file without counters, with no line run."""
    unloaded = {path: Lines(len(counted(path)), 0) for path in sources() if has_code(path)}
    return dict(sorted({**unloaded, **lines}.items()))


def by_package(lines: dict[str, Lines]) -> dict[str, Lines]:
    together: dict[str, Lines] = {}
    for path, file in lines.items():
        package = package_of(path)
        assert package is not None, path
        before = together.get(package, Lines(0, 0))
        together[package] = Lines(before.all + file.all, before.run + file.run)
    return together
