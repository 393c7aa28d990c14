"""The code keeps its structure: linters pass, imports point down the layers, files stay small.

All checks read source text; the package is not imported.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit import rust_modules

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "libp2p_quic"
ENGINE = ROOT / "crates" / "engine"
MAX_LINES = 600
BANNED_STEMS = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

# Layer -> what it may import besides the standard library.
PYTHON_LAYERS: dict[str, tuple[list[Path], set[str]]] = {
    "adapter": (
        [path for path in PACKAGE.glob("*.py") if path.name not in ("_engine_errors.py", "metrics.py")],
        {"libp2p", "libp2p_quic", "multiaddr", "trio"},
    ),
    "metrics": ([PACKAGE / "metrics.py"], {"libp2p_quic", "prometheus_client"}),
    "command": (sorted(PACKAGE.glob("_command/*.py")), {"click", "libp2p_quic", "rich", "segno"}),
    "asyncio": (sorted(PACKAGE.glob("asyncio/**/*.py")), {"libp2p_quic"}),
    "hole punching": (
        sorted(PACKAGE.glob("_hole_punching/*.py")),
        {"google.protobuf", "libp2p", "libp2p_quic", "multiaddr", "trio"},
    ),
    "driver": (
        sorted(PACKAGE.glob("_driver/**/*.py")),
        {"libp2p_quic._driver", "libp2p_quic._engine", "libp2p_quic._engine_errors", "outcome", "trio"},
    ),
    "errors": ([PACKAGE / "_engine_errors.py"], set()),
    "stub": ([PACKAGE / "_engine.pyi"], {"libp2p_quic._engine_errors"}),
}

# Part of the engine -> modules of the crate that it must not name.
ENGINE_PARTS: dict[str, set[str]] = {
    "driver": {"blocking", "endpoint", "simulation"},
    "host_key": {"connection", "driver", "endpoint", "identity", "listener", "simulation", "stream", "tls"},
    "tls": {"blocking", "connection", "driver", "endpoint", "listener", "queue", "simulation", "stream"},
}


# The folders that `make lint` checks.
(_CODE,) = re.findall(r"^CODE := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
CODE: list[str] = _CODE.split()

LINTERS = {
    "format": ["ruff", "format", "--check", *CODE],
    "lint": ["ruff", "check", "--no-cache", *CODE],
    "format of Rust": ["cargo", "fmt", "--all", "--check"],
}


def output_of_failure(command: list[str]) -> str:
    """The output of a linter that fails; empty if it succeeds."""
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return finished.stdout + finished.stderr if finished.returncode else ""


def beside_python(program: str) -> str:
    """A program of the virtual environment that runs this."""
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found, f"no {program}: make setup"
    return found


@pytest.mark.parametrize("linter", LINTERS)
def test_linters_pass(linter: str) -> None:
    program, *arguments = LINTERS[linter]
    command = [program if program == "cargo" else beside_python(program), *arguments]
    assert output_of_failure(command) == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_types_hold() -> None:
    assert output_of_failure([beside_python("mypy"), *CODE]) == ""


def test_linters_notice(tmp_path: Path) -> None:
    """They read this project's settings: ruff allows a blind except by default."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("try:\n    pass\nexcept Exception:\n    pass\n")
    output = output_of_failure(
        [beside_python("ruff"), "check", "--config", str(ROOT / "pyproject.toml"), str(wrong)]
    )
    assert "BLE001" in output


def test_every_folder_with_code_is_linted() -> None:
    holding = {path.relative_to(ROOT).parts[0] for path in sources(".py")}
    assert holding <= set(CODE)


