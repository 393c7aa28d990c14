"""A short run of generated addresses and configurations (`fuzz_inputs`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from testkit import fuzz_inputs

SOME = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("check", fuzz_inputs.CHECKS, ids=lambda check: check.__name__)
def test_inputs_are_accepted_or_refused_with_the_documented_error(check: Callable[[], None]) -> None:
    SOME(check)()
