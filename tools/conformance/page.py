"""docs/reports/conformance.md: the last full run of each part, in Markdown.

A part that is run again replaces its section only, so the parts can be run one by one. Only runs on both
transports are written.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tools.conformance.parts import PARTS
from tools.conformance.report import Comparison, exclusions, headings, remarks

PAGE = Path(__file__).parents[2] / "docs" / "reports" / "conformance.md"

_BEGINNING = """\
# py-libp2p's own tests on this transport

Made by `make conformance`. Do not edit: run it again.

py-libp2p's test suite, from its source distribution, on this transport and on py-libp2p's own.
*over QUIC*: of the tests, those that dialed or listened with the transport; the others use mocks or no
network. *failed*: run alone up to ten times, and failed at least once.
*stock*: py-libp2p's own QUIC transport, whose failed tests were run alone once more. *excluded*: tests
of the internals of py-libp2p's transport, each named in
[exclusions.txt](../../tools/conformance/exclusions.txt) with its reason. *skipped*: by the suite itself.
*punching*: of the tests, those whose hosts punch holes here. Tests that assert a defect that hole punching
repairs are named in [differences.txt](../../tools/conformance/differences.txt); the run is red if one passes.

The run is red if a test about QUIC fails here, or another test that the stock transport passes:
clearly more often, if the outcome varies.

`tests/core/test_libp2p/test_libp2p.py::test_double_response` may fail while the machine is busy: it expects
each `read(n)` to return the bytes of one `write`. A stream has no such boundaries (RFC 9000 section 2), and
two writes that arrive before the read are returned together."""


@dataclass(frozen=True)
class Run:
    """The description of a run in its section."""

    versions: str
    seconds: float

    def __str__(self) -> str:
        machine = f"a shared {os.cpu_count()}-core {platform.machine()} {platform.system()} machine"
        return f"{date.today()}, on {machine}, in {self.seconds / 60:.0f} minutes: {self.versions}"


def write(comparison: Comparison, run: Run) -> None:
    """Write this run into its section of the page."""
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(with_section(page, section(comparison, run), comparison.part.name), encoding="utf-8")


def with_section(page: str, section: str, name: str) -> str:
    """``page`` with ``section`` for the part ``name``; the other sections are kept."""
    found = re.split(r"^(?=## \w+: )", page, flags=re.MULTILINE)[1:]
    sections = {each[3:].partition(":")[0]: each.strip() for each in found}
    sections[name] = section
    parts = [sections[part.name] for part in PARTS if part.name in sections]
    return "\n\n".join([_BEGINNING, *parts]) + "\n"


def section(comparison: Comparison, run: Run) -> str:
    verdict = "red" if comparison.regressions() or comparison.stale_differences() else "green"
    lines = [f"## {comparison.part.name}: {comparison.part.title}", "", f"**{verdict}**, {run}.", ""]
    columns = headings(comparison.part)
    lines.append("| " + " | ".join(columns) + " |")
    lines.append("|---|" + "---:|" * (len(columns) - 1))
    lines += ["| " + " | ".join(row) + " |" for row in comparison.rows()]
    for heading, tests in remarks(comparison).items():
        lines += ["", f"What {heading}:", ""]
        lines += [f"- `{test}`: {_plain(said)}" for test, said in tests.items()]
    if excluded := exclusions(comparison):
        lines += ["", "| excluded | because |", "|---:|---|"]
        lines += [f"| {count} | {why} |" for why, count in excluded.items()]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """An error's text with Markdown's characters escaped."""
    return re.sub(r"([<>*_`|\[\]\\])", r"\\\1", text)
