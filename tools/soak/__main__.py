"""`make soak`: arguments, progress, and where the page goes. Nothing is judged here. The other
long forms, each with its own words, are in `others`.

Exit status: 0 when nothing grew and nothing failed, 1 otherwise, 2 for wrong arguments, 130
after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import trio

from soak import others, page, plant, verdict
from soak.run import Plan, Record, soak

_EPILOG = """\
Guests connect, exchange bytes and compare checksums, give up in the middle, reset, dial nobody,
vanish and are killed, while garbage arrives. Between the rounds, when everything is gone, the
processes are weighed: memory, descriptors, threads, tasks, and what the engine holds.

A run of ten minutes or more writes docs/reports/soak; a shorter one a temporary folder. The dice are the
seed's, but what happens at the same time is not: a seed is a mixture, not a replay.

Other long runs, one scenario each (make soak SOAK="dials --help"):
  dials      dials that are canceled at random moments leave nothing
  credit     a peer at the limit of its streams ends some, and may open as many others
  slow       readers slower than the writer, through a network that reorders
  relisten   hosts that alternate between listening and not

examples:
  make soak                                ten minutes, as for docs/reports/soak
  make soak SOAK="--minutes 2 --seed 7"    a shorter look at another mixture
  make soak SOAK="--minutes 60 --out /tmp/hour"
  make soak SOAK="dials --count 5000"      canceled dials, a short look"""


def minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    # Also false for a NaN.
    if not 0 < value < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: say 10 or 0.5")
    return value


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description="Hosts come and go for minutes; in the end nothing may be left of them.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=minutes, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the dice (default: 0)")
    parser.add_argument("--no-children", action="store_true", help="nobody in processes of their own")
    parser.add_argument("--out", type=Path, help="folder for page, picture and figures")
    # For the tests: leave something behind in every round.
    parser.add_argument("--plant", choices=plant.KINDS, default="", help=argparse.SUPPRESS)
    return parser.parse_args(words)


class Line:
    """One line that is drawn over itself on a terminal, and one a round elsewhere."""

    def __init__(self) -> None:
        self._is_live = sys.stdout.isatty()
        self._weighed = 0

    def __call__(self, clock: float, record: Record) -> None:
        if not self._is_live and len(record.samples) == self._weighed:
            return
        self._weighed = len(record.samples)
        done = record.done
        lives = sum(count for name, count in done.items() if name not in ("bytes", "garbage"))
        said = (
            f"{clock:5.0f} s of {record.plan.seconds:.0f}  {lives} lives, {done['bytes'] / 1e6:.0f} MB, "
            f"{done['child_killed']} killed, {done['garbage']} garbage, {len(record.failures)} failed"
        )
        if record.samples:
            weights = record.samples[-1].weights.values()
            said += "  " + " and ".join(
                f"{each['allocated'] / 2**20:.1f} MiB {each['descriptors']} fds {each['tasks']} tasks"
                for each in weights
            )
        print(f"\r\x1b[K{said}" if self._is_live else said, end="" if self._is_live else "\n", flush=True)


def folder(told: argparse.Namespace) -> Path:
    if told.out is not None:
        return Path(told.out)
    is_whole = told.minutes * 60 >= page.WHOLE and not told.no_children and not told.plant
    return page.PAGES if is_whole else Path(tempfile.mkdtemp(prefix="soak-"))


def main() -> int:
    if sys.argv[1:] and sys.argv[1] in others.NAMES:
        return others.main(sys.argv[1:])
    told = parsed()
    # py-libp2p reports at length what is done here on purpose.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    plan = Plan(told.minutes * 60, told.seed, not told.no_children, leak=told.plant)
    try:
        record = trio.run(soak, plan, Line())
    except KeyboardInterrupt:
        print("\nInterrupted; every process was ended, and nothing was judged.")
        return 130
    print(f"\n{verdict.table(record)}\n\npage: {page.write(record, folder(told))}")
    return 0 if verdict.is_good(record) else 1


if __name__ == "__main__":
    sys.exit(main())
