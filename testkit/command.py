"""Runs the command `libp2p-quic` in processes of its own: with pipes, or in a pseudo-terminal."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from testkit.asyncio_ends import LOOPBACK
from testkit.census import PATIENCE

COMMAND = [sys.executable, "-m", "libp2p_quic"]
# Starting processes takes long on a machine with other work: three times the usual limit. Seconds.
_LIMIT = 3 * PATIENCE
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9])")


def finished(*arguments: object, status: int = 0, cwd: Path | None = None, given: bytes = b"") -> str:
    """What the command prints on standard output, in a pipe."""
    done = ended(*arguments, cwd=cwd, given=given)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout.decode()


def ended(
    *arguments: object,
    cwd: Path | None = None,
    given: bytes = b"",
    env: dict[str, str] | None = None,
    redirection: str = "",
) -> subprocess.CompletedProcess[bytes]:
    """``redirection`` is bash's, as `>&-` for a closed standard output."""
    command = [*COMMAND, *map(str, arguments)]
    if redirection:
        command = ["bash", "-c", f'exec "$@" {redirection}', "-", *command]
    environment = None if env is None else {**os.environ, **env}
    return subprocess.run(
        command, cwd=cwd, input=given, capture_output=True, timeout=100, check=False, env=environment
    )


def events(text: str) -> list[dict[str, Any]]:
    """The JSON objects of the lines of ``text``."""
    return [json.loads(line) for line in text.splitlines()]


class Process:
    """A command that runs, with pipes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """The next line of standard output; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def event(self, name: str) -> dict[str, Any]:
        """The next JSON object of that name."""
        while line := self.line():
            found: dict[str, Any] = json.loads(line)
            if found["event"] == name:
                return found
        raise AssertionError(f"ended without {name}: {self.errors()}")

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def leave(self) -> None:
        """Stop reading standard output, as `head` does."""
        assert self.process.stdout is not None
        self.process.stdout.close()

    def status(self) -> int:
        """Wait until it ends by itself. Returns the exit status."""
        return self.process.wait(_LIMIT)

    def end(self) -> str:
        """Wait until it ends by itself. Returns the rest of standard output."""
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        self.process.wait(_LIMIT)
        return rest

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def running(*arguments: object, cwd: Path | None = None) -> Iterator[Process]:
    """The command with pipes, ended with the block."""
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Process(process)
        finally:
            process.kill()


class Pipe:
    """A standard output that takes nothing any more after `fill`, as a file on a full disk."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        # A full pipe must be an error, and not a pause.
        os.set_blocking(self.writing, False)
        self._lines = os.fdopen(reading)

    def line(self) -> str:
        return self._lines.readline()

    def fill(self) -> None:
        for size in (select.PIPE_BUF, 1):
            with suppress(BlockingIOError):
                while True:
                    os.write(self.writing, bytes(size))

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.writing)
        self._lines.close()


@contextmanager
def filling(*arguments: object, cwd: Path | None = None) -> Iterator[tuple[Process, Pipe]]:
    """The command with a `Pipe` as standard output, ended with the block."""
    command = [*COMMAND, *map(str, arguments)]
    with (
        Pipe() as pipe,
        subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=pipe.writing, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            yield Process(process), pipe
        finally:
            process.kill()


class Terminal:
    """A command that runs in a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        # A read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.raw = ""

    @property
    def screen(self) -> str:
        """Everything it has printed, without escape sequences."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def until(self, pattern: str) -> re.Match[str]:
        """Read until the screen has a match."""
        deadline = time.monotonic() + _LIMIT
        while (found := re.search(pattern, self.screen)) is None:
            left = deadline - time.monotonic()
            assert left > 0, f"no {pattern!r} on the screen:\n{self.screen}"
            if select.select([self._descriptor], [], [], left)[0] and not self._read():
                raise AssertionError(f"ended without {pattern!r}:\n{self.screen}")
        return found

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:
            # EIO: the other end of a pseudo-terminal is closed.
            return False
        self.raw += self._decoder.decode(data)
        return bool(data)

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def end(self) -> int:
        """Read until it ends. Returns the exit status."""
        while self._read():
            pass
        return self.process.wait(_LIMIT)


@contextmanager
def terminal(
    *arguments: object,
    cwd: Path | None = None,
    program: Sequence[str] = COMMAND,
    columns: int = 100,
    environment: dict[str, str] | None = None,
) -> Iterator[Terminal]:
    """The command in a pseudo-terminal that is its controlling one, ended with the block. Or another
    ``program``. ``environment``: variables in addition to those of this process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [*program, *map(str, arguments)]

    def control() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    variables = {**os.environ, "TERM": "xterm-256color"}
    # Programs ask the terminal.
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        variables.pop(name, None)
    variables.update(environment or {})
    with subprocess.Popen(
        command, cwd=cwd, stdin=theirs, stdout=theirs, stderr=theirs, env=variables, preexec_fn=control
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)


@contextmanager
def conversation() -> Iterator[tuple[Terminal, Terminal]]:
    """Two terminals with `cat`, the listening one first, which has accepted the other."""
    with terminal("cat", "--listen", LOOPBACK) as shown:
        address = shown.until(r"waiting for: libp2p-quic cat (\S+)")[1]
        with terminal("cat", address) as other:
            shown.until(r"\[y/N\] ")
            shown.press("y\n")
            other.until("connected to ")
            yield shown, other
