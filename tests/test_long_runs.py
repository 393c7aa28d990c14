"""The short forms of `make soak SOAK="dials"`, `credit`, `slow` and `relisten`: faults for which other
projects disabled QUIC. Canceling other operations is in `test_cancellation`.
"""

from __future__ import annotations

import pytest

from tools.soak import credit, dials, others, relisten, slow
from tools.soak.trial import Trial, grown


def no_progress(trial: Trial) -> None:
    """A progress callback that prints nothing."""


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("target", dials.TARGETS)
async def test_dials_canceled_at_random_moments_leave_nothing(target: str) -> None:
    trial = await dials.dials(dials.Plan(target, 3000), no_progress)
    assert trial.is_good, trial.report()
    assert trial.counts["canceled"] > 2000, trial.report()


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    "plan",
    [
        credit.Plan(rounds=2),
        credit.Plan(does_listener_open=True, rounds=2),
        credit.Plan(delay=0.025, rounds=2),
        credit.Plan(opener="stock", rounds=1),
    ],
    ids=str,
)
async def test_a_peer_at_its_limit_may_open_as_many_streams_as_it_ended(plan: credit.Plan) -> None:
    trial = await credit.credit(plan, no_progress)
    assert trial.is_good, trial.report()


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_readers_slower_than_the_writer_get_every_byte_in_order() -> None:
    trial = await slow.slow(slow.Plan(6, network=slow.ROUGH), no_progress)
    assert trial.is_good, trial.report()


@pytest.mark.slow
async def test_a_host_that_alternates_between_listening_and_not_leaves_nothing() -> None:
    trial = await relisten.relisten(relisten.Plan(100), no_progress)
    assert trial.is_good, trial.report()
    assert trial.counts["listened on a port again"] > 20, trial.report()
    assert trial.counts["connected at a switch"] > 0, trial.report()


def measured(**more: int) -> dict[str, dict[str, int]]:
    return {"home": {"descriptors": 8, "connections": 0, "allocated": 1 << 20, "objects": 100_000} | more}


@pytest.mark.parametrize(
    ("more", "is_detected"),
    [
        ({}, False),
        ({"descriptors": 7, "allocated": 3 << 20, "objects": 108_000}, False),
        ({"descriptors": 9}, True),
        ({"connections": 1}, True),
        ({"allocated": (3 << 20) + 1}, True),
        ({"objects": 109_000}, True),
    ],
    ids=str,
)
def test_a_leak_is_detected(more: dict[str, int], is_detected: bool) -> None:
    assert bool(grown(measured(), measured(**more))) == is_detected


def test_a_run_that_failed_or_did_not_end_has_not_passed() -> None:
    good = Trial("dials", 2, "dials", done=2)
    assert good.is_good
    assert "passed" in good.report()
    bad = Trial("dials", 2, "dials", done=2, failures=["a descriptor is left"])
    assert not bad.is_good
    assert "FAILED  a descriptor is left" in bad.report()
    assert not Trial("dials", 2, "dials", done=1).is_good


@pytest.mark.parametrize("arguments", [[name, "--help"] for name in others.NAMES], ids=others.NAMES)
def test_each_run_has_a_help_text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        others.parsed(arguments)
    assert end.value.code == 0
    assert f'make soak SOAK="{arguments[0]}"' in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1e3"])
def test_a_wrong_number_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit):
        others.parsed(["dials", "--count", wrong])
