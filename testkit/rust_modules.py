"""Which files of a Rust crate name which: the graph of ``use`` declarations and paths between them.

A path counts for the file that defines the item, not for the file that re-exports it. Test modules do not
count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

Module = tuple[str, ...]
Graph = dict[Module, set[Module]]

_TOKEN = re.compile(r"\s*(\w+|::|[{},*])")
_USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
_PATH = re.compile(r"\b(?:crate|super)(?:::\w+)+")
_ROOTS = {"crate", "self", "super"}


def _leaves(tokens: Iterator[str], prefix: Module) -> Iterator[Module]:
    """The full paths of a use tree, up to the brace that closes it."""
    path = prefix
    renames = False
    for token in tokens:
        if token == "{":
            yield from _leaves(tokens, path)
            path = ()
        elif token in ",}":
            if len(path) > len(prefix):
                yield path
            if token == "}":
                return
            path, renames = prefix, False
        elif token == "as":
            renames = True
        elif token != "::" and not renames:
            path = (*path, token)
    if len(path) > len(prefix):
        yield path


def use_paths(tree: str) -> list[Module]:
    """The paths that a use declaration names: ``a::{b, c as d}`` is ``a::b`` and ``a::c``."""
    return list(_leaves(iter(_TOKEN.findall(tree)), ()))


def _source(path: Path) -> str:
    text = re.sub(r"//.*", "", path.read_text())
    return re.split(r"#\[cfg\(test\)\]\s*mod \w+ \{", text)[0]


def _module(path: Path, root: Path) -> Module:
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] in {"lib", "mod"} else parts


class _Crate:
    def __init__(self, root: Path) -> None:
        self.sources = {_module(path, root): _source(path) for path in sorted(root.rglob("*.rs"))}
        # What a file re-exports, and where that is.
        self.exported: dict[Module, Module] = {}
        for module, text in self.sources.items():
            for public, tree in _USE.findall(text):
                for path in use_paths(tree) if public else []:
                    name = (*module, path[-1])
                    if absolute := self._absolute(module, path):
                        self.exported[name] = absolute

    def _absolute(self, module: Module, path: Module) -> Module | None:
        """The path from the root of the crate; none for a path into another crate."""
        if path[0] not in _ROOTS:
            return (*module, *path) if (*module, path[0]) in self.sources else None
        at = () if path[0] == "crate" else module
        for step in path:
            if step == "super":
                at = at[:-1]
            elif step not in _ROOTS:
                break
        return (*at, *(step for step in path if step not in _ROOTS))

    def _file(self, path: Module) -> Module | None:
        """The file that defines what this path names; none outside of the folder."""
        seen: set[Module] = set()
        while path not in seen:
            seen.add(path)
            for length in range(len(path), 0, -1):
                if target := self.exported.get(path[:length]):
                    path = (*target, *path[length:])
                    break
        prefixes = (path[:length] for length in range(len(path), -1, -1))
        return next((prefix for prefix in prefixes if prefix in self.sources), None)

    def graph(self) -> Graph:
        graph: Graph = {}
        for module, text in self.sources.items():
            trees = [use_paths(tree) for public, tree in _USE.findall(text) if not public]
            rest = _USE.sub("", text)
            paths = [path for tree in trees for path in tree] + [
                tuple(path.split("::")) for path in _PATH.findall(rest)
            ]
            named = (self._file(target) for path in paths if (target := self._absolute(module, path)))
            graph[module] = {file for file in named if file is not None and file != module}
        return graph


def graph(root: Path) -> Graph:
    """File -> the files of the crate with this source folder that it names, both as module paths."""
    return _Crate(root).graph()


def cycles(graph: Graph) -> list[list[Module]]:
    """The groups of files in which each reaches every other, sorted."""

    def reached(start: Module) -> set[Module]:
        found: set[Module] = set()
        waiting = [start]
        while waiting:
            for target in graph.get(waiting.pop(), set()) - found:
                found.add(target)
                waiting.append(target)
        return found

    reach = {module: reached(module) for module in graph}
    groups = {
        tuple(sorted(other for other in graph if other in reach[module] and module in reach[other]))
        for module in graph
        if module in reach[module]
    }
    return sorted(map(list, groups))
