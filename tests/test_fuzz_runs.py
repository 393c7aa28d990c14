"""Runs of `make fuzz`: one that tries nothing has not passed, and targets that run at once are kept apart."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.fuzz import __main__ as fuzz
from tools.fuzz import targets

# The opening of a FIFO waits for the other end, so that each of the two needs the other at the same time.
MEETS = """
import pathlib, sys, time
fifo, mode, busy, *found = sys.argv[1:]
open(fifo, mode).close()
while time.process_time() < float(busy):
    pass
for path in found:
    pathlib.Path(path).write_text("")
print("Done 5 runs")
"""


@pytest.mark.slow
def test_a_target_that_tried_no_input_is_a_failure() -> None:
    outcome = fuzz.run("inputs", 0.0, None, fuzz.Progress())
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


def test_targets_run_at_once_and_each_has_its_own_finding_and_processor_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "finder").mkdir()
    crash = tmp_path / "finder" / "crash"
    arguments = {"idle": ["r", "0"], "finder": ["w", "1", str(crash)]}

    def command(target: str, _: float, __: Path | None) -> list[str]:
        return [sys.executable, "-c", MEETS, str(tmp_path / "fifo"), *arguments[target]]

    monkeypatch.setattr(targets, "FOUND", tmp_path)
    monkeypatch.setattr(fuzz, "command", command)
    idle, finder = fuzz.run_all(["idle", "finder"], 1.0, None, 2)
    assert (idle.target, finder.target) == ("idle", "finder")
    assert (idle.is_good, idle.found, idle.executions) == (True, (), 5)
    assert (finder.is_good, finder.found, finder.executions) == (False, (crash,), 5)
    assert idle.processor < 1 <= finder.processor
    assert "finder ended with 0. Its last output:\nDone 5 runs" in capsys.readouterr().out


def test_a_target_that_is_named_twice_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes would share its corpus and its findings."""
    chosen: list[str] = []

    def run_all(names: list[str], *_: object) -> list[targets.Outcome]:
        chosen.extend(names)
        return []

    monkeypatch.setattr(fuzz, "run_all", run_all)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--only", "methods,inputs,methods"])
    assert fuzz.main() == 0
    assert chosen == ["methods", "inputs"]
