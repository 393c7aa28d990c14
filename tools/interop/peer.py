"""A peer from the runner's view: its manifest, its build, its description of itself.

The manifest is tools/interop/NAME/peer.toml. Has no cases and no verdicts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trio

from testkit.program import ProgramError, answer_of, kill_group

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

HERE = Path(__file__).parent
BUILD = HERE / "build"
OURS = "ours"
ASYNCIO = "asyncio"
"""The other program of this project. It takes part if it is named: it has no host, and so not every case."""
QUIC = "quic-v1"


class BuildError(Exception):
    """A peer cannot be built on this machine. The message is the last output of the tool."""


class MissingToolError(BuildError):
    """A tool that builds or runs this peer is not installed."""


@dataclass
class Peer:
    """A program of tools/interop/NAME over one transport, and after `build` its features."""

    name: str
    """The program's. `row` is unique."""
    steps: list[list[str]]
    command: list[str]
    build_limit: float
    """Seconds for each step."""
    build_seconds: float = 0
    """About how long a build from nothing computes; 0 if it mostly waits for the network."""
    environment: dict[str, str] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    """Programs that the steps and the command need besides the first one of each step."""
    stack_of: str = ""
    """The project that uses this QUIC stack, if the program is ours and not that project's."""
    transport: str = QUIC
    """The last part of the addresses that it listens on and dials."""
    program: str = ""
    stack: str = ""
    keys: tuple[str, ...] = ()
    can: tuple[str, ...] = ()
    """Its optional features, see README.md."""
    certificates: tuple[str, ...] = ()
    """The kinds of certificate that it supports besides the default."""

    @property
    def row(self) -> str:
        """Its name in the matrix, the arguments and known-defects.toml."""
        return self.name if self.transport == QUIC else f"{self.name}-{self.transport}"

    @property
    def label(self) -> str:
        above = "" if self.transport == QUIC else "WebTransport on "
        return f"{self.program}, {above}{self.stack}"

    @property
    def options(self) -> dict[str, str]:
        """The options of `about` and `listen` that all cases have."""
        return {} if self.transport == QUIC else {"transport": self.transport}

    async def build(self, progress: Callable[[str], None], deadline: float) -> None:
        """Build the program before ``deadline``. Raises BuildError."""
        for tool in self.tools:
            _require(tool)
        folder = BUILD / self.name
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "build.log"
        with log.open("wb") as out:
            for step in self.steps:
                progress(f"{self.name:9} {' '.join(step)}")
                await self._step(step, out.fileno(), log, deadline)

    async def describe(self) -> None:
        """Run the built program's `about`. Raises BuildError."""
        try:
            about = await answer_of([*self.command, "about", *as_arguments(self.options)], limit=30)
        except ProgramError as error:
            raise BuildError(str(error)) from error
        self.program, self.stack = about["program"], about["stack"]
        self.keys, self.can = tuple(about["keys"]), tuple(about["can"])
        self.certificates = tuple(about.get("certificates", ()))

    async def _step(self, step: list[str], out: int, log: Path, deadline: float) -> None:
        _require(step[0])
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
                # A compiler must not outlive the tool that started it.
                start_new_session=True,
                deliver_cancel=_end,
            )
        if scope.cancelled_caught:
            raise BuildError(f"{step[0]} took more than {trio.current_time() - began:.0f} s")
        if done.returncode:
            raise BuildError(f"{' '.join(step)}: {_last_output(log)}")


def as_arguments(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def load(names: list[str] | None = None, subject: str = OURS) -> list[Peer]:
    """All peers with a manifest, by their rows: ours, then the other projects, then our programs on other
    stacks.

    ``subject`` is the program that takes the place of ours. Raises KeyError for an unknown name.
    """
    found = {path.parent.name: path for path in sorted(HERE.glob("*/peer.toml"))}
    if subject not in found:
        raise KeyError(f"no peer {subject!r}: there are {', '.join(sorted(found))}")
    if subject != OURS:
        # The runner knows the subject by the name of ours.
        found[OURS] = found.pop(subject)
    peers = {peer.row: peer for name, path in found.items() for peer in _read(name, path)}
    for name in names or ():
        if name not in (*peers, subject):
            raise KeyError(f"no peer {name!r}: there are {', '.join(sorted(peers))}")
    if names is None:
        chosen = [peer for peer in peers.values() if peer.name != ASYNCIO]
    else:
        transports = {peers[name].transport for name in names if name in peers} or {QUIC}
        ours = {row for row, peer in peers.items() if peer.name == OURS and peer.transport in transports}
        chosen = [peer for row, peer in peers.items() if row in {*ours, *names}]
    return sorted(chosen, key=lambda peer: (peer.name != OURS, bool(peer.stack_of), peer.row))


def _require(tool: str) -> None:
    if shutil.which(tool) is None:
        raise MissingToolError(f"{tool} is not installed")


async def _end(process: trio.Process) -> None:
    kill_group(process)


def _last_output(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def _read(name: str, path: Path) -> list[Peer]:
    """The peer over QUIC, and over each further transport that its program has."""
    manifest: dict[str, Any] = tomllib.loads(path.read_text())
    places = {"python": sys.executable, "here": str(path.parent), "build": str(BUILD / name)}

    def filled(command: list[str]) -> list[str]:
        return [part.format(**places) for part in command]

    peer = Peer(
        name=name,
        steps=[filled(step) for step in manifest.get("build", [])],
        command=filled(manifest["run"]),
        build_limit=manifest.get("build_limit", 600),
        build_seconds=manifest.get("build_seconds", 0),
        tools=tuple(manifest.get("tools", ())),
        stack_of=manifest.get("stack_of", ""),
        environment={key: value.format(**places) for key, value in manifest.get("environment", {}).items()},
    )
    return [peer, *(replace(peer, transport=each) for each in manifest.get("transports", ()))]
