"""The text and the frame of every SVG picture. Knows nothing of the data that is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

INK = "#1f2733"


def text(x: float, y: float, content: str, rest: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" {rest}>{escape(content)}</text>'


def picture(width: float, height: float, parts: Iterable[str]) -> str:
    """An SVG of that size, on white."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="system-ui, sans-serif" font-size="13">'
    )
    background = f'<rect width="{width:.0f}" height="{height:.0f}" fill="#fff"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"
