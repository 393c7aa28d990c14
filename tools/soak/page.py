"""Writes the page of a soak run, its picture, and the figures as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from testkit import origin
from testkit.drawing import INK, picture, text
from tools.soak.run import Record
from tools.soak.verdict import HEADS, UNITS, rows, sentence

PAGES = Path(__file__).parents[2] / "docs" / "reports" / "soak"
WHOLE = 600.0
"""Seconds; a shorter run is not published."""

COLORS = {"home": "#2f6fde", "away": "#d9822b"}
DRAWN = ("allocated", "resident", "descriptors", "threads", "tasks")
LEFT, TOP, WIDE, HIGH, GAP = 60, 40, 620, 90, 44


def _line(points: Sequence[tuple[float, float]], color: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.6"/>'


def _panel(record: Record, kind: str, top: float) -> list[str]:
    unit, samples = UNITS.get(kind, 1), record.samples
    longest = samples[-1].at
    most = max(each[kind] for sample in samples for each in sample.usages.values()) / unit * 1.15 or 1.0
    cold = WIDE * next((sample.at for sample in record.counted), longest) / longest
    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{WIDE}" height="{HIGH}" fill="#f6f8fa"/>',
        f'<rect x="{LEFT}" y="{top}" width="{cold:.1f}" height="{HIGH}" fill="#e6eaef"/>',
        text(LEFT, top - 8, f"{kind}, MiB" if unit > 1 else kind, 'font-weight="600"'),
        text(LEFT - 6, top + 5, f"{most:.0f}", 'text-anchor="end" font-size="11"'),
        text(LEFT - 6, top + HIGH, "0", 'text-anchor="end" font-size="11"'),
    ]
    for number, process in enumerate(samples[0].usages):
        values = [sample.usages[process][kind] / unit for sample in samples]
        spots = [
            (LEFT + WIDE * sample.at / longest, top + HIGH * (1 - value / most))
            for sample, value in zip(samples, values, strict=True)
        ]
        color = COLORS[process]
        end = f"{process} {values[-1]:.{1 if unit > 1 else 0}f}"
        parts += [
            _line(spots, color),
            f'<circle cx="{LEFT + WIDE + 12}" cy="{top + 12 + 18 * number}" r="4" fill="{color}"/>',
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
            f"{sum(done.values())} scenarios, {record.done['bytes'] / 1e9:.2f} GB echoed with their "
            f"checksums compared, {record.done['garbage']} datagrams of garbage.",
            "",
            *_markdown(record),
            "",
            "![Usage of the two processes](soak.svg)",
            "",
            "Two hosts of py-libp2p use this transport for the whole time: *home*, in the process that also "
            "runs most of the other hosts, and *away*, in a process of its own. Other hosts start, run one "
            "of the scenarios below, and stop. At intervals all of them stop. When the engines hold no "
            "connection, the two processes are measured, after a garbage collection. Measurements in the "
            "first fifth of the time (the darker part of the picture) are drawn and do not count.",
            "",
            "*On asyncio* and *on uvloop* are programs of `libp2p_quic.asyncio`, each of them an event "
            "loop in a thread of home's process, from its start to its end. Up to three connections, to "
            "*home* and between endpoints of the loop, carry up to 24 streams at once: exchanges, some of "
            "them canceled at random moments, lines by asyncio's reader and writer, and streams that the "
            "peer resets. A third of the loops closes everything in order, a third first cancels every "
            "task at a random moment, and a third ends with everything open. No task and no wait may be "
            "left, and no message may reach the loop's exception handler.",
            "",
            "Descriptors, threads, tasks, and the engine's objects must not be more at the end than at the "
            "start. Memory allocated by malloc and Python's objects, which are in Python's own arenas, "
            "fluctuate and have a bound. Their slope, the median of the slopes between all pairs of "
            "measurements, may not exceed half of that bound over the time from start to end. Resident "
            "memory has only a wide bound: a page counts if a small part of it is in use, so this value goes "
            "up and down by many MiB.",
            "",
            "| scenario | times |",
            "| --- | ---: |",
            *(f"| {name.replace('_', ' ')} | {count} |" for name, count in done.items()),
            "",
            "The figures are in [soak.json](soak.json). Again: `make soak`; longer: `make soak "
            'SOAK="--minutes 60"`.',
            "",
        ]
    )


def write(record: Record, folder: Path) -> Path:
    """The page's path; its picture and figures are in the same folder."""
    # First, because the commit is marked as modified if a file differs.
    text = page(record)
    folder.mkdir(parents=True, exist_ok=True)
    # `asdict` cannot copy a Counter.
    figures = asdict(replace(record, done=Counter())) | {"done": record.done}
    (folder / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    (folder / "soak.svg").write_text(svg(record))
    (folder / "README.md").write_text(text)
    return folder / "README.md"
