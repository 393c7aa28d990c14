"""The run as a picture: an SVG heat map. Signs as well as colours, for whoever sees no red."""

from __future__ import annotations

from xml.sax.saxutils import escape

from interop.defects import verdict
from interop.peer import OURS
from interop.report import SIGNS, WORDS, Report

COLOURS = {
    "green": "#2e9e5b",
    "known": "#d9a406",
    "red": "#c8372d",
    "absent": "#c9ced6",
    "unbuilt": "#8a93a1",
}
CELL, GAP, LEFT, TOP = 34, 3, 330, 130


def svg(report: Report) -> str:
    rows = report.rows()
    width = LEFT + len(report.cases) * (CELL + GAP) + 60
    height = TOP + len(rows) * (CELL + GAP) + 80
    day = report.moment.strftime("%Y-%m-%d")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(20, 30, "libp2p-quic with every libp2p", size=18, weight="600"),
        _text(20, 52, f"{day}, {report.machine}", colour="#5b6472"),
    ]
    for column, case in enumerate(report.cases):
        x = LEFT + column * (CELL + GAP) + CELL / 2
        parts.append(
            f'<text x="{x}" y="{TOP - 10}" transform="rotate(-45 {x} {TOP - 10})" fill="#1f2733">'
            f"<title>{escape(case.title)}</title>{escape(case.name)}</text>"
        )
    for row, (name, label, direction) in enumerate(rows):
        y = TOP + row * (CELL + GAP)
        if direction == "we dial":
            program, _, stack = label.partition(", ")
            parts.append(_text(20, y + 15, program, weight="600"))
            parts.append(_text(20, y + 30, stack, size=11, colour="#5b6472"))
        way = "with itself" if name == OURS else direction
        parts.append(_text(LEFT - 12, y + 22, way, anchor="end", colour="#5b6472"))
        for column, case in enumerate(report.cases):
            result = report.result(name, direction, case.name)
            if result is None:
                continue
            word, _ = verdict(result, report.defects)
            x = LEFT + column * (CELL + GAP)
            said = f"{label}, {direction}, {case.name}: {WORDS[word]} {result.evidence}".strip()
            parts.append(
                f'<g><title>{escape(said)}</title><rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" '
                f'rx="6" fill="{COLOURS[word]}"/>'
                + _text(x + CELL / 2, y + 22, SIGNS[word], anchor="middle", colour="#ffffff", weight="600")
                + "</g>"
            )
    parts += _legend(TOP + len(rows) * (CELL + GAP) + 24)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(y: float) -> list[str]:
    parts = []
    x = 20.0
    for word, sign in SIGNS.items():
        parts.append(f'<rect x="{x}" y="{y}" width="18" height="18" rx="4" fill="{COLOURS[word]}"/>')
        parts.append(_text(x + 9, y + 14, sign, anchor="middle", colour="#ffffff", weight="600"))
        words = WORDS[word].split(",")[0]
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
    colour: str = "#1f2733",
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
