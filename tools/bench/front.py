"""The picture at the top of the README and the site: goodput of one stream, compared with other libp2p
implementations.

`bench.page` draws it after each run of all measures. To draw it again from the data of the last one:
`python -m tools.bench.front docs/reports/bench/bench.json docs/reports/bench/front.svg`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.sax.saxutils import escape

from tools.bench.results import Results, read, shown

MEASURE, FIGURE = "up", "goodput"
SHOWN = {
    "adapter": "libp2p-quic",
    "host": "libp2p-quic in a host",
    "rust-libp2p": "rust-libp2p",
    "go-libp2p": "go-libp2p",
    "js-libp2p": "js-libp2p",
    "stock": "py-libp2p's own QUIC",
}
OURS = {"adapter", "host"}
INK = "#717a85"
"""The text's gray: 4.3:1 on white and on GitHub's dark background, so that one file serves both themes."""
BLUE, GRAY = "#3b82f6", "#8b949e"
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
LEFT, WIDE, RIGHT, ROW, BAR = 195, 290, 55, 30, 18


def svg(found: Results) -> str:
    """Bars on a transparent background."""
    spreads = {name: found.spread(MEASURE, name, FIGURE) for name in SHOWN}
    figures = {name: spread.median for name, spread in spreads.items() if spread is not None}
    width, height = LEFT + WIDE + RIGHT, 24 + ROW * len(figures) + 34
    title = ", ".join(f"{SHOWN[name]} {shown(value)}" for name, value in figures.items())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="{FONT}" font-size="14" fill="{INK}">',
        f"<title>Goodput of one stream, Gbit/s: {escape(title)}</title>",
    ]
    y = 12
    for name, value in figures.items():
        length = max(WIDE * value / max(figures.values()), 2)
        weight = ' font-weight="700"' if name in OURS else ""
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end"{weight}>{escape(SHOWN[name])}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="3" '
            f'fill="{BLUE if name in OURS else GRAY}"/>',
            f'<text x="{LEFT + length + 8:.1f}" y="{y + 14}"{weight}>{shown(value)}</text>',
        ]
        y += ROW
    # Left-aligned: the longest text fits the width in any font.
    said = f"One stream between two processes over loopback, Gbit/s, {found.moment[:10]}"
    parts += [f'<text x="10" y="{y + 18}" font-size="12">{said}</text>', "</svg>"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(svg(read(source)))
