"""Commands that take minutes, as groups of processes: one that is interrupted or takes too long is ended with
all of its descendants, which otherwise go on compiling.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TOLD_EVERY = 60.0
"""Seconds between two reports of a command that goes on."""


def end(process: subprocess.Popen[Any]) -> None:
    """End a process that was started in a session of its own, and all of its descendants in that session."""
    if process.poll() is None:
        # It may end by itself in between.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def interrupt_when_ended() -> None:
    """Let SIGTERM and SIGHUP interrupt this program as Ctrl-C does, so that it ends what it has started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # nohup has SIGHUP ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_logged(
    command: list[str],
    log: Path,
    seconds: float,
    tell: Callable[[str], None],
    cwd: Path,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command whose output is appended to `log`, and tell the last line of it every minute.

    `subprocess.CalledProcessError` if it fails, `subprocess.TimeoutExpired` if it was ended after `seconds`.
    """
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while True:
            left = began + seconds - time.monotonic()
            try:
                status = process.wait(min(max(left, 0), TOLD_EVERY))
                break
            except subprocess.TimeoutExpired:
                if left <= TOLD_EVERY:
                    raise subprocess.TimeoutExpired(command[0], seconds) from None
                tell(last_line(log))
    finally:
        end(process)
    if status:
        raise subprocess.CalledProcessError(status, command)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no output yet")
