"""Draws the cells, the labels and the legend of a table as an SVG picture. Knows nothing of the data.

Cells have signs besides colors, for readers who cannot distinguish the colors.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

COLORS = {
    "green": "#2e9e5b",
    "known": "#f0c24b",
    "red": "#c8372d",
    "absent": "#eceff3",
    "unbuilt": "#8a93a1",
}
INK, FAINT, WHITE = "#1f2733", "#5b6472", "#ffffff"
OVER = {"green": WHITE, "known": INK, "red": WHITE, "absent": FAINT, "unbuilt": WHITE}
"""The color of the sign on a cell."""
CELL, GAP = 28, 3


def label(
    x: float,
    y: float,
    text: str,
    size: int = 13,
    weight: str = "400",
    anchor: str = "start",
    color: str = INK,
) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{color}">{escape(text)}</text>'
    )


def slanted(x: float, y: float, text: str, title: str) -> str:
    """The head of a column; ``title`` is shown while the pointer is on it."""
    return (
        f'<text x="{x}" y="{y}" transform="rotate(-45 {x} {y})" fill="{INK}">'
        f"<title>{escape(title)}</title>{escape(text)}</text>"
    )


def cell(x: float, y: float, status: str, sign: str, title: str, width: float = CELL, size: int = 13) -> str:
    """A cell of a ``status`` of `COLORS`; ``title`` is shown while the pointer is on it."""
    return (
        f'<g><title>{escape(title)}</title><rect x="{x}" y="{y}" width="{width}" height="{CELL}" '
        f'rx="5" fill="{COLORS[status]}"/>'
        + label(x + width / 2, y + 19, sign, size, "600", "middle", OVER[status])
        + "</g>"
    )


def legend(x: float, y: float, signs: Mapping[str, str], titles: Mapping[str, str]) -> list[str]:
    """One row: the sign of each status, and what it means."""
    parts = []
    for status, sign in signs.items():
        parts.append(f'<rect x="{x}" y="{y}" width="18" height="18" rx="4" fill="{COLORS[status]}"/>')
        parts.append(label(x + 9, y + 14, sign, anchor="middle", color=OVER[status], weight="600"))
        parts.append(label(x + 25, y + 14, titles[status]))
        x += 45 + 6.9 * len(titles[status])
    return parts
