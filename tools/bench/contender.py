"""Reads contenders.toml and builds the programs of the contenders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

HERE = Path(__file__).parent
BUILD = HERE / "build"
OURS = "adapter"
"""The contender that every ratio refers to."""

_PLACES = {"python": sys.executable, **{name: str(BUILD / name) for name in ("rust", "go", "js", "relay")}}


class BuildError(Exception):
    """A program cannot be built on this machine. The message is the last output of the tool."""


@dataclass(frozen=True)
class Contender:
    name: str
    title: str
    description: str
    run: list[str]
    """With placeholders, as in the manifest, so that a run's JSON has no path of this machine."""
    build: str = ""
    only: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    size: int | None = None

    @property
    def command(self) -> list[str]:
        return _filled(self.run)


def _filled(arguments: list[str]) -> list[str]:
    return [argument.format(**_PLACES) for argument in arguments]


_MANIFEST: dict[str, Any] = tomllib.loads((HERE / "contenders.toml").read_text())


def load(names: list[str]) -> list[Contender]:
    """Load these contenders, or all. Raises KeyError for an unknown name."""
    known = [name for name in _MANIFEST if name != "build"]
    for name in names:
        if name not in known:
            raise KeyError(f"no contender {name!r}: there are {', '.join(known)}")
    return [_read(name, _MANIFEST[name]) for name in known if not names or name in names]


def _read(name: str, manifest: dict[str, Any]) -> Contender:
    return Contender(
        name=name,
        title=manifest["title"],
        description=manifest["is"],
        run=manifest["run"],
        build=manifest.get("build", ""),
        only=manifest.get("only", []),
        absent=manifest.get("absent", {}),
        size=manifest.get("size"),
    )


def build(name: str, progress: Callable[[str], None]) -> None:
    """Build the programs of one language. Raises BuildError."""
    manifest = _MANIFEST["build"][name]
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    environment = {key: value.format(**_PLACES) for key, value in manifest.get("environment", {}).items()}
    log = folder / "build.log"
    with log.open("wb") as out:
        for step in map(_filled, manifest["steps"]):
            progress(f"{name:6} {' '.join(step)}")
            if shutil.which(step[0]) is None:
                raise BuildError(f"{step[0]} is not installed")
            done = subprocess.run(
                step,
                cwd=HERE / manifest.get("folder", name),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
            )
            if done.returncode:
                last = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise BuildError(f"{' '.join(step)}: {' | '.join(last)}")
