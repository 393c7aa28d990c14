"""`make interop`: arguments, progress, and output files. Has no cases and no verdicts.

Exits with 0 if every cell is green, absent or known; 1 if one is red or a peer could not be built; 2 for
wrong arguments. With --missing-tools-pass, a peer that needs a missing build tool is shown as not built,
and is no failure.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import trio

from tools.interop import defects, matrix
from tools.interop.case import CASES, Case
from tools.interop.peer import BUILD, OURS, BuildError, MissingToolError, Peer, load
from tools.interop.picture import svg
from tools.interop.report import SIGNS, Report

_BUILDS = 2
"""Concurrent builds that mostly compute: while one links or downloads, another uses the processors."""

PAGES = Path(__file__).parents[2] / "docs" / "reports" / "interop"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.interop", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default="", help="names, separated by commas; default: all")
    parser.add_argument("--cases", default="", help="names, separated by commas; default: all")
    parser.add_argument("--subject", default=OURS, help="the program that meets the peers: ours or asyncio")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=math.inf, help="seconds for all cases; a later case is red"
    )
    parser.add_argument("--missing-tools-pass", action="store_true", help="see the exit status")
    parser.add_argument(
        "--judge", action="store_true", help="run nothing: evaluate the last run with the current list"
    )
    parser.add_argument(
        "--pages", action="store_true", help="write the page and the picture also after a part"
    )
    arguments = parser.parse_args()
    if arguments.judge:
        last = json.loads((BUILD / "matrix.json").read_text())
        sys.exit(shown(Report.of(last, list(CASES), defects.known()), arguments.pages))
    names = [name for name in arguments.peers.split(",") if name]
    try:
        peers = load(names or None, arguments.subject)
        cases = chosen([name for name in arguments.cases.split(",") if name])
    except KeyError as error:
        parser.error(str(error.args[0]))
    # The pages are those of the transport.
    arguments.pages |= not (names or arguments.cases or arguments.subject != OURS)
    sys.exit(trio.run(whole, peers, cases, arguments))


def chosen(names: list[str]) -> list[Case]:
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise KeyError(f"no case {name!r}: there are {', '.join(known)}")
    return [case for case in CASES if not names or case.name in names]


async def whole(peers: list[Peer], cases: list[Case], arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    deadline = trio.current_time() + arguments.limit
    total = sum(2 if peer.name != OURS else 1 for peer in peers) * len(cases)
    done = 0
    listed = defects.known()

    def show(result: matrix.Result) -> None:
        nonlocal done
        done += 1
        status, _ = defects.verdict(result, listed)
        line = f"[{done:3}/{total}] {SIGNS[status]} {result.peer:18} {result.direction:10} {result.case:12}"
        print(f"{line} {result.seconds:5.1f} s  {result.evidence[:300]}", flush=True)
        if result.themselves:
            print(f"{'':13}two of {result.peer}: {result.themselves[:300]}", flush=True)

    built: list[Peer] = []
    failures: dict[str, BuildError] = {}
    send, receive = trio.open_memory_channel[Peer](len(peers))

    async def build() -> None:
        nonlocal built, failures
        with send:
            built, failures = await build_all(peers, deadline, send.send_nowait)

    async with trio.open_nursery() as builds:
        builds.start_soon(build)
        with receive:
            results = await matrix.run(receive, cases, arguments.jobs, deadline, show)
    if not any(peer.name == OURS for peer in built):
        print("\nOur own peer could not be built, and every case needs it.")
        return 1
    unbuilt = {name: matrix.placeless(str(error)) for name, error in failures.items()}
    results += matrix.not_run(unbuilt, cases)
    report = Report(built, unbuilt, cases, results, listed, time.monotonic() - began)
    status = shown(report, arguments.pages)
    is_tolerated = arguments.missing_tools_pass
    broken = [
        error for error in failures.values() if not (is_tolerated and isinstance(error, MissingToolError))
    ]
    return 1 if status or broken else 0


def shown(report: Report, has_pages: bool) -> int:
    """Print and write a run; returns 1 if a cell is red."""
    print_table(report)
    write(report, has_pages)
    print(f"{report.counted}, in {report.seconds:.0f} s")
    for defect in defects.stale(report.results, report.defects):
        print(f"known-defects.toml: {', '.join(defect.peers)} {', '.join(defect.cases)} is green now")
    return 1 if report.count("red") else 0


async def build_all(
    peers: list[Peer], deadline: float, on_built: Callable[[Peer], None] | None = None
) -> tuple[list[Peer], dict[str, BuildError]]:
    """Build each program once: the longest first, and those that mostly wait for the network at once.

    ``on_built`` gets each row as soon as it is built. Returns the peers that were built, and the errors of
    the others, by rows.
    """
    failures: dict[str, BuildError] = {}

    async def build(rows: list[Peer]) -> None:
        name = rows[0].name
        began = time.monotonic()
        try:
            await rows[0].build(lambda step: print(f"build {step}", flush=True), deadline)
            for peer in rows:
                await peer.describe()
        except BuildError as error:
            failures.update({peer.row: error for peer in rows})
            print(f"build {name:9} FAILED: {error}", flush=True)
        else:
            seconds = time.monotonic() - began
            print(f"built {name:9} {rows[0].label}, {seconds:.0f} s", flush=True)
            if on_built is not None:
                for peer in rows:
                    on_built(peer)

    programs = [[peer for peer in peers if peer.name == name] for name in {peer.name: None for peer in peers}]
    programs.sort(key=lambda rows: -rows[0].build_seconds)
    longest_first = iter([rows for rows in programs if rows[0].build_seconds])

    async def work() -> None:
        for rows in longest_first:
            await build(rows)

    async with trio.open_nursery() as nursery:
        for _ in range(_BUILDS):
            nursery.start_soon(work)
        for rows in programs:
            if not rows[0].build_seconds:
                nursery.start_soon(build, rows)
    built = [peer for peer in peers if peer.row not in failures]
    return built, {peer.row: failures[peer.row] for peer in peers if peer.row in failures}


def print_table(report: Report) -> None:
    widths = [max(len(case.name), 2) for case in report.cases]
    label = max(len(each) for _, each, _ in report.rows()) + 2
    heads = "  ".join(case.name.ljust(width) for case, width in zip(report.cases, widths, strict=True))
    print(f"\n{'':{label}}{'':11}  {heads}")
    for name, title, direction in report.rows():
        signs = [report.sign(name, direction, case.name) for case in report.cases]
        cells = "  ".join(sign.ljust(width) for sign, width in zip(signs, widths, strict=True))
        print(f"{title:{label}}{direction:11}  {cells}")
    print()


def write(report: Report, has_pages: bool) -> None:
    """Write the data always, and the page only after a run of everything, because the docs show it."""
    (BUILD / "matrix.json").write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    if not has_pages:
        return
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "matrix.json").write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    (PAGES / "README.md").write_text(report.page("matrix.svg"))
    (PAGES / "matrix.svg").write_text(svg(report))


if __name__ == "__main__":
    main()
