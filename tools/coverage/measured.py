"""Counters become lines: what coverage.py and llvm-cov wrote, as one kind of result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from covered.rooms import ROOT, counted, has_code, room_of, sources


@dataclass(frozen=True)
class Lines:
    """Lines of one file, or of several together: those that can be run, and those that were."""

    all: int
    run: int

    @property
    def percent(self) -> float:
        return 100.0 * self.run / self.all if self.all else 100.0


def python_lines(report: Path) -> dict[str, Lines]:
    """Out of ``coverage json``."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    return {
        path: Lines(file["summary"]["num_statements"], file["summary"]["covered_lines"])
        for path, file in files.items()
        if room_of(path)
    }


def rust_lines(report: Path) -> dict[str, Lines]:
    """Out of ``llvm-cov export -format=lcov``."""
    counts: dict[str, dict[int, int]] = {}
    path = ""
    for entry in report.read_text(encoding="utf-8").splitlines():
        kind, _, value = entry.partition(":")
        if kind == "SF":
            # Dependencies lie elsewhere, and are in no room.
            path = value.removeprefix(f"{ROOT}/")
        elif kind == "DA" and room_of(path):
            number, count = value.split(",")[:2]
            counts.setdefault(path, {})[int(number)] = int(count)
    lines = {}
    for path, by_number in counts.items():
        last = len(counted(path))
        runs = [count for number, count in by_number.items() if number <= last]
        lines[path] = Lines(len(runs), sum(count > 0 for count in runs))
    return lines


def with_the_unseen(lines: dict[str, Lines]) -> dict[str, Lines]:
    """``lines`` and every file of a room that no counter told of: all its lines, none run."""
    unseen = {path: Lines(len(counted(path)), 0) for path in sources() if has_code(path)}
    return dict(sorted({**unseen, **lines}.items()))


def by_room(lines: dict[str, Lines]) -> dict[str, Lines]:
    together: dict[str, Lines] = {}
    for path, file in lines.items():
        room = room_of(path)
        assert room is not None, path
        before = together.get(room, Lines(0, 0))
        together[room] = Lines(before.all + file.all, before.run + file.run)
    return together
