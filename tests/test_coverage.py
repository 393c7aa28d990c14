"""The coverage gate counts every source file and fails below its floor.

The figures themselves come from `make coverage`, which takes a quarter of an hour.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.coverage.measured import Lines, by_package, python_lines, rust_lines, with_unloaded_files
from tools.coverage.packages import FLOOR, ROOT, counted, has_code, package_of, sources

PACKAGES = {"adapter", "driver", "binding", "engine", "simulation"}


def test_every_source_file_is_in_a_package() -> None:
    homes = (ROOT / "python", ROOT / "crates/engine/src", ROOT / "crates/binding/src")
    found = (path for home in homes for path in home.rglob("*") if path.suffix in (".py", ".rs"))
    product = [str(path.relative_to(ROOT)) for path in found]
    assert len(product) > 50
    outside = [path for path in product if package_of(path) is None]
    # Tests of a module that are modules themselves.
    assert all("_tests/" in path for path in outside), outside
    assert sources() == sorted(set(product) - set(outside))
    assert {package_of(path) for path in product} - {None} == PACKAGES


@pytest.mark.parametrize(
    ("path", "package"),
    [
        ("python/libp2p_quic/_transport.py", "adapter"),
        ("python/libp2p_quic/_driver/_trio.py", "driver"),
        ("crates/binding/src/ready_queue.rs", "binding"),
        ("crates/engine/src/driver/core.rs", "engine"),
        ("crates/engine/src/tls/a_new_file.rs", "engine"),
        ("crates/engine/src/simulation/wire.rs", "simulation"),
        ("crates/engine/tests/resources.rs", None),
        ("tests/test_coverage.py", None),
    ],
)
def test_the_folder_decides_the_package(path: str, package: str | None) -> None:
    assert package_of(path) == package


def test_a_file_that_no_test_loads_counts_with_all_its_lines() -> None:
    lines = with_unloaded_files({})
    assert set(lines) == {path for path in sources() if has_code(path)}
    assert all(each.run == 0 and each.all > 0 for each in lines.values())
    assert set(by_package(lines)) == PACKAGES
    assert all(each.percent < FLOOR for each in by_package(lines).values())


def test_tests_inside_of_a_file_do_not_count() -> None:
    text = (ROOT / "crates/engine/src/queue.rs").read_text()
    assert "#[cfg(test)]" in text
    assert "#[cfg(test)]" not in "\n".join(counted("crates/engine/src/queue.rs"))
    last = len(counted("crates/engine/src/queue.rs"))
    assert last > 100
    assert text.splitlines()[last] == "#[cfg(test)]"


def test_counters_of_rust_become_lines(tmp_path: Path) -> None:
    path = "crates/engine/src/queue.rs"
    beyond = len(counted(path)) + 10
    report = tmp_path / "rust.lcov"
    report.write_text(
        f"SF:{ROOT}/{path}\nDA:10,3\nDA:11,0\nDA:12,1\nDA:{beyond},9\nend_of_record\n"
        "SF:/somewhere/else/lib.rs\nDA:1,0\nend_of_record\n"
    )
    assert rust_lines(report) == {path: Lines(3, 2)}


def test_counters_of_python_become_lines(tmp_path: Path) -> None:
    path = "python/libp2p_quic/_addr.py"
    summary = {"num_statements": 40, "covered_lines": 30}
    report = tmp_path / "python.json"
    report.write_text(json.dumps({"files": {path: {"summary": summary}, "tests/x.py": {"summary": {}}}}))
    assert python_lines(report) == {path: Lines(40, 30)}


def test_a_package_has_the_coverage_of_its_files_together() -> None:
    packages = by_package(
        {"python/libp2p_quic/_addr.py": Lines(80, 80), "python/libp2p_quic/_stream.py": Lines(20, 0)}
    )
    assert packages == {"adapter": Lines(100, 80)}
    assert packages["adapter"].percent == 80.0


def test_the_floor_is_the_documented_one() -> None:
    assert FLOOR >= 90.0
