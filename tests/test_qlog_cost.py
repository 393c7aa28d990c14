"""`make qlog-cost`: each setting is measured as it says, and the report has all of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from testkit.payload import MIB
from tools.qlog_cost import measure, run, table


def test_run_writes_files_only_if_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the person who measures.
    monkeypatch.setenv("QLOGDIR", str(tmp_path / "theirs"))
    seconds, packets = run(sys.executable, MIB, None)
    assert seconds > 0
    # A packet has at most 1452 bytes.
    assert packets > MIB / 1452
    assert list(tmp_path.iterdir()) == []
    run(sys.executable, MIB, str(tmp_path / "logs"))
    assert len(list((tmp_path / "logs").iterdir())) == 2


def test_report_has_each_setting() -> None:
    title, before, off, on, packet = measure(2, MIB, sys.executable)
    assert title == "1 MiB from one endpoint to another, 2 interleaved runs: processor time"
    for name, line in (("before", before), ("off", off), ("on", on)):
        assert re.fullmatch(rf"{name} +\d\.\d+ s  \(\d\.\d+ to \d\.\d+\)", line), line
    found = re.fullmatch(r"on, .+: -?[\d.]+ µs, (\d+) bytes of file", packet)
    assert found is not None, packet
    assert 100 < int(found[1]) < 1000


def test_table_has_median_and_spread() -> None:
    assert table({"off": [0.3, 0.1, 0.2]}) == ["off     0.200 s  (0.100 to 0.300)"]
