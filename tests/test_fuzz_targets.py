"""The fuzz targets of Rust: each has a program around libFuzzer, and cases to start from."""

from __future__ import annotations

import re

import pytest

from tools.fuzz.targets import HERE, RUST


def test_the_table_has_every_program() -> None:
    programs = re.findall(
        r'^\[\[bin\]\]\nname = "(\w+)"\npath = "src/\1\.rs"$', (HERE / "Cargo.toml").read_text(), re.MULTILINE
    )
    assert sorted(programs) == sorted(RUST)
    assert sorted(path.stem for path in (HERE / "src").glob("*.rs")) == sorted(RUST)


@pytest.mark.parametrize("target", RUST)
def test_every_target_has_cases(target: str) -> None:
    assert [path for path in RUST[target].iterdir() if path.is_file()]
    assert f"`{target}`" in (HERE / "README.md").read_text()
