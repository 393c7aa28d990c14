"""Programs that tests and tools start: what they print, and an order to one that has ended."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

import pytest

from testkit.census import PATIENCE
from testkit.far import far_host
from testkit.program import ProgramError, running
from tools.conformance import examples, suite


async def test_lines_that_are_no_json_objects_are_of_a_library_and_quoted_in_errors() -> None:
    """A number and a list are JSON, too."""
    printed = "print('a warning'); print(7); print('[1]'); print('{\"ok\": true}', flush=True)"
    async with running([sys.executable, "-c", f"{printed}; input()"]) as program:
        assert await program.line(lambda line: "ok" in line, PATIENCE, "answer") == {"ok": True}
        assert program.lines == [{"ok": True}]
        assert program.standard_error().endswith(": a warning | 7 | [1]")


async def test_a_line_to_a_program_that_has_ended_is_an_error_of_the_program() -> None:
    async with running([sys.executable, "-c", "import sys; sys.exit('no port is free')"]) as program:
        await program.process.wait()
        with pytest.raises(ProgramError, match=r"ended before 'dial'.*no port is free"):
            await program.say("dial")


async def test_a_command_to_a_far_host_that_has_ended_says_so() -> None:
    failure = ""
    async with far_host() as far:
        await far.kill()
        try:
            await far.do("census")
        except AssertionError as error:
            # The end of the far host would put it into a group.
            failure = str(error)
    assert failure.startswith("the far host ended before census")


def test_a_line_to_an_example_that_has_ended_is_an_error_of_the_example() -> None:
    command = [sys.executable, "-c", "print('no peer')"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.wait()
        program = examples._Program(process)
        with pytest.raises(examples.ProgramError, match="ended before 'message 1'"):
            program.say("message 1")
        # Its thread must not read while the block closes the output.
        program.end()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            # The line is still in its buffer.
            process.stdin.close()


def test_a_run_of_no_example_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["examples", "--only", "no-such-example"])
    monkeypatch.setattr(suite, "fetch", lambda: None)
    with pytest.raises(SystemExit) as end:
        examples.main()
    assert end.value.code == 2
