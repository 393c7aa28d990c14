"""The program behind `make mixtures`: many mixtures of what a network can do, one after another,
between the same two processes. Tells what it does, and a table in the end.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict

import trio

from interop.program import ProgramError
from peers.far import FarError
from peers.mixture import drawn, hosts, transfer

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # type: ignore[import-not-found, unused-ignore]


def failure(error: BaseException) -> str:
    """The first line of each reason, whatever groups trio wrapped them in."""
    inner = getattr(error, "exceptions", None)
    if inner is not None:
        return "; ".join(failure(each) for each in inner)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


async def run(first: int, count: int) -> int:
    seconds: dict[str, list[float]] = defaultdict(list)
    failed: dict[int, str] = {}
    moved = datagrams = lost = 0
    began = time.monotonic()
    seed = first
    while seed < first + count:
        # After a failure, two new processes: the next mixture must not pay for the last.
        try:
            async with hosts() as both:
                while seed < first + count:
                    network, size = drawn(seed)
                    done = await transfer(both, network, size)
                    moved += 2 * size
                    datagrams += done.count("came")
                    lost += done.count("came") - done.count("went") + done.count("duplicated")
                    for name in ("all", *network.conditions):
                        seconds[name].append(done.seconds)
                    clock = time.monotonic() - began
                    print(f"{clock:6.0f} s  seed {seed:5}  {done.seconds:6.2f} s  {network}", flush=True)
                    seed += 1
                left = await both.left()
                if any(left):
                    failed[seed - 1] = f"left behind: {left}"
        except (AssertionError, FarError, ProgramError, ExceptionGroup) as error:
            failed[seed] = failure(error)
            print(f"FAILED   seed {seed:5}  {drawn(seed)[0]}\n         {failed[seed]}", flush=True)
            seed += 1
    print(f"\n{'condition':<12}{'mixtures':>10}{'median':>10}{'longest':>10}")
    for name, times in sorted(seconds.items()):
        print(f"{name:<12}{len(times):>10}{statistics.median(times):>8.2f} s{max(times):>8.2f} s")
    print(f"{moved / 1e6:.0f} MB moved in {datagrams} datagrams, of which {lost} did not arrive.")
    print(f"{count - len(failed)} of {count} mixtures whole, {len(failed)} failed: {sorted(failed)}")
    return int(bool(failed))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mixtures", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many [100]")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow [0]")
    told = parser.parse_args()
    sys.exit(trio.run(run, told.seed, told.count))


if __name__ == "__main__":
    main()
