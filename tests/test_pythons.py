"""`make test-pythons` finds the interpreters of this machine."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from tools.pythons import counted, interpreters


@pytest.mark.skipif(platform.python_implementation() != "CPython", reason="finds CPython only")
def test_the_interpreter_of_the_tests_is_found_once() -> None:
    found = interpreters()
    assert [each.version for each in found if each.version == sys.version_info[:3]] == [sys.version_info[:3]]
    assert len({each.name for each in found}) == len(found)


def test_what_is_no_python_from_3_10_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = interpreters()
    shutil.copy("/bin/true", tmp_path / "python3.12")
    (tmp_path / "python3.13").touch()
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert interpreters() == before


def test_a_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    assert counted(report) == "no test"
    report.write_text(
        '<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3"></testsuite></testsuites>'
    )
    assert counted(report) == "4 passed, 3 failed, 3 skipped"
    report.write_text("<testsuites><testsuite")
    assert counted(report).startswith("a broken report")
