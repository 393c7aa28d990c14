"""The screen of a terminal of unlimited height: applies the escape sequences that rich writes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(r"\x1b\[([0-?]*)([@-~])|\x1b[^\[]|([\r\n\b])|([^\x1b\r\n\b]+)")


@dataclass(frozen=True)
class Cell:
    """A character, and the SGR parameters (ECMA-48 section 8.3.117) in effect."""

    character: str = " "
    style: str = ""


class Screen:
    """Feed it what a program writes to its terminal."""

    def __init__(self) -> None:
        self._rows: list[list[Cell]] = [[]]
        self._row = 0
        self._column = 0
        self._style = ""

    def feed(self, text: str) -> None:
        """``text`` ends with a whole escape sequence. Unknown ones are ignored."""
        for parameters, final, control, plain in _TOKEN.findall(text):
            if plain:
                self._write(plain)
            elif control:
                self._control(control)
            elif final:
                self._sequence(parameters, final)

    def _write(self, plain: str) -> None:
        row = self._rows[self._row]
        row += [Cell()] * (self._column - len(row))
        row[self._column : self._column + len(plain)] = [Cell(each, self._style) for each in plain]
        self._column += len(plain)

    def _control(self, control: str) -> None:
        if control == "\n":
            self._row += 1
            if self._row == len(self._rows):
                self._rows.append([])
        elif control == "\r":
            self._column = 0
        else:
            self._column = max(0, self._column - 1)

    def _sequence(self, parameters: str, final: str) -> None:
        number = int(parameters) if parameters.isdigit() else 1
        if final == "m":
            # Accumulated: rich resets before each change.
            is_reset = parameters in ("", "0")
            self._style = "" if is_reset else f"{self._style};{parameters}".strip(";")
        elif final == "A":
            self._row = max(0, self._row - number)
        elif final == "K":
            self._rows[self._row] = [] if parameters == "2" else self._rows[self._row][: self._column]

    def lines(self) -> list[str]:
        """The text."""
        return ["".join(cell.character for cell in row).rstrip() for row in self._rows]

    def styled_lines(self, columns: int) -> list[str]:
        """The text, with an escape sequence where the style changes. Longer lines are broken after
        ``columns`` characters, as terminals do."""
        found = []
        for row, text in zip(self._rows, self.lines(), strict=True):
            kept = row[: len(text)]
            starts = range(0, max(len(kept), 1), columns)
            found += ["".join(self._styled(kept[at : at + columns])) for at in starts]
        return found

    @staticmethod
    def _styled(row: list[Cell]) -> list[str]:
        found, style = [], ""
        for cell in row:
            if cell.style != style:
                style = cell.style
                found.append(f"\x1b[0m\x1b[{style}m" if style else "\x1b[0m")
            found.append(cell.character)
        return [*found, "\x1b[0m"]
