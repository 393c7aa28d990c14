"""Writes a run as JSON, and as a page in Markdown. `picture` draws it."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from itertools import groupby
from typing import Any

from tools.interop.case import Case
from tools.interop.defects import Defect, verdict
from tools.interop.matrix import DIRECTIONS, Direction, Result
from tools.interop.peer import OURS, QUIC, Peer

SIGNS = {"green": "✓", "known": "●", "red": "✗", "absent": "-", "unbuilt": "?"}
TITLES = {
    "green": "green",
    "known": "a known defect or limit of the peer, with its number below",
    "red": "red",
    "absent": "the peer lacks the feature",
    "unbuilt": "the peer could not be built",
}


@dataclass
class Report:
    """A finished run."""

    peers: list[Peer]
    unbuilt: dict[str, str]
    cases: list[Case]
    results: list[Result]
    defects: list[Defect]
    seconds: float
    moment: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    machine: str = field(
        default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )

    @classmethod
    def of(cls, data: dict[str, Any], cases: list[Case], defects: list[Defect]) -> Report:
        """The run of `data`, evaluated again; its old verdicts are ignored."""
        peers = []
        for row, said in data["peers"].items():
            # Runs before WebTransport have no transport.
            transport = said.get("transport", QUIC)
            name = row.removesuffix(f"-{transport}")
            peer = Peer(name, [], [], 0, stack_of=said["stack_of"], transport=transport)
            peer.program, peer.stack, peer.keys = said["program"], said["stack"], tuple(said["keys"])
            peers.append(peer)
        names = [each.name for each in fields(Result)]
        return cls(
            peers=peers,
            unbuilt=data["unbuilt"],
            cases=[case for case in cases if case.name in data["cases"]],
            results=[Result(**{name: cell[name] for name in names}) for cell in data["cells"]],
            defects=defects,
            seconds=data["seconds"],
            moment=datetime.fromisoformat(data["date"]),
            machine=data["machine"],
        )

    def result(self, peer: str, direction: Direction, case: str) -> Result | None:
        for each in self.results:
            if (each.peer, each.direction, each.case) == (peer, direction, case):
                return each
        return None

    def rows(self) -> list[tuple[str, str, Direction]]:
        """The peer's row, its label, and the direction, in the order of the table."""
        labels = {peer.row: peer.label for peer in self.peers}
        rows: list[tuple[str, str, Direction]] = []
        for row in [peer.row for peer in self.peers] + list(self.unbuilt):
            for direction in DIRECTIONS:
                # Between two instances of ours both directions are the same.
                if not self.is_ours(row) or direction == "we dial":
                    rows.append((row, labels.get(row, row), direction))
        return rows

    def is_ours(self, row: str) -> bool:
        return any(peer.row == row and peer.name == OURS for peer in self.peers)

    def sign(self, peer: str, direction: Direction, case: str) -> str:
        result = self.result(peer, direction, case)
        return SIGNS[verdict(result, self.defects)[0]] if result else " "

    @property
    def notes(self) -> list[Defect]:
        """The entries that cover a cell, in order; their numbers start with 1."""
        return [each for each in self.defects if any(each.covers(result) for result in self.results)]

    def note(self, result: Result) -> str:
        """The number of the entry that covers this cell, if there is one."""
        _, defect = verdict(result, self.defects)
        return str(self.notes.index(defect) + 1) if defect else ""

    def count(self, status: str) -> int:
        return sum(verdict(result, self.defects)[0] == status for result in self.results)

    @property
    def counted(self) -> str:
        titles = {
            "green": "green",
            "known": "known",
            "absent": "absent",
            "red": "red",
            "unbuilt": "not built",
        }
        return ", ".join(f"{self.count(status)} {said}" for status, said in titles.items())

    def data(self) -> dict[str, Any]:
        cells = []
        for result in self.results:
            status, defect = verdict(result, self.defects)
            cells.append({**asdict(result), "verdict": status, "reason": defect.reason if defect else None})
        return {
            "date": self.moment.isoformat(timespec="seconds"),
            "machine": self.machine,
            "seconds": round(self.seconds),
            "peers": {
                peer.row: {
                    "program": peer.program,
                    "stack": peer.stack,
                    "transport": peer.transport,
                    "keys": list(peer.keys),
                    "stack_of": peer.stack_of,
                }
                for peer in self.peers
            },
            "unbuilt": self.unbuilt,
            "cases": {case.name: case.title for case in self.cases},
            "cells": sorted(cells, key=lambda cell: (cell["peer"], cell["direction"], cell["case"])),
        }

    def page(self, picture: str) -> str:
        """The page, which shows the file ``picture`` of the same folder."""
        day = self.moment.strftime("%Y-%m-%d")
        lines = [
            "# Interoperability",
            "",
            f"Made by `make interop` on {day}, on {self.machine}, in {self.seconds:.0f} s. "
            "Do not edit: run it again.",
            "",
            f"{self.counted}.",
            "",
            f"![The matrix as a picture]({picture})",
            "",
            " · ".join(f"{sign} {TITLES[status]}" for status, sign in SIGNS.items()),
            "",
            "| peer | direction | " + " | ".join(case.name for case in self.cases) + " |",
            "|---" * (2 + len(self.cases)) + "|",
        ]
        for name, label, direction in self.rows():
            said = "with itself" if self.is_ours(name) else direction
            signs = [self._marked(name, direction, case.name) for case in self.cases]
            lines.append(f"| {label} | {said} | " + " | ".join(signs) + " |")
        lines += ["", "## Peers", ""]
        lines += [
            "| name | program | QUIC stack | transport | what it is | host keys |",
            "|---|---|---|---|---|---|",
        ]
        for p in self.peers:
            kind = f"a program of ours on the stack of {p.stack_of}" if p.stack_of else "the project itself"
            keys = ", ".join(p.keys)
            lines.append(f"| {p.row} | {p.program} | {p.stack} | {p.transport} | {kind} | {keys} |")
        lines += [f"| {row} | not built: {_cell(why)} | | | | |" for row, why in self.unbuilt.items()]
        lines += ["", "## Cases"]
        for group, cases in groupby(self.cases, key=lambda case: case.group):
            lines += ["", f"{group.capitalize()}:", ""]
            lines += [f"- **{case.name}**: {case.title}." for case in cases]
        lines += self._remarks()
        return "\n".join(lines) + "\n"

    def _marked(self, peer: str, direction: Direction, case: str) -> str:
        """The sign, and the number of the note."""
        result = self.result(peer, direction, case)
        return self.sign(peer, direction, case) + (self.note(result) if result else "")

    def _remarks(self) -> list[str]:
        remarked = [each for each in self.results if each.outcome == "green" and each.evidence]
        remarks = ["", "## What was seen", ""] if remarked else []
        remarks += [f"- **{r.peer}**, {r.direction}, {r.case}: {_cell(r.evidence)}." for r in remarked]
        notes = self.notes
        lines = [*remarks, "", "## Known defects and limits of peers", ""] if notes else remarks
        for number, defect in enumerate(notes, 1):
            where = (
                f"**{', '.join(defect.peers)}**, {' and '.join(defect.directions)}, {', '.join(defect.cases)}"
            )
            lines.append(f"{number}. {where}: {defect.reason} *{defect.evidence}*")
        red = [each for each in self.results if verdict(each, self.defects)[0] == "red"]
        if red:
            lines += ["", "## Red", ""]
            lines += [f"- **{r.peer}**, {r.direction}, {r.case}: {_cell(r.evidence)}{_alone(r)}" for r in red]
        return lines


def _alone(result: Result) -> str:
    return f" (two instances of it: {_cell(result.themselves)})" if result.themselves else ""


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
