"""The adapter is a tree, and one package waits for the engine. Read from the source text.

Which layer may import which libraries is in test_code_quality_and_lint.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "libp2p_quic"

# Each makes objects of the next ones, and none knows an earlier one.
TREE = [
    "_install",
    "_webtransport",
    "_transport",
    "_listener",
    "_connection",
    "_stream",
    "_endpoint",
    "_gates",
]

# They know no event loop, so that an adapter for another loop can use them.
LOOP_FREE = [
    "_addr",
    "_callback",
    "_causes",
    "_webtransport_address",
    "_config",
    "_config_table",
    "_dial_attempt",
    "_dial_counts",
    "_dial_progress",
    "_engine_errors",
    "_error_mapping",
    "_exception_types",
    "_field_names",
    "_gate",
    "_happy_eyeballs",
    "_host_key",
    "_last_failures",
    "_limited_dials",
    "_sockaddr",
    "_state",
    "_statistics",
    "_throttle",
    "_tls_parameters",
    "_refusal_delay",
    "exceptions",
    "metrics",
]
EVENT_LOOPS = {"anyio", "asyncio", "trio"}

# Suspends or wakes a task, watches a descriptor, or moves what waits in the engine. Only `_driver` may.
WAITING = {
    "ReadyQueue",
    "add_instrument",
    "drain",
    "fileno",
    "flush",
    "reschedule",
    "wait_readable",
    "wait_task_rescheduled",
}
# The command also has them of files and standard streams.
OF_FILES = {"fileno", "flush"}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def modules() -> dict[str, Path]:
    """The package's modules by their name below it, such as ``_driver._trio``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__") if parts != ("__init__",) else ""] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The full name of every import, also under TYPE_CHECKING and inside of functions."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def below(name: str, among: set[str]) -> set[str]:
    """The modules of the package that one imports."""
    found = set()
    for each in imported(modules()[name]):
        parts = each.split(".")
        if parts[0] == "libp2p_quic":
            longest = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
            found |= {next((each for each in longest if each in among), "")} - {name, ""}
    return found


def graph() -> dict[str, set[str]]:
    names = set(modules())
    # A package imports its own parts where it must not do so at its import.
    return {name: {each for each in below(name, names) if not each.startswith(f"{name}.")} for name in names}


def reached(start: str, edges: dict[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [start]
    while waiting:
        for each in edges[waiting.pop()] - found:
            found.add(each)
            waiting.append(each)
    return found


def test_no_module_imports_one_that_imports_it() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize(("upper", "lower"), list(pairwise(TREE)))
def test_the_adapter_is_a_tree(upper: str, lower: str) -> None:
    edges = graph()
    assert lower in reached(upper, edges)
    assert upper not in reached(lower, edges)


def test_nothing_is_imported_for_its_type_only() -> None:
    """What a module may know only by type is above it. The package itself imports its names on first use."""
    wrong = [
        f"{path.name}:{node.lineno}"
        for name, path in modules().items()
        if name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for each in ast.walk(node)
        if isinstance(each, ast.Import | ast.ImportFrom)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", LOOP_FREE)
def test_modules_without_a_loop_import_none(name: str) -> None:
    edges, paths = graph(), modules()
    for each in {name} | reached(name, edges):
        loops = {found.split(".")[0] for found in imported(paths[each])} & EVENT_LOOPS
        assert not loops, f"{each} imports {loops}"


def test_only_the_driver_waits_for_the_engine() -> None:
    wrong = [
        f"{name}: {used}"
        for name, path in modules().items()
        if not name.startswith("_driver")
        for node in ast.walk(tree_of(path))
        if (used := node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)) in WAITING
        if not (name.startswith("_command") and used in OF_FILES)
    ]
    assert wrong == []
