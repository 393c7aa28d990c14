"""Shows a run: the table on the terminal, and docs/reports/bench with page, JSON and pictures."""

from __future__ import annotations

from pathlib import Path

from tools.bench import front
from tools.bench.contender import OURS
from tools.bench.measure import GROUPS, Measure
from tools.bench.plot import svg
from tools.bench.results import Results, Spread, labeled, shown

PAGES = Path(__file__).parents[2] / "docs" / "reports" / "bench"


def _cell(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    if spread.runs == 1:
        return shown(spread.median)
    return f"{shown(spread.median)} [{shown(spread.least)} .. {shown(spread.most)}]"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{shown(ratio)}"


def rows(found: Results, measure: Measure) -> list[list[str]]:
    """Title, then each figure with its ratio to ours, then the reason of a failure."""
    made = []
    for contender in found.contenders:
        cells = found.of(measure.name, contender.name)
        if not cells or all(each.absent == "not measured" for each in cells):
            continue
        row = [contender.title]
        for figure in measure.figures:
            row.append(_cell(found.spread(measure.name, contender.name, figure)))
            ratio = None if contender.name == OURS else found.ratio(measure.name, contender.name, figure)
            row.append(_ratio(ratio))
        made.append([*row, found.reason(measure.name, contender.name)])
    return made


def _heads(measure: Measure) -> list[str]:
    heads = [measure.title]
    for figure in measure.figures.values():
        heads += [labeled(figure), "x"]
    return [*heads, ""]


def table(found: Results) -> str:
    """All measures in columns, for the terminal. x is the ratio to our adapter's figure."""
    parts = []
    for measure in found.measures:
        lines = [_heads(measure), *rows(found, measure)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
        for line in lines:
            padded = [line[0].ljust(widths[0])]
            padded += [text.rjust(width) for text, width in zip(line[1:-1], widths[1:], strict=True)]
            parts.append(f"{'  '.join(padded)}  {line[-1][:100]}".rstrip())
        parts.append("")
    return "\n".join(parts)


def _markdown(found: Results, measure: Measure) -> str:
    heads = _heads(measure)
    if not any(row[-1] for row in rows(found, measure)):
        heads = heads[:-1]
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    lines += [row[: len(heads)] for row in rows(found, measure)]
    return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in line)} |" for line in lines)


def write(found: Results, goals: str) -> Path:
    """Write the page, the JSON and one picture for each group. Returns the path of the page."""
    PAGES.mkdir(parents=True, exist_ok=True)
    found.write(PAGES / "bench.json")
    (PAGES / "front.svg").write_text(front.svg(found))
    parts = [
        "# Benchmark",
        "",
        f"Made by `make bench` on {found.moment}, at {found.commit}. {found.machine}.",
        "",
        "Every contender is two processes that communicate over loopback, a listener and a dialer. Runs are "
        f"interleaved (every contender once, then again), {found.runs} of each, fewer of long ones. "
        "Figures are medians [least .. most]. **x** is the ratio to our adapter's figure. Goodput "
        "is payload by the receiver's clock, from its first byte to its last; CPU time is that of the whole "
        "process. Datagrams are of 1452 bytes unless a row says otherwise.",
        "",
        "## Goals",
        "",
        "```",
        goals,
        "```",
        "",
        "For goals that are not met, the remaining time and experiments: "
        "[performance notes](../../dev/performance-notes.md).",
    ]
    for group, title in GROUPS.items():
        measures = [measure for measure in found.measures if measure.group == group]
        if not measures:
            continue
        (PAGES / f"{group}.svg").write_text(svg(found, measures))
        parts += ["", f"## {title}", "", f"![{title}]({group}.svg)"]
        for measure in measures:
            said = " ".join(f"{name}={value}" for name, value in measure.options.items() if name != "do")
            parts += ["", _markdown(found, measure), "", f"`{measure.command} {said}`"]
            if measure.path:
                parts[-1] += ", through the relay, which delays and drops in both directions"
            if measure.is_loaded:
                parts[-1] += ", beside a third process that computes without a pause, pinned to no processor"
    parts += ["", "## Who is who", ""]
    parts += [f"- **{each.title}**: {each.description}" for each in found.contenders]
    parts += [
        "",
        "## Run it again",
        "",
        "`make bench` runs all measures, `make bench ONLY=goodput RUNS=5` a part, `make bench-goals` "
        "evaluates the last run. It needs Rust, Go and npm in addition; a contender that cannot be built is "
        "shown as failed. The command line of the contenders, to run one by hand, is in "
        "[tools/bench/README.md](../../../tools/bench/README.md).",
        "",
    ]
    page = PAGES / "README.md"
    page.write_text("\n".join(parts))
    return page
