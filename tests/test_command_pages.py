"""The page about failing dials shows what the command prints now, for failures that are made on purpose.

A gate may deny before or after the dialer has noticed that it is connected, so the page has both.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from testkit.command import ended
from testkit.failed_dials import FAILURES, without_chance

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "failing-dial.md"


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
