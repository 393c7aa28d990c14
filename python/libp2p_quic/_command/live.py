"""What a command draws in a terminal while it runs: how wide it may be, and a line with a bar."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from types import TracebackType

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

# A terminal echoes Ctrl-C as two characters. In a full line the second would go to the next one, and what is
# drawn would be removed one line too low.
_ROOM = 3
_BAR = 24
# Columns that a bar and useful figures need. In fewer there are figures only.
_LEAST_WITH_BAR = 76
# Columns of the text that figures do not take.
_LEAST_TEXT = 12


def fit(console: Console) -> Console:
    """Let ``console`` leave the last columns of the terminal free, whose width may have changed."""
    console.width = max(shutil.get_terminal_size().columns - _ROOM, 1)
    return console


class LiveBar:
    """One line on standard error: a text, a bar, figures. Open it with ``with``; it is removed at the end.

    What does not fit into the terminal is left out: the last figures, the end of a long text, the bar.
    """

    def __init__(self, total: float, text: str) -> None:
        self._console = fit(Console(stderr=True))
        self._has_bar = self._console.width >= _LEAST_WITH_BAR
        # A text may be a peer's: it must not be taken for rich's markup.
        parts = [TextColumn("{task.description}", markup=False)]
        figures = TextColumn("{task.fields[figures]}", markup=False)
        columns = [*parts, BarColumn(bar_width=_BAR), figures] if self._has_bar else [*parts, figures]
        self._progress = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
        self._text = text
        self._task: TaskID = self._progress.add_task(text, total=total, figures="")

    def __enter__(self) -> LiveBar:
        self.draw(0, ())
        self._progress.start()
        return self

    def draw(self, completed: float, figures: Sequence[str], text: str | None = None) -> None:
        """Draw it anew. The most important of the ``figures`` is the first."""
        if text is not None:
            self._text = text
        room = fit(self._console).width - 1 - (_BAR + 1 if self._has_bar else 0)
        shown = fitting(figures, room - min(cell_len(self._text), _LEAST_TEXT))
        told = shortened(self._text, room - cell_len(shown))
        self._progress.update(self._task, completed=completed, description=told, figures=shown)
        self._progress.refresh()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self._progress.stop()


def fitting(figures: Sequence[str], width: int) -> str:
    """The first of ``figures`` that fit into ``width`` columns, in one line."""
    line = ""
    for each in figures:
        longer = f"{line}  {each}" if line else each
        if cell_len(longer) > width:
            break
        line = longer
    return line


def shortened(text: str, width: int) -> str:
    """``text``, without its end if it does not fit into ``width`` columns."""
    made = Text(text)
    made.truncate(max(width, 1), overflow="ellipsis")
    return made.plain
