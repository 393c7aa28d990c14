"""The verdict of `make mixtures` on a whole run. The transfers themselves are in test_network."""

from __future__ import annotations

import pytest

from testkit.mixture import Transferred
from tools.mixtures import Outcomes


def outcomes(whole: int, ended: int, failed: int = 0) -> Outcomes:
    return Outcomes(
        {seed: Transferred(1.0, {}, 0.0) for seed in range(whole)},
        dict.fromkeys(range(ended), "idle timeout"),
        dict.fromkeys(range(failed), "a wrong byte"),
    )


@pytest.mark.parametrize(
    ("found", "is_good"),
    [
        (outcomes(100, 0), True),
        (outcomes(985, 15), True),
        (outcomes(90, 10), True),
        (outcomes(89, 11), False),
        (outcomes(99, 0, 1), False),
        # A transport that connects to nobody: each dial times out.
        (outcomes(0, 100), False),
        (outcomes(0, 0), False),
        # A seed that is run again.
        (outcomes(0, 1), True),
    ],
    ids=[
        "whole",
        "as measured",
        "a tenth",
        "more than a tenth",
        "a failure",
        "none whole",
        "nothing",
        "one seed",
    ],
)
def test_a_run_is_good_if_most_mixtures_were_whole_and_none_failed(found: Outcomes, is_good: bool) -> None:
    assert found.is_good is is_good
