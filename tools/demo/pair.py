"""Runs two processes, a listener and a dialer, and enforces every time limit of the demonstration.

Starts them, reads their reports, and always ends them. It knows no transport and prints nothing: results
go to a `Watcher`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any, Protocol

import trio

LIMITS = {"start": 60.0, "connect": 30.0, "ping": 60.0, "transfer": 300.0, "leave": 20.0}
"""Seconds that each step may take."""


class StepError(Exception):
    """A step of the demonstration failed; the message says which and why."""


class Watcher(Protocol):
    """Gets each result and the progress during the run."""

    def say(self, label: str, text: str) -> None: ...
    def progress(self, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class Figures:
    """What one pair of processes achieved. Seconds and bytes."""

    connect: float
    ping: float
    moved: int
    seconds: float

    @property
    def gigabits(self) -> float:
        """Gbit/s, by the receiver's clock."""
        return self.moved * 8 / self.seconds / 1e9


class Peer:
    """A started process and what it has reported."""

    def __init__(self, name: str, process: trio.Process, errors: IO[bytes]) -> None:
        self.name = name
        self._process = process
        self._errors = errors
        self._unread = b""

    async def report(self, *expected: str) -> dict[str, Any]:
        """The next report, which must be one of those expected."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            chunk = await self._process.stdout.receive_some()
            if not chunk:
                raise self._ended(await self._process.wait())
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        report: dict[str, Any] = json.loads(line)
        if report["event"] not in expected:
            raise StepError(f"the {self.name} reported {report['event']!r} instead of {expected}")
        return report

    async def leave(self) -> None:
        """Close the process's standard input, and require that it exits with status 0."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        status = await self._process.wait()
        if status != 0:
            raise self._ended(status)

    def _ended(self, status: int) -> StepError:
        self._errors.seek(0)
        complaints = self._errors.read().decode(errors="replace").splitlines()[-15:]
        return StepError("\n  ".join([f"the {self.name} ended with status {status}", *complaints]))


@asynccontextmanager
async def _start(name: str, *arguments: str) -> AsyncIterator[Peer]:
    with tempfile.TemporaryFile() as errors:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tools.demo.peer", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # Only the parent gets Ctrl-C, and then ends its children in order.
            start_new_session=True,
        )
        try:
            yield Peer(name, process, errors)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def _step(name: str) -> AsyncIterator[None]:
    try:
        with trio.fail_after(LIMITS[name]):
            yield
    except trio.TooSlowError:
        raise StepError(f"{name} took longer than {LIMITS[name]:.0f} s") from None


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise StepError(complaint)


async def run_pair(transport: str, size: int, pings: int, port: int, watcher: Watcher) -> Figures:
    """Run both processes on one transport. Raises StepError if a step fails."""
    common = ("--transport", transport)
    async with _start("listener", *common, "listen", "--port", str(port)) as listener:
        async with _step("start"):
            here = await listener.report("listening")
        watcher.say("listener", here["peer_id"])
        watcher.say("", here["address"])

        dial = ("dial", "--address", here["address"], "--size", str(size), "--pings", str(pings))
        async with _start("dialer", *common, *dial) as dialer:
            async with _step("start"):
                there = await dialer.report("dialing")
            watcher.say("dialer", there["peer_id"])

            async with _step("connect"):
                connected = await dialer.report("connected")
            _require(connected["peer_id"] == here["peer_id"], "another peer answered")
            watcher.say("dial", f"{connected['seconds'] * 1e3:.2f} ms")

            async with _step("ping"):
                pinged = await dialer.report("pinged")
            ping = statistics.median(pinged["seconds"])
            watcher.say("ping p50", f"{ping * 1e3:.3f} ms over {pings} round trips")

            async with _step("transfer"):
                watcher.progress(0, size)
                received = await listener.report("progress", "received")
                while received["event"] == "progress":
                    watcher.progress(received["bytes"], size)
                    received = await listener.report("progress", "received")
                watcher.progress(received["bytes"], size)
                answered = await dialer.report("answered")
            _require(received["bytes"] == size, f"{received['bytes']} of {size} bytes arrived")
            _require(received["intact"], "the receiver's SHA-256 differs from the sender's")
            _require(answered["intact"], "the receiver reported another SHA-256")
            watcher.say("sha-256", f"{received['sha256'][:16]}… equal at both ends")

            figures = Figures(connected["seconds"], ping, size, received["seconds"])
            watcher.say("goodput", f"{figures.gigabits:.3f} Gbit/s in {figures.seconds:.2f} s")
            async with _step("leave"):
                await dialer.leave()
                await listener.leave()
    return figures
