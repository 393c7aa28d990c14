"""`make newcomer`: its second and third command, and its table. The first one needs a wheel and the index."""

from __future__ import annotations

from pathlib import Path

from testkit.command import COMMAND
from tools.newcomer import Step, table, transfer


def test_two_commands_in_two_terminals_measure_a_transfer(tmp_path: Path) -> None:
    listening, dialing = transfer(COMMAND, tmp_path, "--seconds", 0.5)
    assert listening.shown.startswith("/ip4/127.0.0.1/udp/")
    assert dialing.shown.startswith("up ")
    assert "bit/s" in dialing.shown
    assert listening.seconds > 0
    assert dialing.seconds > 0.5


def test_table_has_each_step_and_the_sum() -> None:
    steps = [Step(1, "one", 1.25, "Successfully installed"), Step(2, "two", 10.5, "/p2p/12D3KooWabc")]
    made = table(steps)
    assert "| 1 | 1 | `one` | 1.2 s | `Successfully installed` |" in made
    assert "`/p2p/12D3KooW…`" in made
    assert "2 commands and 12 s" in made
