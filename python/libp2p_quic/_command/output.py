"""Where a command writes: results on standard output, as text or JSON; errors and progress on standard
error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import IO, Any

import click

from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.standard_streams import discard

# Exit statuses. `program.EPILOG` documents them.
FAILED, USAGE, NO_CONNECTION, INTERRUPTED = 1, 2, 3, 130

# Eager, so that an error of an argument is in JSON, too.
json_option = click.option(
    "--json", "is_json", is_flag=True, is_eager=True, help="Print one JSON object a line."
)


class CommandFailedError(click.ClickException):
    """Ends a command with an explanation, on a connection that was made."""

    exit_code = FAILED

    def __init__(self, explanation: Explanation, is_json: bool) -> None:
        super().__init__(explanation.text)
        self.explanation = explanation
        self._is_json = is_json
        # Standard output has a peer's bytes.
        self.is_beside_data = False

    def show(self, file: IO[Any] | None = None) -> None:
        error = self.explanation
        if self._is_json:
            told = _json("error", cause=error.cause, text=error.text, next_step=error.next_step)
            _say(told, is_error=self.is_beside_data)
            if self.is_beside_data:
                return
        _say(f"{_styled('error:', fg='red', bold=True)} {error.text}")
        if error.next_step:
            _say(f"{_styled('try:', fg='cyan', bold=True)} {error.next_step}")


class UnusableArgumentError(CommandFailedError):
    """An argument is wrong, or a file or key cannot be used."""

    exit_code = USAGE


class NoConnectionError(CommandFailedError):
    """No connection was made, or the address cannot be listened on."""

    exit_code = NO_CONNECTION


class NoReaderError(CommandFailedError):
    """Nobody reads the results any more, as after `| head -1`. The command ends without a message."""

    def __init__(self) -> None:
        super().__init__(Explanation("output", "nobody reads the results", ""), is_json=False)

    def show(self, file: IO[Any] | None = None) -> None:
        """Nothing: the reader has what it wants."""


def cannot_write(error: OSError) -> UnusableArgumentError:
    """The error that ends the command as its results cannot be written."""
    text = f"cannot write the results: {error.strerror or error}"
    step = "check the disk and the file that standard output goes to"
    return UnusableArgumentError(Explanation("output", text, step), is_json=False)


def write(text: str | bytes, is_error: bool = False, end: bool = True) -> None:
    """Write a line, or text without the ``end`` of a line, to standard output or standard error. Raises
    NoReaderError or UnusableArgumentError, and no OSError: a command would take it for one of its files."""
    try:
        click.echo(text, err=is_error, nl=end)
    except BrokenPipeError:
        _discard(is_error)
        raise NoReaderError from None
    except OSError as error:
        _discard(is_error)
        raise cannot_write(error) from error


class Output:
    """Writes the results of one command. With ``is_json``, each line is one JSON object.

    ``is_beside_data``: standard output has a peer's bytes, so that results are on standard error.
    """

    def __init__(self, is_json: bool, is_beside_data: bool = False) -> None:
        self.is_json = is_json
        self._is_beside_data = is_beside_data

    @property
    def is_live(self) -> bool:
        """Whether a person watches: live displays are drawn only then."""
        is_watched = sys.stdout.isatty() and sys.stderr.isatty()
        return not self.is_json and is_watched and os.environ.get("TERM") not in ("dumb", "unknown")

    def text(self, line: str = "") -> None:
        """A line of the result for a reader. Nothing with --json."""
        if not self.is_json:
            self._write(line)

    def rows(self, rows: Sequence[tuple[str, object]]) -> None:
        """Names and values in two columns. Nothing with --json."""
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            self.text(f"{name:<{width}}  {value}")

    def event(self, name: str, /, **values: object) -> None:
        """One JSON object. Nothing without --json."""
        if self.is_json:
            self._write(_json(name, **values))

    def data(self, content: bytes) -> None:
        """Bytes as they are. For a command without --json."""
        write(content, end=False)

    def _write(self, line: str) -> None:
        write(line, self._is_beside_data)

    def note(self, line: str) -> None:
        """A remark that is no result: on standard error, if that is a terminal."""
        if sys.stderr.isatty():
            _say(line)

    def warning(self, line: str) -> None:
        """Something that the user should know, on standard error."""
        _say(f"{_styled('warning:', fg='yellow')} {line}")


def _say(line: str, is_error: bool = True) -> None:
    """A line that is no result: if it cannot be written, the command ends as it would with it."""
    try:
        click.echo(line, err=is_error)
    except OSError:
        _discard(is_error)


def _discard(is_error: bool) -> None:
    discard(sys.stderr if is_error else sys.stdout)


def _styled(text: str, **style: Any) -> str:
    # https://no-color.org, which click does not know.
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def _json(event: str, /, **values: object) -> str:
    # In ASCII: the name of a file need not be UTF-8.
    return json.dumps({"event": event, **values})
