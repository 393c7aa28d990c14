"""`make nat`: which peers reach each other directly, behind which routers, and how fast.

Exit status: 0 when every cell is as expected or known, 1 otherwise, 2 for wrong arguments, 3 where the
laboratory cannot run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import trio

from tools.interop.__main__ import build_all
from tools.interop.peer import load
from tools.nat.network import ROUTER_KINDS, LaboratoryError, missing
from tools.nat.picture import svg
from tools.nat.report import PAGES, WHOLE, Report, Result
from tools.nat.trial import Cell, Outcome, attempted, has_captures

# Pairs of routers, and what is special about the path; what go-libp2p would punch comes first.
PLACES: tuple[Cell, ...] = (
    Cell("", "", "", ("drop", "drop")),
    Cell("", "", "", ("forwarded", "symmetric")),
    Cell("", "", "", ("symmetric", "forwarded")),
    Cell("", "", "", ("hairpin", "hairpin"), is_shared=True),
    Cell("", "", "", ("firewall", "firewall")),
    Cell("", "", "", ("firewall6", "firewall6")),
    Cell("", "", "", ("drop", "drop"), delay=30, loss=2),
    Cell("", "", "", ("drop", "drop"), delay=80, loss=2),
    Cell("", "", "", ("drop", "drop"), delay=150, loss=2),
    Cell("", "", "", ("short", "short")),
    Cell("", "", "", ("accept", "accept")),
    Cell("", "", "", ("symmetric", "symmetric")),
)
PEERS = ("ours", "go", "rust")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.nat", description=__doc__.split("\n")[0])
    parser.add_argument("--peers", default="", help=f"names, with commas; default: {','.join(PEERS)}")
    parser.add_argument("--relays", default="", help="names, with commas; default: all peers")
    parser.add_argument("--routers", default="", help=f"kinds, with commas: {','.join(ROUTER_KINDS)}")
    parser.add_argument("--delays", default="", help="one way, milliseconds, with commas; default: all")
    parser.add_argument("--tries", type=int, default=WHOLE, help="for each cell (default: %(default)s)")
    parser.add_argument("--stock", action="store_true", help="py-libp2p's own transport as a home, too")
    parser.add_argument("--add", action="store_true", help="keep the other cells of the last run")
    parser.add_argument("--note", default="", help="a sentence of the page about this run")
    parser.add_argument("--pages", action="store_true", help="write the page even of a part")
    parser.add_argument("--judge", action="store_true", help="run nothing: evaluate the last run again")
    told = parser.parse_args()
    last = Report.read() if told.judge or told.add else Report()
    if told.judge:
        sys.exit(shown(last, told.pages))
    if (why := missing()) is not None:
        print(f"make nat cannot run here: {why}")
        sys.exit(3)
    peers = names(told.peers, PEERS, parser)
    relays = names(told.relays, peers, parser)
    kinds = set(names(told.routers, tuple(ROUTER_KINDS), parser))
    delays = {int(each) for each in told.delays.split(",") if each}
    foreign = sorted({*peers, *relays} & {"go", "rust"})
    if foreign:
        built, failures = trio.run(build_all, load(foreign), float("inf"))
        if any(name in failures for name in foreign):
            sys.exit(1)
        last.peers = sorted({*last.peers, *(each.label for each in built)})
    if not has_captures():
        print("no captures of failed tries: tcpdump is missing: apt-get install tcpdump")
    has_pages = told.pages or not (told.peers or told.relays or told.routers or told.delays)
    chosen = [
        each
        for each in cells(peers, relays, told.stock)
        if kinds.issuperset(each.routers) and (not delays or each.delay in delays)
    ]
    run(chosen, told.tries, last, told.note)
    sys.exit(shown(last, has_pages))


def shown(report: Report, has_pages: bool) -> int:
    """Print a run, and write its page; returns 1 if a cell is not as expected, or is slower."""
    print(report.table())
    if has_pages:
        PAGES.mkdir(parents=True, exist_ok=True)
        (PAGES / "README.md").write_text(report.page("nat.svg"))
        (PAGES / "nat.svg").write_text(svg(report))
        (PAGES / "nat.json").write_text(json.dumps(report.data(), indent=1) + "\n")
        print(f"written: {PAGES}")
    return 1 if report.unexpected() or report.slow() else 0


def names(told: str, known: tuple[str, ...], parser: argparse.ArgumentParser) -> tuple[str, ...]:
    chosen = tuple(each for each in told.split(",") if each)
    for each in chosen:
        if each not in {*known, *PEERS}:
            parser.error(f"{each!r} is none of {', '.join(known)}")
    return chosen or known


def cells(peers: tuple[str, ...], relays: tuple[str, ...], has_stock: bool) -> list[Cell]:
    """Every pair with ours through every relay, go with go too, as the reference, and rust with rust
    through its own."""
    found = []
    for place in PLACES:
        for listener in peers:
            for dialer in peers:
                pair = (listener, dialer)
                if "ours" in pair or pair == ("go", "go"):
                    among = relays
                else:
                    among = (listener,) if listener == dialer else ()
                found += [replace(place, listener=listener, dialer=dialer, relay=each) for each in among]
        if has_stock and place.routers == ("drop", "drop") and not place.path:
            pairs = (("stock", "ours"), ("ours", "stock"))
            found += [replace(place, listener=each, dialer=other, relay="ours") for each, other in pairs]
    return found


def run(chosen: list[Cell], tries: int, report: Report, note: str = "") -> None:
    began, this = time.monotonic(), report.begin(note)
    for number, cell in enumerate(chosen, 1):
        result = Result(cell)
        for attempt in range(1, tries + 1):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    outcome = attempted(cell, Path(folder), seed=attempt)
                except LaboratoryError as error:
                    if number == attempt == 1:
                        print(f"make nat cannot run here: {error}")
                        sys.exit(3)
                    # It has run here: one network that the system refuses does not end a run of hours.
                    outcome = Outcome(error=str(error))
                kept = result.add(outcome, Path(folder))
            if sys.stdout.isatty() or kept:
                captures = f"; captures in {kept}" if kept else ""
                print(f"{'':10}{attempt:3} {cell}: {outcome.told}{captures}", flush=True)
        report.add(result)
        print(f"[{number:3}/{len(chosen)}] {report.sign(result)} {cell}: {result.told}", flush=True)
        this.seconds = time.monotonic() - began
        this.note_load()
        # After each cell: an interrupted run has told something too.
        report.write()


if __name__ == "__main__":
    main()
