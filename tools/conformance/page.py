"""docs/reports/conformance.md: the last full run of each part, in Markdown.

A part that is run again takes its section's place and leaves the others, so that the parts
may be run one by one. Only a run on both transports is written down.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from conformance.parts import PARTS
from conformance.report import HEADINGS, Comparison, exclusions, remarks

PAGE = Path(__file__).parent.parent / "docs" / "reports" / "conformance.md"

_BEGINNING = """\
# py-libp2p's own tests on this transport

Made by `make conformance`. Do not edit: run it again.

py-libp2p's test suite, out of its source distribution, on this transport and on py-libp2p's own.
*over QUIC*: of the tests, those that dialed or listened with the transport; the others use mocks or
no network, and say nothing of it. *failed*: run alone up to ten times, and failed at least once.
*stock*: py-libp2p's own QUIC transport, whose failed tests were run alone once more. *excluded*: tests
of the insides of py-libp2p's transport, each named in
[exclusions.txt](../../conformance/exclusions.txt) with its reason. *skipped*: by the suite itself.

The run is red if a test about QUIC fails here, or another test that the stock transport passes:
plainly more often, where it is a matter of luck."""


@dataclass(frozen=True)
class Run:
    """What a section says about its run beside the outcomes."""

    versions: str
    seconds: float

    def __str__(self) -> str:
        machine = f"a shared {os.cpu_count()}-core {platform.machine()} {platform.system()} machine"
        return f"{date.today()}, on {machine}, in {self.seconds / 60:.0f} minutes: {self.versions}"


def write(comparison: Comparison, run: Run) -> None:
    """Put this run into its section of the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(with_section(page, section(comparison, run), comparison.part.name), encoding="utf-8")


def with_section(page: str, section: str, name: str) -> str:
    """``page`` anew, with ``section`` for the part ``name`` and the sections of other parts as they were."""
    found = re.split(r"^(?=## \w+: )", page, flags=re.MULTILINE)[1:]
    sections = {each[3:].partition(":")[0]: each.strip() for each in found}
    sections[name] = section
    parts = [sections[part.name] for part in PARTS if part.name in sections]
    return "\n\n".join([_BEGINNING, *parts]) + "\n"


def section(comparison: Comparison, run: Run) -> str:
    verdict = "red" if comparison.regressions() else "green"
    lines = [f"## {comparison.part.name}: {comparison.part.title}", "", f"**{verdict}**, {run}.", ""]
    lines.append("| " + " | ".join(HEADINGS) + " |")
    lines.append("|---|" + "---:|" * (len(HEADINGS) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in comparison.rows()]
    for heading, tests in remarks(comparison).items():
        lines += ["", f"What {heading}:", ""]
        lines += [f"- `{test}`: {_plain(said)}" for test, said in tests.items()]
    if excluded := exclusions(comparison):
        lines += ["", "| excluded | because |", "|---:|---|"]
        lines += [f"| {count} | {why} |" for why, count in excluded.items()]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """An error's text as text: Markdown would take its signs for its own."""
    return re.sub(r"([<>*_`|\[\]\\])", r"\\\1", text)
