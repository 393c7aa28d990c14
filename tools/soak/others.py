"""The long runs of one scenario each: `make soak SOAK="NAME --help"`. Arguments, the progress line and
the report; each scenario is in its own module.

Exits with 0 if all passed, 1 otherwise, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from tools.soak import credit, dials, relisten, slow
from tools.soak.trial import Trial, Watch

Run = Callable[[Watch], Awaitable[Trial]]

_DIALS = """\
Dials are canceled after 0 to 30 ms, many at once: at a host in a process of its own, at an unused port
(ICMP reports it), and at a socket that never answers. They use a listening socket, one for all dials, one
for each dial, the swarm of a host, and a name. Then the listener must accept a new peer within a second,
and on both sides descriptors, threads, tasks and the engine's objects must be as before, and allocated
memory within 2 MiB.

examples:
  make soak SOAK="dials"                      100 000 at each of the three; minutes
  make soak SOAK="dials --count 5000 --at-once 200"
"""
_CREDIT = """\
A peer opens 1 024 streams, its limit, and writes a byte on each. Then it ends 1, 2, 8 and 100 of them, by
closing or by resetting, and opens as many again, which may take a second and eight round trips. The peer
is a host of ours that dialed, one that listens, one 25 ms away, and one on py-libp2p's own transport.

examples:
  make soak SOAK="credit"                     25 rounds of each; minutes
  make soak SOAK="credit --rounds 5"
"""
_SLOW = """\
Two hosts in separate processes, and a network between them that delays, reorders and drops.
Ten streams on one connection, five each way, whose readers read 3 kB/s to 200 kB/s and pause, while their
writers write without pause, in blocks or ten bytes at a time. Checksums are compared.

examples:
  make soak SOAK="slow"                       ten minutes
  make soak SOAK="slow --seconds 30 --seed 7 --rough"
"""
_RELISTEN = """\
A transport listens, is dialed, closes its listener, and listens on the same port or another, while it
dials others and is dialed at any moment of the switch. Six connections of earlier rounds stay open and
transfer bytes. At the end every port is free, and nothing is left.

examples:
  make soak SOAK="relisten"                   5 000 rounds; minutes
  make soak SOAK="relisten --rounds 100 --seed 7"
"""

NAMES = ("dials", "credit", "slow", "relisten")


def whole(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 to 10 000 000")
    return int(text)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.soak")
    names = parser.add_subparsers(dest="name", required=True)

    def scenario(name: str, text: str) -> argparse.ArgumentParser:
        found = names.add_parser(name, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        found.add_argument("--seed", type=int, default=0, help="of the random choices (default: 0)")
        return found

    of_dials = scenario("dials", _DIALS)
    of_dials.add_argument("--count", type=whole, default=100_000, help="dials at each (default: 100000)")
    of_dials.add_argument("--at-once", type=whole, default=100, help="dials in flight (default: 100)")
    of_credit = scenario("credit", _CREDIT)
    of_credit.add_argument("--rounds", type=whole, default=25, help="of 1, 2, 8 and 100 (default: 25)")
    of_slow = scenario("slow", _SLOW)
    of_slow.add_argument("--seconds", type=whole, default=600, help="of reading (default: 600)")
    of_slow.add_argument(
        "--rough", action="store_true", help="reorder four times as much, and lose more than twice as much"
    )
    of_relisten = scenario("relisten", _RELISTEN)
    of_relisten.add_argument("--rounds", type=whole, default=5000, help="how many (default: 5000)")
    return parser.parse_args(arguments)


def runs(options: argparse.Namespace) -> Iterator[Run]:
    if options.name == "dials":
        for target in dials.TARGETS:
            yield partial(dials.dials, dials.Plan(target, options.count, options.seed, options.at_once))
    elif options.name == "credit":
        plans = (
            credit.Plan(rounds=options.rounds, seed=options.seed),
            credit.Plan(does_listener_open=True, rounds=options.rounds, seed=options.seed),
            credit.Plan(delay=0.025, rounds=options.rounds, seed=options.seed),
            # The stock transport takes seconds where others take milliseconds.
            credit.Plan(opener="stock", rounds=-(-options.rounds // 10), seed=options.seed),
        )
        yield from (partial(credit.credit, plan) for plan in plans)
    elif options.name == "slow":
        network = slow.ROUGH if options.rough else slow.NETWORK
        yield partial(slow.slow, slow.Plan(options.seconds, options.seed, network))
    else:
        yield partial(relisten.relisten, relisten.Plan(options.rounds, options.seed))


class Line:
    """The progress: a line that is overwritten on a terminal, else one line in ten seconds."""

    def __init__(self) -> None:
        self._is_live = sys.stdout.isatty()
        self._told = 0.0

    def __call__(self, trial: Trial) -> None:
        pause = 0.2 if self._is_live else 10.0
        if trial.seconds >= self._told + pause:
            self._told = trial.seconds
            print(f"\r\x1b[K{trial.line()}" if self._is_live else trial.line(), end=self._end, flush=True)

    @property
    def _end(self) -> str:
        return "" if self._is_live else "\n"

    def over(self) -> None:
        if self._is_live:
            print("\r\x1b[K", end="")


def main(arguments: list[str]) -> int:
    options = parsed(arguments)
    # py-libp2p logs every error, which this run causes on purpose.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    is_good = True
    for run in runs(options):
        line = Line()
        try:
            trial = trio.run(run, line)
        except KeyboardInterrupt:
            print("\nInterrupted; every process was ended, without a result.")
            return 130
        line.over()
        print(trial.report(), flush=True)
        is_good &= trial.is_good
    return 0 if is_good else 1
