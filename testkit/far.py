"""Runs a host in a process of its own and controls it from the test that started it.

Starts `host`, sends its commands, enforces their time limits, and always ends the process. Knows no
transport.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

import trio
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from testkit.census import PATIENCE, Census
from testkit.machines import Machine
from testkit.near import IP4

ROOT = Path(__file__).parent.parent


class FarError(Exception):
    """A command failed in the far process with an error of py-libp2p or of the system."""

    def __init__(self, chain: list[dict[str, Any]]) -> None:
        super().__init__(" <- ".join(f"{each['families'][0]}: {each['message']}" for each in chain))
        self.chain = chain

    def codes(self) -> list[int]:
        return [each["code"] for each in self.chain if each["code"] is not None]

    def families(self) -> set[str]:
        return {family for each in self.chain for family in each["families"]}

    def blames_the_network(self) -> bool:
        """Whether a timeout ended the connection, here or at the peer, which then answers with a stateless
        reset."""
        kinds = {"handshake_timeout", "idle_timeout", "stateless_reset"}
        unanswered = "MultiselectClientError" in self.families() and "timed out" in str(self)
        return unanswered or any(each["kind"] in kinds for each in self.chain)


class FarHost:
    """A running far host. `do` sends any command of `host.Commands`."""

    def __init__(self, process: trio.Process, errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors
        self._answers: dict[int, dict[str, Any]] = {}
        self._waiting: dict[int, trio.Event] = {0: trio.Event()}
        self._numbers = count(1)
        self._speaking = trio.Lock()
        self._has_ended = False
        self.peer = ""
        self.addresses: list[str] = []

    @property
    def peer_id(self) -> ID:
        return ID.from_string(self.peer)

    @property
    def info(self) -> PeerInfo:
        return PeerInfo(self.peer_id, [Multiaddr(address) for address in self.addresses])

    async def begin(self, within: float) -> None:
        started = await self._answer(0, within)
        self.peer, self.addresses = started["peer_id"], started["addresses"]
        assert started["is_listening"], f"does not listen\n{self.complaints()}"

    async def do(self, command: str, within: float = 20, **arguments: Any) -> Any:
        """The command's result. Raises FarError when it failed, AssertionError when the
        process ended or ``within`` seconds passed."""
        number = next(self._numbers)
        self._waiting[number] = trio.Event()
        assert self.process.stdin is not None
        order = {"id": number, "do": command, **arguments}
        # Several tasks may send commands at once.
        async with self._speaking:
            try:
                await self.process.stdin.send_all(json.dumps(order).encode() + b"\n")
            except trio.BrokenResourceError as error:
                raise AssertionError(f"the far host ended before {command}\n{self.complaints()}") from error
        answer = await self._answer(number, within, command)
        if "error" in answer:
            raise FarError(answer["error"])
        return answer["result"]

    async def census(self) -> Census:
        return Census(**{kind: tuple(names) for kind, names in (await self.do("census")).items()})

    async def census_of(self, connections: int) -> Census:
        """What it has in use with `connections` connections and no stream of a peer or of identify.

        The tasks of a connection that is just ending would hide as many that are left later.
        """
        held, counted = await self.do("usage"), await self.census()
        with trio.move_on_after(PATIENCE):
            while not _is_quiet(held, counted, connections):
                held, counted = await self.do("usage"), await self.census()
        assert _is_quiet(held, counted, connections), (
            f"not quiet within {PATIENCE} s: {held}, {counted.tasks}"
        )
        return counted

    async def left_since(self, before: Census, within: float = PATIENCE) -> dict[str, list[str]]:
        """What it has now and had not then, once it had time to go.

        Each look counts, none is repeated: py-libp2p starts tasks that end in the same scheduler
        pass (`Swarm._notify`), and a second look may see others.
        """
        left = (await self.census()).beyond(before)
        with trio.move_on_after(within):
            while left:
                left = (await self.census()).beyond(before)
        return left

    async def _answer(self, number: int, within: float, command: str = "start") -> dict[str, Any]:
        with trio.move_on_after(within) as scope:
            await self._waiting[number].wait()
        assert not scope.cancelled_caught, f"{command} took longer than {within} s\n{self.complaints()}"
        assert number in self._answers, f"the far host ended during {command}\n{self.complaints()}"
        return self._answers.pop(number)

    async def listen_to_it(self) -> None:
        assert self.process.stdout is not None
        unread = b""
        async for chunk in self.process.stdout:
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["id"]] = answer
                self._waiting.pop(answer["id"]).set()
        for event in self._waiting.values():
            event.set()

    async def kill(self) -> None:
        """SIGKILL, so that its connections are not closed."""
        self.process.kill()
        await self.process.wait()

    async def leave(self, within: float = 15) -> None:
        """Close the host, and assert that its program ends with status 0."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        with trio.move_on_after(within) as scope:
            await self.process.wait()
        assert not scope.cancelled_caught, f"did not leave within {within} s\n{self.complaints()}"
        assert self.process.returncode == 0, self.complaints()

    def complaints(self) -> str:
        # The descriptor is the process's too: only pread leaves its position alone.
        descriptor = self._errors.fileno()
        text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        return text.decode(errors="replace")[-4000:]


def _is_quiet(held: dict[str, int], counted: Census, connections: int) -> bool:
    # The engine's count of streams has those, too, that it opens ahead of need.
    serving = ("SwarmConn._handle_muxed_stream", "identify")
    is_serving = any(name in task for task in counted.tasks for name in serving)
    return held["keepers"] == held["connections"] == connections and not is_serving


@asynccontextmanager
async def far_host(
    *listen: str,
    transport: str = "ours",
    key: str = "ed25519",
    seed: bytes = b"",
    config: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
    machine: Machine | None = None,
) -> AsyncIterator[FarHost]:
    """A host in its own process, listening on IPv4 loopback by default.

    Two that have the same 32 bytes of ``seed`` are the same peer. ``environment``: variables in addition to
    those of this process. ``machine``: the network namespace that it runs in.
    """
    settings = {
        "transport": transport,
        "key": key,
        "seed": seed.hex(),
        "config": config or {},
        "listen": listen or [IP4],
    }
    command = [sys.executable, "-m", "testkit.host", json.dumps(settings)]
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            machine.command(command) if machine is not None else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        try:
            far = FarHost(process, errors)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(far.listen_to_it)
                await far.begin(within=60)
                yield far
                nursery.cancel_scope.cancel()
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)
