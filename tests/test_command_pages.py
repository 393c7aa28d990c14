"""The page about failing dials shows what the command prints now, for failures that are made on purpose. The
page about the command names every cause.

A gate may deny before or after the dialer has noticed that it is connected, so the page has both.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from libp2p_quic._command.explanation import _TIMEOUTS
from libp2p_quic._engine_errors import CloseKind
from testkit.command import ended
from testkit.failed_dials import FAILURES, without_chance

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "howto" / "failing-dial.md"
COMMAND_PAGE = ROOT / "docs" / "howto" / "command-line.md"
# A dial has its own names for these, and no command forks.
NAMED_OTHERWISE = {"forked", "handshake_timeout", "peer_id_mismatch", "refused"}


def shown() -> list[str]:
    """The console blocks of the page."""
    return re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("cause", FAILURES)
def test_page_shows_what_the_failure_prints(cause: str) -> None:
    with FAILURES[cause]() as arguments:
        done = ended("dial", *arguments)
    assert done.returncode == 3
    printed = (
        f"$ {shlex.join(['libp2p-quic', 'dial', *arguments])}\n{done.stdout.decode()}{done.stderr.decode()}"
    )
    assert without_chance(printed) in [without_chance(block) for block in shown()], printed


def test_page_names_each_cause() -> None:
    assert [cause for cause in FAILURES if f"`{cause}`" not in PAGE.read_text()] == []


def constants(node: ast.Call) -> Iterator[str]:
    """The causes that a call in the sources names."""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    first = [node.args[0]] if name == "Explanation" and node.args else []
    for value in [*first, *(each.value for each in node.keywords if each.arg == "cause")]:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def test_page_of_the_command_names_each_cause() -> None:
    trees = [ast.parse(path.read_text()) for path in (ROOT / "python/libp2p_quic/_command").glob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {cause for node in calls for cause in constants(node)}
    named |= {cause for _, cause, _ in _TIMEOUTS} | set(get_args(CloseKind)) - NAMED_OTHERWISE
    tables = re.findall(r"^\| `cause` \|.*\n\|.*\n((?:\|.*\n)+)", COMMAND_PAGE.read_text(), re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == documented
