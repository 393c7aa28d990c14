"""A stream that fails in `make soak SOAK="slow"` is a line of its report, and the other streams go on."""

from __future__ import annotations

import pytest

from testkit.far import far_host
from tools.soak import slow
from tools.soak.trial import Trial


@pytest.mark.slow
async def test_a_stream_that_fails_is_reported_with_its_cause() -> None:
    trial = Trial("slow readers", 1, "seconds")
    async with far_host() as listener, far_host() as dialer:
        await dialer.do("connect", address=listener.addresses[0])
        ours = await dialer.do("open", peer=listener.peer, protocol=slow.PARK)
        theirs = await listener.do("arrived")
        await dialer.do("reset", stream=ours, code=7)
        way = slow._Way(dialer, listener, ours, theirs, slow.READERS[0], 1)
        await slow._move(way, slow.Plan(1), trial)
    (failure,) = trial.failures
    assert "FarError: " in failure
