"""Draws a run of the laboratory as an SVG heat map: pairs of peers down, networks across."""

from __future__ import annotations

from testkit.drawing import picture
from testkit.heat_map import CELL, FAINT, GAP, cell, label, legend, slanted
from tools.nat.report import Report, Result, about_place, place_of

WIDTH = 74
LEFT, TOP = 250, 190
SIGNS = {"green": "✓", "known": "●", "red": "✗", "absent": "-"}
TITLES = {
    "green": "as expected",
    "known": "a known defect, see the page",
    "red": "not as expected",
    "absent": "not run",
}


def svg(report: Report) -> str:
    places = list(dict.fromkeys(place_of(each.cell) for each in report.results))
    rows = list(
        dict.fromkeys((each.cell.listener, each.cell.dialer, each.cell.relay) for each in report.results)
    )
    found = {
        (each.cell.listener, each.cell.dialer, each.cell.relay, place_of(each.cell)): each
        for each in report.results
    }
    across = {place: LEFT + number * (WIDTH + GAP) for number, place in enumerate(places)}
    width = LEFT + len(places) * (WIDTH + GAP) + 130
    bottom = TOP + 10 + len(rows) * (CELL + GAP)
    parts = [
        label(20, 30, "Hole punching behind routers", size=18, weight="600"),
        label(20, 52, f"{report.told_when}; a cell: direct connections of tries, median in ms", color=FAINT),
        label(20, TOP - 4, "listener, dialer (relay)", size=12, color=FAINT),
    ]
    parts += [slanted(x + WIDTH / 2, TOP - 10, place, about_place(place)) for place, x in across.items()]
    for number, row in enumerate(rows):
        y = TOP + 10 + number * (CELL + GAP)
        listener, dialer, relay = row
        parts.append(label(20, y + 19, f"{listener}, {dialer}", weight="600"))
        parts.append(label(LEFT - 12, y + 19, f"({relay})", anchor="end", color=FAINT))
        for place, x in across.items():
            result = found.get((*row, place))
            if result is None:
                parts.append(cell(x, y, "absent", "-", "not run", WIDTH))
            else:
                title = f"{result.cell}: {result.told}"
                parts.append(cell(x, y, status(report, result), _sign(result), title, WIDTH, 12))
    parts += legend(20.0, bottom + 20, SIGNS, TITLES)
    return picture(width, bottom + 60, parts)


def status(report: Report, result: Result) -> str:
    if report.is_as_expected(result):
        return "green"
    return "known" if str(result.cell) in report.defects else "red"


def _sign(result: Result) -> str:
    median = "" if result.median is None else f" {result.median * 1000:.0f}"
    return f"{result.direct}/{len(result.outcomes)}{median}"
