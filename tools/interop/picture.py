"""The run as a picture: an SVG heat map. Signs as well as colours, for whoever sees no red; the
number on a cell is that of its note on the page."""

from __future__ import annotations

from itertools import groupby
from xml.sax.saxutils import escape

from interop.defects import verdict
from interop.matrix import Direction, Result
from interop.peer import OURS
from interop.report import SIGNS, WORDS, Report

COLOURS = {
    "green": "#2e9e5b",
    "known": "#f0c24b",
    "red": "#c8372d",
    "absent": "#eceff3",
    "unbuilt": "#8a93a1",
}
INK, FAINT, WHITE = "#1f2733", "#5b6472", "#ffffff"
OVER = {"green": WHITE, "known": INK, "red": WHITE, "absent": FAINT, "unbuilt": WHITE}
"""The colour of what stands on a cell."""
CELL, GAP, LEFT, TOP = 28, 3, 320, 150
BETWEEN = 9
"""Room between two peers and between two groups of cases, more than between their cells."""


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
        _text(20, 30, "libp2p-quic with every libp2p", size=18, weight="600"),
        _text(20, 52, f"{day}, {report.machine}", colour=FAINT),
        _text(20, 70, report.counted, colour=FAINT),
    ]
    for group, cases in groupby(report.cases, key=lambda case: case.group):
        parts.append(_text(across[next(cases).name], TOP + 16, group, size=12, colour=FAINT))
    for case in report.cases:
        x = across[case.name] + CELL / 2
        parts.append(
            f'<text x="{x}" y="{TOP - 10}" transform="rotate(-45 {x} {TOP - 10})" fill="{INK}">'
            f"<title>{escape(case.title)}</title>{escape(case.name)}</text>"
        )
    for name, label, direction, y in down:
        if direction == "we dial":
            program, _, stack = label.partition(", ")
            parts.append(_text(20, y + 16, program, weight="600"))
            parts.append(_text(20, y + 32, stack, size=11, colour=FAINT))
        way = "with itself" if name == OURS else direction
        parts.append(_text(LEFT - 12, y + 19, way, anchor="end", colour=FAINT))
        for case in report.cases:
            result = report.result(name, direction, case.name)
            if result is not None:
                parts.append(_cell(report, result, label, across[case.name], y))
    parts += _legend(max(y for *_, y in down) + CELL + 24)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _columns(report: Report) -> dict[str, int]:
    """Where each case begins."""
    places = {}
    x = LEFT
    for _, cases in groupby(report.cases, key=lambda case: case.group):
        for case in cases:
            places[case.name] = x
            x += CELL + GAP
        x += BETWEEN
    return places


def _rows(report: Report) -> list[tuple[str, str, Direction, int]]:
    """The rows, and where each begins."""
    rows = []
    y = TOP + 26
    for name, same in groupby(report.rows(), key=lambda row: row[0]):
        for _, label, direction in same:
            rows.append((name, label, direction, y))
            y += CELL + GAP
        # What stands under the name of our own peer needs a second line.
        y += BETWEEN if name != OURS else BETWEEN + 8
    return rows


def _cell(report: Report, result: Result, label: str, x: float, y: float) -> str:
    word, _ = verdict(result, report.defects)
    said = f"{label}, {result.direction}, {result.case}: {WORDS[word]} {result.evidence}".strip()
    sign = report.note(result) or SIGNS[word]
    return (
        f'<g><title>{escape(said)}</title><rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" '
        f'rx="5" fill="{COLOURS[word]}"/>'
        + _text(x + CELL / 2, y + 19, sign, anchor="middle", colour=OVER[word], weight="600")
        + "</g>"
    )


def _legend(y: float) -> list[str]:
    parts = []
    x = 20.0
    for word, sign in SIGNS.items():
        parts.append(f'<rect x="{x}" y="{y}" width="18" height="18" rx="4" fill="{COLOURS[word]}"/>')
        parts.append(_text(x + 9, y + 14, sign, anchor="middle", colour=OVER[word], weight="600"))
        words = WORDS[word].replace("below", "on the page")
        parts.append(_text(x + 25, y + 14, words))
        x += 45 + 6.9 * len(words)
    return parts


def _text(
    x: float,
    y: float,
    text: str,
    size: int = 13,
    weight: str = "400",
    anchor: str = "start",
    colour: str = INK,
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
