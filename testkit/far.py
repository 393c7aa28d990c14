"""A host in a process of its own, seen from the test that started it.

Starts `host`, sends its commands, keeps their time limits, and ends the process whatever
happens. It knows no transport.
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

from peers.census import Census
from peers.near import IP4

TESTS = Path(__file__).parent.parent


class FarError(Exception):
    """A command failed over there with an error of py-libp2p or the system."""

    def __init__(self, chain: list[dict[str, Any]]) -> None:
        super().__init__(" <- ".join(f"{each['families'][0]}: {each['message']}" for each in chain))
        self.chain = chain

    def codes(self) -> list[int]:
        return [each["code"] for each in self.chain if each["code"] is not None]

    def families(self) -> set[str]:
        return {family for each in self.chain for family in each["families"]}

    def blames_the_network(self) -> bool:
        """Whether nothing was heard in time, or the other side had forgotten the connection
        after it heard nothing."""
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
        told = await self._answer(0, within)
        self.peer, self.addresses = told["peer_id"], told["addresses"]

    async def do(self, command: str, within: float = 20, **arguments: Any) -> Any:
        """The command's result. Raises FarError when it failed, AssertionError when the
        process ended or ``within`` seconds passed."""
        number = next(self._numbers)
        self._waiting[number] = trio.Event()
        assert self.process.stdin is not None
        order = {"id": number, "do": command, **arguments}
        # Several tasks may have orders at once.
        async with self._speaking:
            await self.process.stdin.send_all(json.dumps(order).encode() + b"\n")
        answer = await self._answer(number, within, command)
        if "error" in answer:
            raise FarError(answer["error"])
        return answer["result"]

    async def census(self) -> Census:
        return Census(**{kind: tuple(names) for kind, names in (await self.do("census")).items()})

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
        """SIGKILL: it can say goodbye to nobody."""
        self.process.kill()
        await self.process.wait()

    async def leave(self, within: float = 15) -> None:
        """Close the host in order and see that the program ends in peace."""
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        with trio.move_on_after(within) as scope:
            await self.process.wait()
        assert not scope.cancelled_caught, f"did not leave within {within} s\n{self.complaints()}"
        assert self.process.returncode == 0, self.complaints()

    def complaints(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]


@asynccontextmanager
async def far_host(
    *listen: str,
    transport: str = "ours",
    key: str = "ed25519",
    seed: bytes = b"",
    config: dict[str, Any] | None = None,
    environment: dict[str, str] | None = None,
) -> AsyncIterator[FarHost]:
    """A host in its own process, listening on IPv4 loopback unless told otherwise.

    Two that have the same 32 bytes of ``seed`` are the same peer. ``environment``: variables
    that it has besides ours.
    """
    told = {
        "transport": transport,
        "key": key,
        "seed": seed.hex(),
        "config": config or {},
        "listen": listen or [IP4],
    }
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "peers.host", json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=TESTS,
            env={**os.environ, "PYTHONPATH": str(TESTS.parent), **(environment or {})},
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
