"""The standard streams of the process: each one is open while a command runs, and an output that cannot be
written is noticed before the process ends. What is written is left to `output`.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Literal, TextIO


def prepare() -> None:
    """Open those that are closed, before the next file or socket gets the number of one. Nothing can be read
    from such an input, and writing to such an output fails."""
    # The system gives the lowest number that is free, so the order matters.
    if sys.stdin is None:
        sys.stdin = _opened(os.O_RDONLY, "r")
    if sys.stdout is None:
        # Results that nobody gets are an error, so it is not opened for writing.
        sys.stdout = _opened(os.O_RDONLY, "w")
    if sys.stderr is None:
        sys.stderr = _opened(os.O_WRONLY, "w")
    sys.stdout, sys.stderr = _buffered(sys.stdout), _buffered(sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # The name of a file need not be UTF-8.
        sys.stdout.reconfigure(errors="backslashreplace")


def _opened(flags: int, mode: Literal["r", "w"]) -> TextIO:
    descriptor = os.open(os.devnull, flags)
    return os.fdopen(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)


def _buffered(stream: TextIO) -> TextIO:
    """``stream`` with a buffer that is flushed after each line. Without a buffer, as with PYTHONUNBUFFERED,
    Python ignores that the system wrote a part of a text, or nothing to a full non-blocking pipe."""
    if not (isinstance(stream, io.TextIOWrapper) and isinstance(stream.buffer, io.FileIO)):
        return stream
    return os.fdopen(
        stream.fileno(), "w", buffering=1, encoding=stream.encoding, errors=stream.errors, closefd=False
    )


def discard(stream: TextIO) -> None:
    """Drop what ``stream`` holds and gets: its buffer would fail again when the process ends."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def unwritten(streams: Sequence[TextIO]) -> OSError | None:
    """Why one of ``streams`` cannot be written; it is discarded. None if all are written."""
    found: OSError | None = None
    for stream in streams:
        try:
            stream.flush()
        except OSError as error:
            discard(stream)
            found = found or error
    return found
