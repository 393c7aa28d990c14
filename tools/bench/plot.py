"""Draws a group of measures: bars of the first figure, with the spread of the runs."""

from __future__ import annotations

from xml.sax.saxutils import escape

from testkit.drawing import picture, text
from tools.bench.measure import Measure
from tools.bench.results import Results, labeled, shown

OURS = {"adapter", "host", "engine"}
LEFT, BAR, ROW, WIDE, RIGHT = 270, 16, 24, 420, 110


def _bars(found: Results, measure: Measure, top: float) -> tuple[list[str], float]:
    """The bars of one measure below ``top``, and where they end."""
    name, figure = next(iter(measure.figures.items()))
    better = "more is better" if figure.is_more_better else "less is better"
    parts = [
        text(20, top + 14, measure.title, 'font-weight="600"'),
        text(LEFT + WIDE + RIGHT, top + 14, f"{labeled(figure)}; {better}", 'text-anchor="end"'),
    ]
    spreads = {each.name: found.spread(measure.name, each.name, name) for each in found.contenders}
    most = max((spread.most for spread in spreads.values() if spread), default=0.0) or 1.0
    y = top + 26
    for contender in found.contenders:
        spread = spreads[contender.name]
        if spread is None:
            if not found.reason(measure.name, contender.name).startswith("failed"):
                continue
            parts.append(text(LEFT + 4, y + 13, "failed", 'font-style="italic"'))
        else:
            color = "#2f6fde" if contender.name in OURS else "#9aa5b4"
            width = WIDE * spread.median / most
            low, high = (LEFT + WIDE * value / most for value in (spread.least, spread.most))
            said = f"{contender.title}: {shown(spread.median)} {figure.unit}"
            parts.append(
                f'<g><title>{escape(said)}</title><rect x="{LEFT}" y="{y}" width="{max(width, 1):.1f}" '
                f'height="{BAR}" rx="3" fill="{color}"/>'
                f'<path d="M{low:.1f} {y + BAR / 2}H{high:.1f}M{low:.1f} {y + 4}V{y + 12}'
                f'M{high:.1f} {y + 4}V{y + 12}" stroke="#1f2733" stroke-width="1.2" fill="none"/></g>'
            )
            parts.append(text(max(high, LEFT + width) + 6, y + 13, shown(spread.median)))
        parts.append(text(LEFT - 8, y + 13, contender.title, 'text-anchor="end"'))
        y += ROW
    return parts, y + 16


def svg(found: Results, measures: list[Measure]) -> str:
    parts: list[str] = []
    bottom = 12.0
    for measure in measures:
        more, bottom = _bars(found, measure, bottom)
        parts += more
    return picture(LEFT + WIDE + RIGHT + 20, bottom, parts)
