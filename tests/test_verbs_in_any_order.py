"""The binding's verbs in orders that nobody thought of, against a model (`verbs_model`).

A short run; `make fuzz` runs the same machine for longer. hypothesis prints the steps of a
failure: they are kept here as a test of their own.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from verbs_model import Verbs


def some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def test_a_few_orders() -> None:
    run_state_machine_as_test(Verbs, settings=some(25))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_orders() -> None:
    run_state_machine_as_test(Verbs, settings=some(400))


class Forgetful(Verbs):
    """Believes that a reset never happened: what the machine must notice."""

    def _settle(self) -> None:
        for end in self._ends():
            end.out.reset = None
            end.inward.reset = None
        super()._settle()


@pytest.mark.slow
def test_a_wrong_model_is_noticed() -> None:
    with pytest.raises((AssertionError, Flaky)):
        run_state_machine_as_test(Forgetful, settings=some(200))
