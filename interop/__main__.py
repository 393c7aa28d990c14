"""`make interop`: arguments, progress, and what is written where. No case and no verdict.

Exit status: 0 when every cell is green, absent or known; 1 when one is red or a peer could
not be built; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import trio

from interop import defects, matrix
from interop.case import CASES, Case
from interop.peer import BUILD, BuildError, Peer, load
from interop.picture import svg
from interop.report import SIGNS, Report

PAGES = Path(__file__).parent.parent / "docs" / "interop"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m interop", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default="", help="names, with commas between them; default: all")
    parser.add_argument("--cases", default="", help="names, with commas between them; default: all")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once (default: %(default)s)")
    parser.add_argument("--pages", action="store_true", help="write the page and the picture even of a part")
    arguments = parser.parse_args()
    names = [name for name in arguments.peers.split(",") if name]
    try:
        peers = load(names or None)
        cases = chosen([name for name in arguments.cases.split(",") if name])
    except KeyError as error:
        parser.error(str(error.args[0]))
    sys.exit(trio.run(whole, peers, cases, arguments.jobs, arguments.pages or not (names or arguments.cases)))


def chosen(names: list[str]) -> list[Case]:
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise KeyError(f"no case {name!r}: there are {', '.join(known)}")
    return [case for case in CASES if not names or case.name in names]


async def whole(peers: list[Peer], cases: list[Case], jobs: int, has_pages: bool) -> int:
    began = time.monotonic()
    built, unbuilt = await build_all(peers)
    if not any(peer.name == "ours" for peer in built):
        print("\nWithout our own peer there is nothing to compare with.")
        return 1
    print()
    total = sum(2 if peer.name != "ours" else 1 for peer in built) * len(cases)
    done = 0
    listed = defects.known()

    def show(result: matrix.Result) -> None:
        nonlocal done
        if result.outcome == "unbuilt":
            return
        done += 1
        word, _ = defects.verdict(result, listed)
        line = f"[{done:3}/{total}] {SIGNS[word]} {result.peer:9} {result.direction:10} {result.case:12}"
        print(f"{line} {result.seconds:5.1f} s  {result.evidence[:300]}", flush=True)
        if result.themselves:
            print(f"{'':13}two of {result.peer}: {result.themselves[:300]}", flush=True)

    results = await matrix.run(built, unbuilt, cases, jobs, show)
    report = Report(built, unbuilt, cases, results, listed, time.monotonic() - began)
    print_table(report)
    write(report, has_pages)
    bad = report.count("red") + report.count("unbuilt")
    print(
        f"{report.count('green')} green, {report.count('known')} known, {report.count('absent')} absent, "
        f"{report.count('red')} red, {report.count('unbuilt')} not built, in {report.seconds:.0f} s"
    )
    for defect in defects.stale(results, listed):
        print(f"known-defects.toml: {', '.join(defect.peers)} {', '.join(defect.cases)} is green now")
    return 1 if bad else 0


async def build_all(peers: list[Peer]) -> tuple[list[Peer], dict[str, str]]:
    """One after the other: their builds would only take the cores from each other."""
    built: list[Peer] = []
    unbuilt: dict[str, str] = {}
    for peer in peers:
        began = time.monotonic()
        try:
            await peer.build(lambda step: print(f"build {step}", flush=True))
        except BuildError as error:
            unbuilt[peer.name] = matrix.placeless(str(error))
            print(f"build {peer.name:9} FAILED: {error}", flush=True)
            continue
        built.append(peer)
        seconds = time.monotonic() - began
        print(f"built {peer.name:9} {peer.label}, {seconds:.0f} s", flush=True)
    return built, unbuilt


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
    """The data always; the page only of a whole run, since it is what the docs show."""
    (BUILD / "matrix.json").write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    if not has_pages:
        return
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / "matrix.json").write_text(json.dumps(report.data(), indent=1, ensure_ascii=False) + "\n")
    (PAGES / "README.md").write_text(report.page("matrix.svg"))
    (PAGES / "matrix.svg").write_text(svg(report))


if __name__ == "__main__":
    main()
