"""Writes a run of the browsers: as a table for the terminal, as JSON, and as a page in Markdown."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import libp2p_quic
from tools.interop.browser.cases import Case

SIGNS = {"green": "✓", "red": "✗", "absent": "-"}
NODES = {"host": "a py-libp2p host", "asyncio": "an asyncio program"}
MISSING = "not installed"


@dataclass(frozen=True)
class BrowserResult:
    """One case in one browser with one node."""

    browser: str
    node: str
    case: str
    outcome: str
    """green, red, or absent: the node lacks the feature."""
    seconds: float
    evidence: str


@dataclass
class BrowserReport:
    """A finished run."""

    versions: dict[str, str]
    """Of the browsers that are installed."""
    missing: list[str]
    """The browsers that are not."""
    nodes: list[str]
    cases: list[Case]
    results: list[BrowserResult]
    packages: dict[str, str]
    seconds: float
    moment: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    machine: str = field(
        default_factory=lambda: f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )

    @property
    def is_green(self) -> bool:
        """Whether something ran, nothing is red, and no browser is missing."""
        outcomes = {result.outcome for result in self.results}
        return "green" in outcomes and "red" not in outcomes and not self.missing

    @property
    def counted(self) -> str:
        counts = {name: sum(each.outcome == name for each in self.results) for name in SIGNS}
        parts = [f"{count} {name}" for name, count in counts.items() if count]
        return ", ".join([*parts, *(f"{name} {MISSING}" for name in self.missing)])

    def _sign(self, browser: str, node: str, case: str) -> str:
        if browser in self.missing:
            return MISSING
        for each in self.results:
            if (each.browser, each.node, each.case) == (browser, node, case):
                return SIGNS[each.outcome]
        return "?"

    def _columns(self) -> list[tuple[str, str]]:
        return [(browser, node) for browser in (*self.versions, *self.missing) for node in self.nodes]

    def table(self) -> str:
        """For the terminal."""
        heads = [f"{browser}, {node}" for browser, node in self._columns()]
        first = max(len(case.name) for case in self.cases) + 2
        lines = [" " * first + "  ".join(heads)]
        for case in self.cases:
            signs = [self._sign(*column, case.name) for column in self._columns()]
            cells = [sign.ljust(len(head)) for sign, head in zip(signs, heads, strict=True)]
            lines.append((case.name.ljust(first) + "  ".join(cells)).rstrip())
        return "\n".join(lines)

    def json(self) -> str:
        data = {
            "date": self.moment.isoformat(timespec="seconds"),
            "machine": self.machine,
            "seconds": round(self.seconds),
            "libp2p-quic": libp2p_quic.__version__,
            "py-libp2p": version("libp2p"),
            "packages": self.packages,
            "browsers": {**self.versions, **dict.fromkeys(self.missing, MISSING)},
            "results": [{**asdict(each), "seconds": round(each.seconds, 1)} for each in self.results],
        }
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"

    def page(self) -> str:
        columns = self._columns()
        heads = [f"{browser}, {NODES[node]}" for browser, node in columns]
        browsers = [f"{name}: {what}" for name, what in self.versions.items()]
        browsers += [f"{name}: {MISSING}" for name in self.missing]
        lines = [
            "# Browsers",
            "",
            "Browsers that dial nodes of this project over WebTransport, with js-libp2p in the page. Each",
            "case has a browser profile and a node of its own. `make interop-browsers` writes this page.",
            "",
            f"{self.moment:%Y-%m-%d}, {self.machine}: {self.counted}, in {self.seconds:.0f} s.",
            "",
            *(f"- {each}" for each in browsers),
            f"- js-libp2p {self.packages['libp2p']}, "
            f"@libp2p/webtransport {self.packages['@libp2p/webtransport']}",
            f"- libp2p-quic {libp2p_quic.__version__}, py-libp2p {version('libp2p')}",
            "",
            f"| case | {' | '.join(heads)} |",
            f"|---|{'---|' * len(heads)}",
        ]
        for case in self.cases:
            signs = [self._sign(*column, case.name) for column in columns]
            lines.append(f"| {case.title} | {' | '.join(signs)} |")
        lines += [
            "",
            "✓ green, ✗ red, - the node has no such protocol: an asyncio program has no identify.",
            "",
            "## What each case saw",
            "",
            "| browser | node | case | s | evidence |",
            "|---|---|---|---|---|",
        ]
        for each in self.results:
            if each.outcome != "absent":
                evidence = each.evidence.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
                lines.append(
                    f"| {each.browser} | {each.node} | {each.case} | {each.seconds:.1f} | {evidence} |"
                )
        lines += [
            "",
            "The times include the start of the browser and the node. The rates are of a page that checks",
            "a sum, on a small machine: they show that it works, and compare nothing.",
        ]
        return "\n".join(lines) + "\n"


def packages(manifest: Path) -> dict[str, str]:
    """The pinned versions of a package.json."""
    pinned: dict[str, str] = json.loads(manifest.read_text())["dependencies"]
    return pinned
