"""The glossary has every public type of the engine and of webtransport, and every class of Python.

Errors and warnings are left out: docs/reference/exceptions.md describes the public ones, and their names say
the rest.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs" / "dev" / "glossary.md").read_text()
# Field names that need no explanation.
PLAIN = {"Config"}


def names(folder: str, pattern: str, suffixes: tuple[str, ...]) -> set[str]:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    assert files, f"{folder} has no source files"
    found = {name for path in files for name in re.findall(pattern, path.read_text(), re.MULTILINE)}
    return {name for name in found - PLAIN if not name.startswith("_")}


def unexplained(found: set[str]) -> list[str]:
    explained = set(re.findall(r"`(\w+)`", GLOSSARY))
    return sorted(name for name in found - explained if not name.endswith(("Error", "Warning")))


@pytest.mark.parametrize(("crate", "least"), [("engine", 20), ("webtransport", 10)])
def test_every_public_type_of_a_crate_is_in_the_glossary(crate: str, least: int) -> None:
    found = names(f"crates/{crate}/src", r"^pub (?:struct|enum|trait|type) (\w+)", (".rs",))
    assert len(found) > least
    assert unexplained(found) == []


def test_every_class_of_the_package_is_in_the_glossary() -> None:
    found = names("python/libp2p_quic", r"^class (\w+)", (".py", ".pyi"))
    assert len(found) > 20
    assert unexplained(found) == []
