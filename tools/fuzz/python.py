"""Python's targets for a chosen time: the tests' own machines, with new choices every round.

    python -m fuzz.python words|verbs SECONDS

Guided by hypothesis, not by coverage: the code behind is Rust that does not count here. A
failure is printed with its steps and ends the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import random_words
from verbs_model import Verbs

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


def verbs() -> int:
    run_state_machine_as_test(Verbs, settings=some(ROUND))
    return ROUND


# A check takes its settings once.
CHECKS = [some(ROUND * 4)(check) for check in random_words.CHECKS]


def words() -> int:
    for check in CHECKS:
        check()
    return ROUND * 4 * len(CHECKS)


TARGETS: dict[str, Callable[[], int]] = {"verbs": verbs, "words": words}


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
