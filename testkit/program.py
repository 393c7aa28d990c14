"""Runs the program of a peer: reads its lines of JSON, enforces its time limit, always ends it.

Only this module starts processes of peers. Each is killed on exit from its block; its standard error is kept
for the report.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import trio

Line = dict[str, Any]

_ROOT = Path(__file__).parent.parent

_MAX_QUOTED = 600
"""Characters of a program's standard error that a report quotes."""


class ProgramError(Exception):
    """A program ended, or printed nothing in time."""


class Program:
    """One process. Lines are kept, so that a late reader misses none."""

    def __init__(self, process: trio.Process, errors: IO[bytes], name: str) -> None:
        self.process = process
        self.lines: list[Line] = []
        self._errors = errors
        self._name = name
        self._news = trio.Event()
        self._has_ended = False

    async def listen_to_it(self) -> None:
        assert self.process.stdout is not None
        unread = b""
        try:
            async for chunk in self.process.stdout:
                *lines, unread = (unread + chunk).split(b"\n")
                for line in lines:
                    self._note(line)
        except trio.ClosedResourceError:
            # Its block was exited.
            return
        self._has_ended = True
        self._wake()

    def _note(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            # Output of a library is no failure; the line goes to the program's standard error. It is written
            # without a buffer, so that a report that is made now has it.
            os.write(self._errors.fileno(), line + b"\n")
            return
        self.lines.append(said)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def line(self, wanted: Callable[[Line], bool], limit: float, what: str) -> Line:
        """The first line that is ``wanted``. Raises ProgramError after ``limit`` seconds, or when the
        program ends before it."""
        seen = 0
        with trio.move_on_after(limit):
            while True:
                for line in self.lines[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.lines)
                if self._has_ended:
                    raise ProgramError(f"{self._name} ended without {what}{self.standard_error()}")
                await self._news.wait()
        raise ProgramError(f"{self._name}: no {what} within {limit:.0f} s{self.standard_error()}")

    async def ended(self, limit: float) -> None:
        """Wait at most ``limit`` seconds until it ends by itself."""
        with trio.move_on_after(limit):
            await self.process.wait()

    async def say(self, line: str) -> None:
        """Write a line to its standard input. Raises ProgramError if the program has ended."""
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(line.encode() + b"\n")
        except trio.BrokenResourceError as error:
            raise ProgramError(f"{self._name} ended before {line!r}{self.standard_error()}") from error

    async def end_input(self) -> None:
        """Close its standard input, which asks it to end by itself."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    @property
    def is_running(self) -> bool:
        return not self._has_ended

    async def kill(self) -> None:
        """SIGKILL for it and its children, so that its connections are not closed."""
        kill_group(self.process)
        await self.process.wait()

    def standard_error(self) -> str:
        # The descriptor is the child's too: only pread leaves its position alone.
        size = os.fstat(self._errors.fileno()).st_size
        start = max(0, size - _MAX_QUOTED)
        tail = os.pread(self._errors.fileno(), _MAX_QUOTED, start)
        text = " | ".join(tail.decode(errors="replace").split("\n")).strip(" |")
        return f"; its standard error: {text}" if text else ""


@asynccontextmanager
async def running(command: list[str]) -> AsyncIterator[Program]:
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=_ROOT,
            start_new_session=True,
        )
        program = Program(process, errors, os.path.basename(command[0]))
        try:
            # A nursery here would wrap whatever the block raises.
            trio.lowlevel.spawn_system_task(program.listen_to_it)
            yield program
        finally:
            with trio.CancelScope(shield=True):
                await program.kill()
                for pipe in (process.stdin, process.stdout):
                    assert pipe is not None
                    await trio.aclose_forcefully(pipe)


def kill_group(process: trio.Process) -> None:
    """SIGKILL for a process that leads a session, and for its children."""
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # It has ended by itself.
            return


async def answer_of(command: list[str], limit: float) -> Line:
    """The only line that a program prints before it ends."""
    async with running(command) as program:
        return await program.line(bool, limit, "answer")
