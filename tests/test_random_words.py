"""Addresses and configurations that nobody would write (`random_words`): a short run of each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

import random_words

SOME = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("check", random_words.CHECKS, ids=lambda check: check.__name__)
def test_taken_or_refused(check: Callable[[], None]) -> None:
    SOME(check)()
