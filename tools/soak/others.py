"""The long forms of one scenario each: `make soak SOAK="NAME --help"`. Arguments, the progress line
and the report; what happens is in the module of each.

Exit status: 0 when all passed, 1 otherwise, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import trio

from soak import credit, dials, relisten, slow
from soak.trial import Trial, Watch

Run = Callable[[Watch], Awaitable[Trial]]

_DIALS = """\
Dials are canceled after 0 to 30 ms, many at once: at a host in a process of its own, at a port that
nobody listens on (ICMP says so), and at a socket that never answers. They leave from a listening
socket, from one that is kept for dials, from one made for each, through the swarm of a host, and
to a name. Then: the listener serves a new peer within a second, and descriptors, threads, tasks
and what the engines hold are as before on both sides, what is allocated within 2 MiB.

examples:
  make soak SOAK="dials"                      100 000 at each of the three; minutes
  make soak SOAK="dials --count 5000 --at-once 200"
"""
_CREDIT = """\
A peer opens 1 024 streams, as many as it may, writes a byte on each and neither reads nor ends
them. Then it ends 1, 2, 8 and 100 of them, by closing or by resetting, and opens as many others,
which may take a second and eight round trips; again and again. The peer is a host of ours that
dialed, one that listens, one 25 ms away, and one on py-libp2p's own transport.

examples:
  make soak SOAK="credit"                     25 rounds of each; minutes
  make soak SOAK="credit --rounds 5"
"""
_SLOW = """\
Two hosts in processes of their own, and between them a network that delays, reorders and loses.
Ten streams on one connection, five each way, whose readers take from 3 kB/s to 200 kB/s and pause,
while their writers write all they may, in blocks or ten bytes at a time. Checksums are compared.

examples:
  make soak SOAK="slow"                       ten minutes
  make soak SOAK="slow --seconds 30 --seed 7 --rough"
"""
_RELISTEN = """\
A transport listens, is dialed, closes its listener, and listens on the same port or on another,
while it dials others and dials of others meet the switch at any moment. Six connections of earlier
rounds live on and move bytes. In the end every port is free, and nothing is left.

examples:
  make soak SOAK="relisten"                   5 000 rounds; minutes
  make soak SOAK="relisten --rounds 100 --seed 7"
"""

NAMES = ("dials", "credit", "slow", "relisten")


def whole(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 to 10 000 000")
    return int(text)


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak")
    names = parser.add_subparsers(dest="name", required=True)

    def scenario(name: str, text: str) -> argparse.ArgumentParser:
        found = names.add_parser(name, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        found.add_argument("--seed", type=int, default=0, help="of the dice (default: 0)")
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
    return parser.parse_args(words)


def runs(told: argparse.Namespace) -> Iterator[Run]:
    if told.name == "dials":
        for target in dials.TARGETS:
            yield partial(dials.dials, dials.Plan(target, told.count, told.seed, told.at_once))
    elif told.name == "credit":
        plans = (
            credit.Plan(rounds=told.rounds, seed=told.seed),
            credit.Plan(does_listener_open=True, rounds=told.rounds, seed=told.seed),
            credit.Plan(delay=0.025, rounds=told.rounds, seed=told.seed),
            # It needs seconds for what others need milliseconds for.
            credit.Plan(opener="stock", rounds=-(-told.rounds // 10), seed=told.seed),
        )
        yield from (partial(credit.credit, plan) for plan in plans)
    elif told.name == "slow":
        network = slow.ROUGH if told.rough else slow.NETWORK
        yield partial(slow.slow, slow.Plan(told.seconds, told.seed, network))
    else:
        yield partial(relisten.relisten, relisten.Plan(told.rounds, told.seed))


class Line:
    """One line that is drawn over itself on a terminal, and one in ten seconds elsewhere."""

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


def main(words: list[str]) -> int:
    told = parsed(words)
    # py-libp2p reports at length what is done here on purpose.
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)
    is_good = True
    for run in runs(told):
        line = Line()
        try:
            trial = trio.run(run, line)
        except KeyboardInterrupt:
            print("\nInterrupted; every process was ended, and nothing was judged.")
            return 130
        line.over()
        print(trial.report(), flush=True)
        is_good &= trial.is_good
    return 0 if is_good else 1
