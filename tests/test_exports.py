"""What is public is documented, and nothing else is public.

Public are the names in ``__all__`` and, of their classes, the members without an underscore. The
pages in docs/reference/ are made from the docstrings, so that a member with a docstring has a place
there. `test_documentation` compares the pages with the docstrings, and their names with ``__all__``.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import libp2p_quic
from libp2p_quic import _engine, exceptions
from tools import reference_pages

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
REFERENCE = "".join(path.read_text() for path in PAGES if path.name != "asyncio.md")
STUB = ast.parse((ROOT / "python" / "libp2p_quic" / "_engine.pyi").read_text())

CLASSES = [
    found
    for name in libp2p_quic.__all__
    if isinstance(found := getattr(libp2p_quic, name), type) and found.__module__.startswith("libp2p_quic.")
]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def documented_attributes(body: list[ast.stmt]) -> Iterator[str]:
    """The attributes of a class that a string literal follows."""
    for statement, after in pairwise(body):
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            continue
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        yield from (each.id for each in targets if isinstance(each, ast.Name))


def source_of(cls: type) -> ast.ClassDef:
    (tree,) = ast.parse(inspect.getsource(cls)).body
    assert isinstance(tree, ast.ClassDef)
    return tree


def assigned_to_self(tree: ast.ClassDef) -> set[str]:
    """The attributes that the methods of a class give to its objects."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def test_all_is_what_a_program_finds() -> None:
    private = {name for _, name, _ in pkgutil.iter_modules(libp2p_quic.__path__) if not is_public(name)}
    # A star import must not replace Python's own asyncio, and metrics need a package of their own.
    private |= {"asyncio", "metrics"}
    found = {name for name in dir(libp2p_quic) if is_public(name)} | {"__version__"}
    assert found - private == set(libp2p_quic.__all__)
    assert list(libp2p_quic.__all__) == sorted(libp2p_quic.__all__)


def test_every_public_module_is_in_the_reference() -> None:
    public = {name for _, name, _ in pkgutil.iter_modules(libp2p_quic.__path__) if is_public(name)}
    named = {page.module.__name__.removeprefix("libp2p_quic") for page in reference_pages.PAGES}
    assert {"", *(f".{name}" for name in public)} == named


def test_every_exception_is_exported_twice() -> None:
    assert set(exceptions.__all__) <= set(libp2p_quic.__all__)
    raised = {cls.__name__ for cls in CLASSES if issubclass(cls, Exception)}
    warned = {cls.__name__ for cls in CLASSES if issubclass(cls, Warning)}
    assert raised - warned <= set(exceptions.__all__)
    for name in exceptions.__all__:
        assert getattr(exceptions, name) is getattr(libp2p_quic, name)


@pytest.mark.parametrize("name", sorted(set(libp2p_quic.__all__) - {"__version__"}))
def test_every_public_name_has_a_docstring_of_its_own(name: str) -> None:
    found = getattr(libp2p_quic, name)
    assert found.__dict__.get("__doc__") if isinstance(found, type) else found.__doc__


@pytest.mark.parametrize("cls", CLASSES)
def test_every_public_member_of_a_class_is_documented(cls: type) -> None:
    if cls is libp2p_quic.QUICTransportConfig:
        page = (ROOT / "docs" / "configuration.md").read_text()
        assert not [field.name for field in fields(cls) if f"`{field.name}`" not in page]
        return
    tree = source_of(cls)
    of_attributes = {name for base in cls.__mro__ if base in CLASSES for name in attributes_of(base)}
    methods = {
        name: member
        for name, member in vars(cls).items()
        if callable(member) or isinstance(member, property | classmethod | staticmethod)
    }
    attributes = (assigned_to_self(tree) | set(vars(cls)) | set(annotated(tree))) - set(methods)
    missing = [name for name, member in methods.items() if is_public(name) and not member.__doc__]
    missing += [name for name in attributes if is_public(name) and name not in of_attributes]
    assert missing == []


def attributes_of(cls: type) -> set[str]:
    return set(documented_attributes(source_of(cls).body))


def annotated(tree: ast.ClassDef) -> Iterator[str]:
    for each in tree.body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield each.target.id


@pytest.mark.parametrize("cls", CLASSES)
def test_the_page_of_a_class_shows_its_members(cls: type) -> None:
    entry = re.search(rf"^### {cls.__name__}\n(.*?)(?=^##)", f"{REFERENCE}\n##", re.MULTILINE | re.DOTALL)
    assert entry, f"docs/reference has no {cls.__name__}"
    if cls is libp2p_quic.QUICTransportConfig:
        return
    shown = set(re.findall(r"^```py\n(?:async )?(?:\w+\.)?(\w+)", entry[1], re.MULTILINE))
    members = {name for name in [*vars(cls), *attributes_of(cls)] if is_public(name)}
    assert members <= shown


def test_a_member_without_documentation_is_noticed() -> None:
    tree = source_of(Undocumented)
    assert assigned_to_self(tree) | set(annotated(tree)) == {"told", "silent", "kept"}
    assert list(documented_attributes(tree.body)) == ["told"]


class Undocumented:
    told: int
    """This one is."""
    silent: int

    def __init__(self) -> None:
        self.kept = 1


def test_the_stub_has_what_the_engine_has() -> None:
    """Names only; `stubtest` compares the signatures."""

    def names(module_or_class: ModuleType | type) -> set[str]:
        return {name for name in vars(module_or_class) if is_public(name)}

    classes = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}
    assert set(classes) | functions == names(_engine)
    assert set(_engine.__all__) == set(classes) | functions | {"__version__"}
    for name, tree in classes.items():
        methods = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        promised = {each for each in methods | set(annotated(tree)) if is_public(each)}
        assert promised == names(getattr(_engine, name)), name
