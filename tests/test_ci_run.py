"""`.ci/run`: how its steps end it, and what it says then. Its programs are stubs here, which print how they
were called."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from testkit.census import PATIENCE

ROOT = Path(__file__).parent.parent
STUB = """#!/bin/sh
called="${0##*/} $*"
echo "$called"
case "$called" in
    $FAILS) exit 3 ;;
    $BLOCKS) exec cat "$FIFO" ;;
    rustc*) echo "host: here" ;;
esac
"""


def started(
    folder: Path, fails: str = "", blocks: str = "", inherited: tuple[int, ...] = ()
) -> subprocess.Popen[str]:
    """A run whose calls that match the pattern ``fails`` fail, and do not end if they match ``blocks``."""
    script = folder / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(ROOT / ".ci" / "run", script)
    programs = folder / "programs"
    programs.mkdir()
    for name in ("make", "cargo", "rustc"):
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    os.mkfifo(folder / "fifo")
    places = {"PATH": f"{programs}:{os.environ['PATH']}", "FIFO": str(folder / "fifo"), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [script],
        env={**os.environ, **places, "FAILS": fails, "BLOCKS": blocks},
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=inherited,
        start_new_session=True,
    )


def test_a_run_whose_steps_pass_has_called_each_once(tmp_path: Path) -> None:
    run = started(tmp_path)
    told, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0
    called = [line.split()[1] for line in told.splitlines() if line.startswith("make ")]
    steps = ["setup", "build", "lint-rust", "lint-python", "test", "interop-ci", "demo", "fuzz", "sdist"]
    assert called == steps
    assert "cargo fetch --quiet --locked --target here --manifest-path tools/fuzz/Cargo.toml\n" in told
    assert told.splitlines()[-1].startswith("CI passed in ")


@pytest.mark.parametrize(
    ("fails", "last"),
    [
        ("cargo fetch *", "cargo"),
        ("make lint-rust", "make lint-python"),
        ("make lint-python", "make lint-python"),
        ("make test", "make test"),
        ("make sdist", "make sdist"),
    ],
)
def test_a_step_that_fails_ends_the_run_with_its_status(tmp_path: Path, fails: str, last: str) -> None:
    """Of two steps at the same time the other one comes to its end."""
    run = started(tmp_path, fails)
    told, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 3
    lines = [line for line in told.splitlines() if " ended with status " not in line]
    assert [line for line in lines if line.startswith(("make ", "cargo "))][-1].startswith(last)
    assert "CI passed" not in told
    assert "(status 3)" in told.splitlines()[-1]


@pytest.mark.parametrize(("blocks", "call"), [("make test", "make test"), ("make lint-*", "make lint-rust")])
def test_an_interrupted_run_has_not_passed_and_leaves_no_process(
    tmp_path: Path, blocks: str, call: str
) -> None:
    held, inherited = os.pipe()
    with started(tmp_path, blocks=blocks, inherited=(inherited,)) as run:
        os.close(inherited)
        assert run.stdout is not None
        while run.stdout.readline() != f"{call}\n":
            assert run.poll() is None
        # As Ctrl-C in a terminal.
        os.killpg(run.pid, signal.SIGINT)
        told = run.stdout.read()
        assert run.wait(PATIENCE) == 130
    assert "CI passed" not in told
    assert "(status 130)" in told.splitlines()[-1]
    # The end of the pipe: no process has it any more.
    ready, _, _ = select.select([held], [], [], PATIENCE)
    os.close(held)
    assert ready
