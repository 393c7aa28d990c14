"""A run of `make fuzz` that tries nothing has not passed."""

from __future__ import annotations

import sys

import pytest

from tools.fuzz import __main__ as fuzz


@pytest.mark.slow
def test_a_target_that_tried_no_input_is_a_failure() -> None:
    outcome = fuzz.run("inputs", 0.0, None)
    assert not outcome.is_good
    assert not outcome.executions


def test_a_run_whose_targets_are_all_left_out_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz, "has_compiler", lambda: False)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--only", "peer"])
    with pytest.raises(SystemExit) as end:
        fuzz.main()
    assert end.value.code == 2
    assert "LEFT OUT: peer" in capsys.readouterr().out