def sources(*suffixes: str) -> list[Path]:
    """The project's own files with these suffixes."""
    tops = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    made = {"build", "coverage", "node_modules", "target"}
    found = (path for top in tops for path in (ROOT / top).rglob("*") if path.suffix in suffixes)
    return sorted(path for path in found if made.isdisjoint(path.relative_to(ROOT).parts))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), named(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of every import; ``from a import b`` counts as ``a.b``."""
    package = ".".join(path.relative_to(ROOT / "python").parent.parts)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (origin, node.module) if part)
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("layer", PYTHON_LAYERS)
def test_python_layers_import_only_lower_layers(layer: str) -> None:
    files, allowed = PYTHON_LAYERS[layer]
    assert files, f"the layer {layer} has no files"
    wrong = [
        f"{named(path)}:{line} imports {name}"
        for path in files
        for line, name in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names
        and not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)
    ]
    assert not wrong, "\n".join(wrong)


def dependencies() -> dict[str, set[str]]:
    """Crate -> the crates it depends on outside its tests, according to cargo."""
    command = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return {
        package["name"]: {item["name"] for item in package["dependencies"] if item["kind"] != "dev"}
        for package in metadata["packages"]
    }


def test_crates_depend_downwards() -> None:
    crates = dependencies()
    assert crates["libp2p-quic-binding"] <= {"libp2p-quic-engine", "parking_lot", "pyo3", "tracing"}
    assert not crates["libp2p-quic-engine"] & {"async-std", "libp2p-quic-binding", "pyo3", "smol", "tokio"}
    # The relay depends on no other crate: a benchmark's network must not change with what is measured.
    assert crates["libp2p-quic-relay"] <= {"quinn-udp", "rustix", "socket2"}
    assert crates["libp2p-quic-faults"] <= {"libc"}
    assert crates["libp2p-quic-webtransport"] == set()
    # Noise knows neither QUIC nor host keys: it is bytes and callbacks.
    assert crates["libp2p-quic-noise"] <= {"aws-lc-rs", "snow", "thiserror"}


def crate_modules(path: Path) -> set[str]:
    """The modules of the crate that a Rust file names after ``crate::``."""
    text = re.sub(r"//.*", "", path.read_text())
    found = set(re.findall(r"\bcrate::(\w+)", text))
    for group in re.findall(r"\bcrate::\{(.*?)\};", text, re.DOTALL):
        while re.search(r"\{[^{}]*\}", group):
            group = re.sub(r"\{[^{}]*\}", "", group)
        found |= set(re.findall(r"(?:^|,)\s*(\w+)", group))
    return found


@pytest.mark.parametrize("part", ENGINE_PARTS)
def test_engine_parts_do_not_reach_up(part: str) -> None:
    # A file of tests drives its part as a program does, from above.
    files = sorted(path for path in (ENGINE / "src" / part).rglob("*.rs") if path.name != "tests.rs")
    assert files, f"the engine's {part} has no files"
    wrong = [
        f"{named(path)} names crate::{module}"
        for path in files
        for module in sorted(crate_modules(path) & ENGINE_PARTS[part])
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("crate", ["binding", "engine", "faults", "noise", "relay", "webtransport"])
def test_files_of_a_crate_do_not_use_each_other_in_circles(crate: str) -> None:
    graph = rust_modules.graph(ROOT / "crates" / crate / "src")
    assert any(graph.values()), f"no file of {crate} uses another"
    wrong = [
        f"{'::'.join(module)} uses {'::'.join(target)}"
        for circle in rust_modules.cycles(graph)
        for module in circle
        for target in sorted(graph[module] & set(circle))
    ]
    assert not wrong, "\n".join(wrong)


def test_circles_are_found_through_groups_renames_and_reexports(tmp_path: Path) -> None:
    for name, text in {
        "lib.rs": "mod a; mod b; mod c; mod d;",
        "a.rs": "use crate::{b::{Leaf as Other, deep::Thing}, c};",
        "b/mod.rs": "mod deep;\npub(crate) use self::deep::Thing;\nuse std::fmt;",
        "b/deep.rs": "use super::super::d::D; // use crate::a::A;",
        "c.rs": "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}",
        "d.rs": "fn f() { crate::b::Thing::new(); }",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    graph = rust_modules.graph(tmp_path)
    assert graph[("a",)] == {("b",), ("b", "deep"), ("c",)}
    assert rust_modules.cycles(graph) == [[("b", "deep"), ("d",)]]


def test_quinn_is_named_only_where_it_is_driven() -> None:
    # `config`, `congestion`, `qlog` and `tls` make what quinn is configured with; sockets are the driver's
    # alone, and the simulation's, which is another network for the same driver.
    allowed = {
        "quinn_proto": {"config", "congestion", "driver", "qlog", "simulation", "tls"},
        "quinn_udp": {"driver", "simulation"},
    }
    wrong = [
        f"{named(path)} names {crate}"
        for path in (ENGINE / "src").rglob("*.rs")
        for crate, parts in allowed.items()
        if path.relative_to(ENGINE / "src").parts[0].removesuffix(".rs") not in parts
        and re.search(rf"\b{crate}::", re.sub(r"//.*", "", path.read_text()))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("crate", ["engine", "noise", "relay", "webtransport"])
def test_no_unsafe_code(crate: str) -> None:
    assert "#![forbid(unsafe_code)]" in (ROOT / "crates" / crate / "src" / "lib.rs").read_text()


# File -> the number of its blind excepts, around calls of application code.
CALLS_APPLICATION_CODE = {"python/libp2p_quic/_callback.py": 1, "python/libp2p_quic/_driver/_log.py": 1}


def test_blind_excepts_are_only_around_application_code() -> None:
    blind = {"Exception", "BaseException"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(tree_of(path)):
            caught: ast.AST | None = None
            if isinstance(node, ast.ExceptHandler):
                caught = node.type or ast.Name("BaseException")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught = ast.Tuple(node.args)
            names = {each.id for each in ast.walk(caught) if isinstance(each, ast.Name)} if caught else set()
            if names & blind:
                found.append(named(path))
    assert Counter(found) == CALLS_APPLICATION_CODE


def test_no_test_sleeps_to_synchronize() -> None:
    """A pause that *is* the scenario says so on its line: ``# scenario: the reader is slow``."""
    pause = re.compile(r"\b(?:trio|time|asyncio|thread)(?:\.|::)sleep(?:_until)?\(|^\s*(?:await\s+)?sleep\(")
    roots = (ROOT / "python", ROOT / "tests", ROOT / "crates")
    wrong = [
        f"{named(path)}:{number}: {line.strip()}"
        for path in sources(".py", ".rs")
        if any(root in path.parents for root in roots)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pause.search(line) and not re.search(r"(?:#|//) scenario: \w", line)
    ]
    assert not wrong, "\n".join(wrong)


def test_files_are_small_have_names_and_an_opening_docstring() -> None:
    wrong = []
    for path in sources(".py", ".pyi", ".rs"):
        text = path.read_text()
        if text.count("\n") > MAX_LINES:
            wrong.append(f"{named(path)} has more than {MAX_LINES} lines")
        if path.stem in BANNED_STEMS:
            wrong.append(f"{named(path)} has a name that says nothing")
        opening = text.startswith("//!") if path.suffix == ".rs" else ast.get_docstring(ast.parse(text))
        if text.strip() and not opening:
            wrong.append(f"{named(path)} has no opening docstring or comment")
    assert not wrong, "\n".join(wrong)
