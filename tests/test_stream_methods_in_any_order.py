"""The binding's methods in random orders, against a model (`stream_model`).

A short run; `make fuzz` runs the same state machine for longer. hypothesis prints the steps of a failure,
which become a test of their own here.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from libp2p_quic._engine_errors import EngineError
from testkit.stream_model import StreamMethods


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
    run_state_machine_as_test(StreamMethods, settings=some(25))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_many_orders() -> None:
    run_state_machine_as_test(StreamMethods, settings=some(400))


class Forgetful(StreamMethods):
    """Ignores resets, which the state machine must detect."""

    def _settle(self) -> None:
        for end in self._ends():
            end.out.reset = None
            end.inward.reset = None
        super()._settle()


@pytest.mark.slow
def test_a_wrong_model_is_detected() -> None:
    # Nobody reads the steps. To make them few takes minutes beside a busy process.
    found_is_enough = settings(some(200), phases=[Phase.generate])
    # Detected by a comparison, or by an error that this model does not expect.
    with pytest.raises((AssertionError, EngineError, Flaky)):
        run_state_machine_as_test(Forgetful, settings=found_is_enough)
