"""`make mixtures`: transfers under many mixtures of network faults, in sequence between the same two
processes. Prints each result, and a table at the end.

A mixture is whole if every byte arrived in both directions. A mixture may end the connection: then both
hosts report a timeout, the bytes that arrived are right, and nothing leaks. Any other result is a
failure, and so is a run of which the network ends more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import trio

from testkit.far import FarError
from testkit.mixture import Ended, Transferred, drawn, hosts, transfer
from testkit.program import ProgramError

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # type: ignore[import-not-found, unused-ignore]

MOST_ENDED = 0.1
"""The share of mixtures that the network may end, and one in any case: a seed is run again alone.

Of 1 000 it ended 15: docs/reliability.md.
"""

PROMPT = 10
"""Seconds after which a CONNECTION_CLOSE counts as lost: far more than any round trip."""


def failure(error: BaseException) -> str:
    """The first line of each cause, also inside of trio's groups."""
    inner = getattr(error, "exceptions", None)
    if inner is not None:
        return "; ".join(failure(each) for each in inner)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@dataclass
class Outcomes:
    """The result of each mixture, by seed."""

    whole: dict[int, Transferred] = field(default_factory=dict)
    ended: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    async def transfer_all(self, todo: deque[int]) -> None:
        """Run mixtures between the same two hosts until one is not whole: that one must release its state
        by itself, and the next gets two new processes."""
        seed = todo[0]
        try:
            async with hosts() as both:
                try:
                    while todo:
                        seed = todo.popleft()
                        network, size = drawn(seed)
                        self.whole[seed] = done = await transfer(both, network, size)
                        print(f"seed {seed:5}  {done.seconds:6.2f} s  {network}", flush=True)
                except Ended as error:
                    self.ended[seed] = str(error)
                    print(f"ENDED    seed {seed:5}  {drawn(seed)[0]}\n         {error}", flush=True)
                left = await both.left()
                assert not any(left), f"left behind: {left}"
        except (AssertionError, FarError, ProgramError, ExceptionGroup) as error:
            self.failed[seed] = failure(error)
            print(f"FAILED   seed {seed:5}  {drawn(seed)[0]}\n         {self.failed[seed]}", flush=True)

    @property
    def is_good(self) -> bool:
        """Nothing failed, and most were whole: a transport that connects to nobody would end them all."""
        count = len(self.whole) + len(self.ended)
        return not self.failed and count > 0 and len(self.ended) <= max(1, MOST_ENDED * count)

    def table(self) -> str:
        seconds: dict[str, list[float]] = defaultdict(list)
        ends: Counter[str] = Counter()
        for seed, done in self.whole.items():
            for name in ("all", *drawn(seed)[0].conditions):
                seconds[name].append(done.seconds)
        for seed in self.ended:
            ends.update(("all", *drawn(seed)[0].conditions))
        lines = [f"{'condition':<12}{'whole':>8}{'median':>10}{'longest':>10}{'ended':>8}"]
        for name in sorted({*seconds, *ends}):
            times = seconds[name]
            took = (f"{each(times):.2f} s" if times else "-" for each in (statistics.median, max))
            lines.append(
                "".join([f"{name:<12}{len(times):>8}", *(f"{each:>10}" for each in took), f"{ends[name]:>8}"])
            )
        return "\n".join(lines)


async def run(first: int, count: int) -> int:
    outcomes = Outcomes()
    todo = deque(range(first, first + count))
    while todo:
        await outcomes.transfer_all(todo)
    whole = outcomes.whole.values()
    moved = sum(2 * drawn(seed)[1] for seed in outcomes.whole)
    datagrams = sum(done.count("came") for done in whole)
    lost = sum(done.count("came") - done.count("went") + done.count("duplicated") for done in whole)
    late = sum(done.parting > PROMPT for done in whole)
    print(f"\n{outcomes.table()}")
    print(f"{moved / 1e6:.0f} MB transferred in {datagrams} datagrams, of which {lost} were lost.")
    print(f"{late} CONNECTION_CLOSE were lost; the idle timeout ended these connections.")
    print(f"{len(outcomes.whole)} of {count} whole.")
    print(f"{len(outcomes.ended)} ended by the network, no wrong byte and no leak: {sorted(outcomes.ended)}")
    print(f"{len(outcomes.failed)} failed: {sorted(outcomes.failed)}")
    if len(outcomes.ended) > max(1, MOST_ENDED * count):
        print(f"More than {100 * MOST_ENDED:.0f} % ended: look for a defect of the transport.")
    return 0 if outcomes.is_good else 1


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mixtures", description=__doc__)
    parser.add_argument("--count", type=positive, default=100, help="how many [100]")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow [0]")
    options = parser.parse_args()
    sys.exit(trio.run(run, options.seed, options.count))


if __name__ == "__main__":
    main()
