"""A peer from the runner's view: its manifest, its build, its description of itself.

The manifest is tools/interop/NAME/peer.toml. Has no cases and no verdicts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from testkit.program import ProgramError, answer_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

HERE = Path(__file__).parent
BUILD = HERE / "build"
OURS = "ours"
ASYNCIO = "asyncio"
"""The other program of this project. It takes part if it is named: it has no host, and so not every case."""


class BuildError(Exception):
    """A peer cannot be built on this machine. The message is the last output of the tool."""


class MissingToolError(BuildError):
    """The tool that builds this peer is not installed."""


@dataclass
class Peer:
    """A program of tools/interop/NAME, and after `build` its features."""

    name: str
    steps: list[list[str]]
    command: list[str]
    build_limit: float
    environment: dict[str, str] = field(default_factory=dict)
    stack_of: str = ""
    """The project that uses this QUIC stack, if the program is ours and not that project's."""
    program: str = ""
    stack: str = ""
    keys: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    """Its optional features, see README.md."""
    certificates: tuple[str, ...] = ()
    """The kinds of certificate that it supports besides the default."""

    @property
    def label(self) -> str:
        return f"{self.program}, {self.stack}"

    async def build(self, progress: Callable[[str], None], deadline: float) -> None:
        """Build the program and run its `about` before ``deadline``. Raises BuildError."""
        folder = BUILD / self.name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "build.log"
        with log.open("wb") as out:
            for step in self.steps:
                progress(f"{self.name:9} {' '.join(step)}")
                await self._step(step, out.fileno(), log, deadline)
        try:
            about = await answer_of([*self.command, "about"], limit=30)
        except ProgramError as error:
            raise BuildError(str(error)) from error
        self.program, self.stack = about["program"], about["stack"]
        self.keys, self.can = tuple(about["keys"]), tuple(about["can"])
        self.certificates = tuple(about.get("certificates", ()))

    async def _step(self, step: list[str], out: int, log: Path, deadline: float) -> None:
        if shutil.which(step[0]) is None:
            raise MissingToolError(f"{step[0]} is not installed")
        environment = {**os.environ, **self.environment}
        began = trio.current_time()
        with trio.move_on_at(min(deadline, began + self.build_limit)) as scope:
            done = await trio.run_process(
                ["nice", "-n", "10", *step],
                cwd=HERE / self.name,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                check=False,
            )
        if scope.cancelled_caught:
            raise BuildError(f"{step[0]} took more than {trio.current_time() - began:.0f} s")
        if done.returncode:
            raise BuildError(f"{' '.join(step)}: {_last_output(log)}")


def load(names: list[str] | None = None, subject: str = OURS) -> list[Peer]:
    """All peers with a manifest: ours, then the other projects, then our programs on other stacks.

    ``subject`` is the program that takes the place of ours. Raises KeyError for an unknown name.
    """
    found = {path.parent.name: path for path in sorted(HERE.glob("*/peer.toml"))}
    for name in (subject, *(names or ())):
        if name not in found:
            raise KeyError(f"no peer {name!r}: there are {', '.join(sorted(found))}")
    if subject != OURS:
        # The runner knows the subject by the name of ours.
        found[OURS] = found.pop(subject)
    wanted = set(found) - {ASYNCIO} if names is None else {OURS, *names}
    peers = [_read(name, path) for name, path in found.items() if name in wanted]
    return sorted(peers, key=lambda peer: (peer.name != OURS, bool(peer.stack_of), peer.name))


def _last_output(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def _read(name: str, path: Path) -> Peer:
    manifest: dict[str, Any] = tomllib.loads(path.read_text())
    places = {"python": sys.executable, "here": str(path.parent), "build": str(BUILD / name)}

    def filled(command: list[str]) -> list[str]:
        return [part.format(**places) for part in command]

    return Peer(
        name=name,
        steps=[filled(step) for step in manifest.get("build", [])],
        command=filled(manifest["run"]),
        build_limit=manifest.get("build_limit", 600),
        stack_of=manifest.get("stack_of", ""),
        environment={key: value.format(**places) for key, value in manifest.get("environment", {}).items()},
    )
