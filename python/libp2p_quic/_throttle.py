"""Limits the rate of log lines that a remote peer can cause, and counts the omitted ones."""

from __future__ import annotations

import logging
import time

# Seconds between two lines about the same thing. Six lines a minute keep the log readable and
# still report a flood while it lasts.
INTERVAL = 10.0


class Throttle:
    """The rate limit of one kind of event. The next line counts the events that were omitted."""

    def __init__(self, logger: logging.Logger, level: int) -> None:
        self._logger = logger
        self._level = level
        self._due = 0.0
        self._left_out = 0

    @property
    def is_due(self) -> bool:
        """Whether the next call of `log` writes a line, for callers whose arguments cost much."""
        return time.monotonic() >= self._due

    def log(self, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Log ``message``, unless a line was logged within the last `INTERVAL` seconds."""
        now = time.monotonic()
        if now < self._due:
            self._left_out += 1
            return
        self._due = now + INTERVAL
        if self._left_out:
            message += " (and %d more such events since the last line)"
            args = (*args, self._left_out)
            self._left_out = 0
        self._logger.log(self._level, message, *args, exc_info=exc_info)
