"""Draws a run as an SVG heat map. Cells have signs besides colors, for readers who cannot distinguish the
colors; the number on a cell is that of its note on the page."""

from __future__ import annotations

from itertools import groupby

from testkit.heat_map import CELL, FAINT, GAP, cell, label, legend, slanted
from tools.interop.defects import verdict
from tools.interop.matrix import Direction, Result
from tools.interop.report import SIGNS, TITLES, Report

LEFT, TOP = 320, 150
BETWEEN = 9
"""The gap between two peers and between two groups of cases."""


def svg(report: Report) -> str:
    across = _columns(report)
    down = _rows(report)
    width = max(across.values()) + CELL + 60
    height = max(y for *_, y in down) + CELL + 76
    day = report.moment.strftime("%Y-%m-%d")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        label(20, 30, "libp2p-quic with other libp2p implementations", size=18, weight="600"),
        label(20, 52, f"{day}, {report.machine}", color=FAINT),
        label(20, 70, report.counted, color=FAINT),
    ]
    for group, cases in groupby(report.cases, key=lambda case: case.group):
        parts.append(label(across[next(cases).name], TOP + 16, group, size=12, color=FAINT))
    for case in report.cases:
        x = across[case.name] + CELL / 2
        parts.append(slanted(x, TOP - 10, case.name, case.title))
    for name, program_label, direction, y in down:
        if direction == "we dial":
            program, _, stack = program_label.partition(", ")
            parts.append(label(20, y + 16, program, weight="600"))
            parts.append(label(20, y + 32, stack, size=11, color=FAINT))
        way = "with itself" if report.is_ours(name) else direction
        parts.append(label(LEFT - 12, y + 19, way, anchor="end", color=FAINT))
        for case in report.cases:
            result = report.result(name, direction, case.name)
            if result is not None:
                parts.append(_cell(report, result, program_label, across[case.name], y))
    titles = {status: title.replace("below", "on the page") for status, title in TITLES.items()}
    parts += legend(20.0, max(y for *_, y in down) + CELL + 24, SIGNS, titles)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _columns(report: Report) -> dict[str, int]:
    """The position of each case."""
    places = {}
    x = LEFT
    for _, cases in groupby(report.cases, key=lambda case: case.group):
        for case in cases:
            places[case.name] = x
            x += CELL + GAP
        x += BETWEEN
    return places


def _rows(report: Report) -> list[tuple[str, str, Direction, int]]:
    """The rows, and the position of each."""
    rows = []
    y = TOP + 26
    for name, same in groupby(report.rows(), key=lambda row: row[0]):
        for _, title, direction in same:
            rows.append((name, title, direction, y))
            y += CELL + GAP
        # The description of our own peer needs a second line.
        y += BETWEEN + 8 if report.is_ours(name) else BETWEEN
    return rows


def _cell(report: Report, result: Result, title: str, x: float, y: float) -> str:
    status, _ = verdict(result, report.defects)
    said = f"{title}, {result.direction}, {result.case}: {TITLES[status]} {result.evidence}".strip()
    sign = report.note(result) or SIGNS[status]
    return cell(x, y, status, sign, said)
