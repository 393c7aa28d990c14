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

# Exit statuses. `program.EPILOG` documents them.
FAILED, USAGE, NO_CONNECTION, INTERRUPTED = 1, 2, 3, 130

_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2


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
            click.echo(told, err=self.is_beside_data)
            if self.is_beside_data:
                return
        click.echo(f"{_styled('error:', fg='red', bold=True)} {error.text}", err=True)
        if error.next_step:
            click.echo(f"{_styled('try:', fg='cyan', bold=True)} {error.next_step}", err=True)


class UnusableArgumentError(CommandFailedError):
    """An argument is wrong, or a file or key cannot be used."""

    exit_code = USAGE


class NoConnectionError(CommandFailedError):
    """No connection was made, or the address cannot be listened on."""

    exit_code = NO_CONNECTION


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

    def _write(self, line: str) -> None:
        try:
            click.echo(line, err=self._is_beside_data)
        except BrokenPipeError:
            # The reader has enough, which click knows.
            raise
        except OSError as error:
            # What is still in the buffer would fail again when the process exits.
            descriptor = _STANDARD_ERROR if self._is_beside_data else _STANDARD_OUTPUT
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
            text = f"cannot write the results: {error.strerror or error}"
            step = "check the disk and the file that standard output goes to"
            raise UnusableArgumentError(Explanation("output", text, step), is_json=False) from error

    def note(self, line: str) -> None:
        """A remark that is no result: on standard error, if that is a terminal."""
        if sys.stderr.isatty():
            click.echo(line, err=True)

    def warning(self, line: str) -> None:
        """Something that the user should know, on standard error."""
        click.echo(f"{_styled('warning:', fg='yellow')} {line}", err=True)


def _styled(text: str, **style: Any) -> str:
    # https://no-color.org, which click does not know.
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def _json(event: str, /, **values: object) -> str:
    return json.dumps({"event": event, **values}, ensure_ascii=False)
