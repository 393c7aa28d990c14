"""`make soak`: arguments, progress, and the place of the page. The other long runs, with their own
arguments, are in `others`.

Exits with 0 if nothing grew and nothing failed, 1 otherwise, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import trio

from tools.soak import leaks, others, page, verdict
from tools.soak.run import Plan, Record, soak

_EPILOG = """\
Peers connect, exchange bytes and compare checksums, cancel, reset, dial unused ports, stop without a
close and are killed, while garbage arrives. Programs on asyncio and uvloop start, exchange, cancel and end
in other threads. Between the rounds, when all have ended, the processes are measured: memory, descriptors,
threads, tasks, and the engine's objects.

A run of ten minutes or more writes docs/reports/soak; a shorter one a temporary folder. The seed decides
the random choices, but not the timing: the same seed is the same mixture, not a replay.

Other long runs, one scenario each (make soak SOAK="dials --help"):
  dials      dials that are canceled at random moments leave nothing
  credit     a peer at the limit of its streams ends some, and may open as many others
  slow       readers slower than the writer, through a network that reorders
  relisten   hosts that alternate between listening and not

examples:
  make soak                                ten minutes, as for docs/reports/soak
  make soak SOAK="--minutes 2 --seed 7"    a shorter run of another mixture
  make soak SOAK="--minutes 60 --out /tmp/hour"
  make soak SOAK="dials --count 5000"      canceled dials, a short run"""


def minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    # Also false for a NaN.
    if not 0 < value < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes: write 10 or 0.5")
    return value


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.soak",
        description="Hosts start and stop for minutes and must leave nothing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=minutes, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random choices (default: 0)")
    parser.add_argument("--no-children", action="store_true", help="no peers in processes of their own")
    parser.add_argument("--out", type=Path, help="folder for page, picture and figures")
    # For the tests: leak in every round.
    parser.add_argument("--leak", choices=leaks.KINDS, default="", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


class Line:
    """The progress: a line that is overwritten on a terminal, else one line for each round."""

    def __init__(self) -> None:
        self._is_live = sys.stdout.isatty()
        self._measured = 0

    def __call__(self, clock: float, record: Record) -> None:
        if not self._is_live and len(record.samples) == self._measured:
            return
        self._measured = len(record.samples)
        done = record.done
        runs = sum(count for name, count in done.items() if name not in ("bytes", "garbage"))
        text = (
            f"{clock:5.0f} s of {record.plan.seconds:.0f}  {runs} runs, {done['bytes'] / 1e6:.0f} MB, "
            f"{done['child_killed']} killed, {done['garbage']} garbage, {len(record.failures)} failed"
        )
        if record.samples:
            usages = record.samples[-1].usages.values()
            text += "  " + " and ".join(
                f"{each['allocated'] / 2**20:.1f} MiB {each['descriptors']} fds {each['tasks']} tasks"
                for each in usages
            )
        print(f"\r\x1b[K{text}" if self._is_live else text, end="" if self._is_live else "\n", flush=True)


def folder(options: argparse.Namespace) -> Path:
    if options.out is not None:
        return Path(options.out)
    is_whole = options.minutes * 60 >= page.WHOLE and not options.no_children and not options.leak
    return page.PAGES if is_whole else Path(tempfile.mkdtemp(prefix="soak-"))


def main() -> int:
    if sys.argv[1:] and sys.argv[1] in others.NAMES:
        return others.main(sys.argv[1:])
    options = parsed()
    # py-libp2p logs every error, which this run causes on purpose.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    plan = Plan(options.minutes * 60, options.seed, not options.no_children, leak=options.leak)
    try:
        record = trio.run(soak, plan, Line())
    except KeyboardInterrupt:
        print("\nInterrupted; every process was ended, without a result.")
        return 130
    print(f"\n{verdict.table(record)}\n\npage: {page.write(record, folder(options))}")
    return 0 if verdict.is_good(record) else 1


if __name__ == "__main__":
    sys.exit(main())
