"""A pytest plugin that substitutes the transport in py-libp2p's test suite.

Loaded with `-p tools.conformance.plugin`, before any test module is imported, because these bind names at
import. It substitutes, skips the tests that `exclusions.txt` names, and writes each outcome to a file,
one JSON object per line. It changes no test.
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
from tools.conformance.exclusions import EXCLUDED, read_exclusions
from tools.conformance.substitution import put_into_every_swarm

# "as-shipped" changes nothing: the suite's hosts are on TCP.
_TRANSPORTS: dict[str, type[Any]] = {
    "ours": libp2p_quic.QUICTransport,
    "stock": stock_transport.QUICTransport,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--transport", choices=[*_TRANSPORTS, "as-shipped"], default="ours")
    group.addoption("--every-host", action="store_true", help="QUIC instead of TCP in every host")
    group.addoption("--outcomes", type=Path, help="where to write one JSON object per phase of a test")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--transport")
    if name == "ours":
        # Only this call, as in a program, because the run tests that it suffices.
        libp2p_quic.install()
    if name in _TRANSPORTS:
        transport = _TRANSPORTS[name]
        config.pluginmanager.register(_Usage(transport))
        if config.getoption("--every-host"):
            put_into_every_swarm(transport)
    outcomes = config.getoption("--outcomes")
    # Under xdist the controller process gets the workers' reports.
    if outcomes is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Outcomes(outcomes))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    exclusions = read_exclusions()
    for item in items:
        pattern = next((e.pattern for e in exclusions if e.matches(item.nodeid)), None)
        if pattern is not None:
            # Skipped and not deselected, so that the test is reported and counted.
            item.add_marker(pytest.mark.skip(reason=EXCLUDED + pattern))


class _Usage:
    """Records for each test whether it dialed or listened with the transport.

    In some directories most tests use mocks or no network.
    """

    def __init__(self, transport: type[Any]) -> None:
        self._is_used = False
        for method in ("dial", "create_listener"):
            setattr(transport, method, self._noting(getattr(transport, method)))

    def _noting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self._is_used = True
            return method(*args, **kwargs)

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
    """Writes each report of pytest at once, for the process that shows the progress."""

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
