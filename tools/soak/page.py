"""A soak for people: a page, its picture, and the figures as JSON. Judges nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from bench import origin
from bench.drawing import INK, picture, text
from soak.run import Record
from soak.verdict import HEADS, UNITS, rows, sentence

PAGES = Path(__file__).parent.parent / "docs" / "reports" / "soak"
WHOLE = 600.0
"""Seconds; a shorter run shows nothing that is worth a page."""

COLOURS = {"home": "#2f6fde", "away": "#d9822b"}
DRAWN = ("allocated", "resident", "descriptors", "threads", "tasks")
LEFT, TOP, WIDE, HIGH, GAP = 60, 40, 620, 90, 44


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _panel(record: Record, kind: str, top: float) -> list[str]:
    unit, samples = UNITS.get(kind, 1), record.samples
    longest = samples[-1].at
    most = max(each[kind] for sample in samples for each in sample.weights.values()) / unit * 1.15 or 1.0
    cold = WIDE * next((sample.at for sample in record.counted), longest) / longest
    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{WIDE}" height="{HIGH}" fill="#f6f8fa"/>',
        f'<rect x="{LEFT}" y="{top}" width="{cold:.1f}" height="{HIGH}" fill="#e6eaef"/>',
        text(LEFT, top - 8, f"{kind}, MiB" if unit > 1 else kind, 'font-weight="600"'),
        text(LEFT - 6, top + 5, f"{most:.0f}", 'text-anchor="end" font-size="11"'),
        text(LEFT - 6, top + HIGH, "0", 'text-anchor="end" font-size="11"'),
    ]
    for number, process in enumerate(samples[0].weights):
        values = [sample.weights[process][kind] / unit for sample in samples]
        spots = [
            (LEFT + WIDE * sample.at / longest, top + HIGH * (1 - value / most))
            for sample, value in zip(samples, values, strict=True)
        ]
        colour = COLOURS[process]
        end = f"{process} {values[-1]:.{1 if unit > 1 else 0}f}"
        parts += [
            _line(spots, colour),
            f'<circle cx="{LEFT + WIDE + 12}" cy="{top + 12 + 18 * number}" r="4" fill="{colour}"/>',
            text(LEFT + WIDE + 22, top + 16 + 18 * number, end),
        ]
    return parts


def svg(record: Record) -> str:
    parts: list[str] = []
    top = float(TOP)
    for kind in DRAWN:
        parts += _panel(record, kind, top)
        top += HIGH + GAP
    foot = top - GAP + 16
    minutes = record.samples[-1].at / 60
    parts += [
        text(LEFT, foot, "0", 'font-size="11"'),
        text(LEFT + WIDE, foot, f"{minutes:.1f} minutes", 'text-anchor="end" font-size="11"'),
        f'<path d="M{LEFT} {foot - 16}H{LEFT + WIDE}" stroke="{INK}" stroke-width="1"/>',
    ]
    return picture(LEFT + WIDE + 120, foot + 14, parts)


def _markdown(record: Record) -> list[str]:
    heads = ["---", "---", *["---:"] * (len(HEADS) - 3), "---"]
    return [f"| {' | '.join(line)} |" for line in (HEADS, heads, *(row.cells for row in rows(record)))]


def page(record: Record) -> str:
    minutes = record.samples[-1].at / 60
    done = {name: count for name, count in sorted(record.done.items()) if name not in ("bytes", "garbage")}
    return "\n".join(
        [
            "# Soak",
            "",
            f"Made by `make soak` on {origin.moment()}, at {origin.commit()}. {origin.machine()}.",
            "",
            f"**{sentence(record)}** {minutes:.1f} minutes, seed {record.plan.seed}: "
            f"{sum(done.values())} lives, {record.done['bytes'] / 1e9:.2f} GB there and back with their "
            f"checksums compared, {record.done['garbage']} datagrams of garbage.",
            "",
            *_markdown(record),
            "",
            "![What the two processes weighed](soak.svg)",
            "",
            "Two hosts of py-libp2p stay on this transport for the whole time: *home*, in the process where "
            "most guests live too, and *away*, in a process of its own. All others come, do one of the "
            "things below, and go. Every so often all are let go; when the last is gone and the engines "
            "hold no connection, the two processes are weighed, after a garbage collection. What was weighed "
            "in the first fifth of the time (the darker part of the picture) is drawn and does not count.",
            "",
            "Descriptors, threads, tasks, and what the engine holds must be no more in the end than at the "
            "start. What malloc has given out and Python's objects, which lie in memory of their own, waver "
            "and have a bound; and their slope, the median of those between all pairs of weighings, may not "
            "come to more than half of that in the time from start to end. Resident memory is what the "
            "system shows: a page counts as long as a small piece of it is in use, so that it goes up and "
            "down by many MiB, and is bounded without a slope.",
            "",
            "| what happened | times |",
            "| --- | ---: |",
            *(f"| {name.replace('_', ' ')} | {count} |" for name, count in done.items()),
            "",
            "The figures are in [soak.json](soak.json). Again: `make soak`; longer: `make soak "
            'SOAK="--minutes 60"`.',
            "",
        ]
    )


def write(record: Record, folder: Path) -> Path:
    """The page's path; its picture and figures lie beside it."""
    # First, as it says whether anything differs from the commit.
    words = page(record)
    folder.mkdir(parents=True, exist_ok=True)
    # `asdict` makes no Counter anew.
    figures = asdict(replace(record, done=Counter())) | {"done": record.done}
    (folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "soak.svg").write_text(svg(record))
    (folder / "README.md").write_text(words)
    return folder / "README.md"
