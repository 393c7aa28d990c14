"""Runs Python's targets for a given time: the tests' state machines, with new choices every round.

    python -m tools.fuzz.python inputs|methods SECONDS

Guided by hypothesis, not by coverage, because the tested code is Rust without counters. A failure is
printed with its steps and ends the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from testkit import fuzz_inputs
from testkit.stream_model import StreamMethods

ROUND = 50


def some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def methods() -> int:
    run_state_machine_as_test(StreamMethods, settings=some(ROUND))
    return ROUND


# Settings can be applied to a check only once.
CHECKS = [some(ROUND * 4)(check) for check in fuzz_inputs.CHECKS]


def inputs() -> int:
    for check in CHECKS:
        check()
    return ROUND * 4 * len(CHECKS)


TARGETS: dict[str, Callable[[], int]] = {"methods": methods, "inputs": inputs}


def main() -> int:
    target, seconds = sys.argv[1:]
    until, done = time.monotonic() + float(seconds), 0
    while time.monotonic() < until:
        done += TARGETS[target]()
        print(f"#{done} examples", flush=True)
    print(f"Done {done} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
