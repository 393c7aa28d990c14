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
from tools.conformance.substitution import punch_holes_in_every_host, put_into_every_swarm

# "as-shipped" changes nothing: the suite's hosts are on TCP.
_TRANSPORTS: dict[str, type[Any]] = {
    "ours": libp2p_quic.QUICTransport,
    "stock": stock_transport.QUICTransport,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--transport", choices=[*_TRANSPORTS, "as-shipped"], default="ours")
    group.addoption("--every-host", action="store_true", help="QUIC instead of TCP in every host")
    group.addoption("--hole-punching", action="store_true", help="hole punching in every host on ours")
    group.addoption("--outcomes", type=Path, help="where to write one JSON object per phase of a test")


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("--transport")
    if name == "ours":
        is_punching = config.getoption("--hole-punching")
        # Only this call, as in a program, because the run tests that it suffices.
        libp2p_quic.install(hole_punching=is_punching)
        if is_punching:
            # For hosts that the suite makes when their swarms run already.
            punch_holes_in_every_host()
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
    """Records for each test whether it dialed or listened with the transport, and whether it punched holes.

    In some directories most tests use mocks or no network.
    """

    def __init__(self, transport: type[Any]) -> None:
        self._used: set[str] = set()
        for method in ("dial", "create_listener"):
            self._note(transport, method, "over_quic")
        # Each host that punches holes has one.
        self._note(libp2p_quic.HolePunching, "__init__", "punching")

    def _note(self, owner: type[Any], name: str, what: str) -> None:
        method: Callable[..., Any] = getattr(owner, name)

        @wraps(method)
        def noting(*args: Any, **kwargs: Any) -> Any:
            self._used.add(what)
            return method(*args, **kwargs)

        setattr(owner, name, noting)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Iterator[None]:
        self._used.clear()
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        if call.when == "call":
            item.user_properties += [(what, True) for what in sorted(self._used)]


class _Outcomes:
    """Writes each report of pytest at once, for the process that shows the progress."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        used = {name for name, _ in report.user_properties}
        skipped = report.longrepr[2] if isinstance(report.longrepr, tuple) else None
        self._write(report.nodeid, report.outcome, skipped or report.longreprtext, used)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report.nodeid, "failed", report.longreprtext, set())

    def _write(self, test: str, outcome: str, why: str, used: set[str]) -> None:
        fields = {
            "test": test,
            "outcome": outcome,
            "why": why,
            "over_quic": "over_quic" in used,
            "punching": "punching" in used,
        }
        self._file.write(json.dumps(fields) + "\n")
