"""The pytest plugin that puts a transport into py-libp2p's test suite.

Loaded with `-p conformance.plugin`, before any test module is imported, since those bind
names for good. It substitutes, skips what `exclusions.txt` names, and writes each outcome
to a file, one JSON object a line. It does not change what a test does or expects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from libp2p.transport.quic import transport as stock_transport

import libp2p_quic
from conformance.exclusions import EXCLUDED, read_exclusions
from conformance.substitution import put_into_every_swarm

# "as-shipped" leaves the suite alone: its hosts are on TCP.
_TRANSPORTS: dict[str, type[Any]] = {
    "ours": libp2p_quic.QUICTransport,
    "stock": stock_transport.QUICTransport,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--transport", choices=[*_TRANSPORTS, "as-shipped"], default="ours")
    group.addoption("--every-host", action="store_true", help="QUIC in the place of every host's TCP")
    group.addoption("--outcomes", type=Path, help="where to write one JSON object per phase of a test")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--transport")
    if name == "ours":
        # As a program does it, and nothing more: that it suffices is part of what is tested.
        libp2p_quic.install()
    if name in _TRANSPORTS:
        transport = _TRANSPORTS[name]
        config.pluginmanager.register(_Usage(transport))
        if config.getoption("--every-host"):
            put_into_every_swarm(transport)
    outcomes = config.getoption("--outcomes")
    # Under xdist the workers' reports come to the one process that is no worker.
    if outcomes is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Outcomes(outcomes))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    exclusions = read_exclusions()
    for item in items:
        pattern = next((e.pattern for e in exclusions if e.matches(item.nodeid)), None)
        if pattern is not None:
            # Skipped and not deselected, so that it is reported and counted.
            item.add_marker(pytest.mark.skip(reason=EXCLUDED + pattern))


class _Usage:
    """Notes on each test whether it dialed or listened with the transport.

    Most tests of some directories use mocks or no network at all, and say nothing about it.
    """

    def __init__(self, transport: type[Any]) -> None:
        self._is_used = False
        for verb in ("dial", "create_listener"):
            setattr(transport, verb, self._noting(getattr(transport, verb)))

    def _noting(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(verb)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self._is_used = True
            return verb(*args, **kwargs)

        return noting

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        self._is_used = False
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.when == "call" and self._is_used:
            item.user_properties.append(("over_quic", True))


class _Outcomes:
    """Writes what pytest reports, as it comes, for the process that watches the run."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        over_quic = any(name == "over_quic" for name, _ in report.user_properties)
        skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else None
        self._write(report.nodeid, report.outcome, skipped or report.longreprtext, over_quic)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report.nodeid, "failed", report.longreprtext, False)

    def _write(self, test: str, outcome: str, why: str, over_quic: bool) -> None:
        fields = {"test": test, "outcome": outcome, "why": why, "over_quic": over_quic}
        self._file.write(json.dumps(fields) + "\n")
