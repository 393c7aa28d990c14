"""Runs the matrix: which peer dials which, which cases run concurrently, and the results.

The cases of a peer begin as soon as it is built, while others are still being built. Listeners are started
once and shared by all cases that need the same kind; each case has its own dialer process. Defines no cases
and prints nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import trio

from testkit.program import Line, Program, ProgramError, running
from tools.interop.case import Absent, Case, Failed
from tools.interop.peer import HERE, OURS, QUIC, Peer, as_arguments

if TYPE_CHECKING:
    from trio import TaskStatus  # type: ignore[attr-defined]

Outcome = Literal["green", "red", "absent", "unbuilt"]
Direction = Literal["we dial", "they dial"]
DIRECTIONS: tuple[Direction, ...] = ("we dial", "they dial")

_START_LIMIT = 30.0
"""Seconds until a listener must have printed its addresses, on a busy machine."""
_QUIET_JOBS = 8
"""The number of concurrent cases that mostly wait. Their programs start concurrently, too."""
_END_LIMIT = 2.0
"""Seconds in which a dialer that has answered may still send its close and last bytes."""
_EVENT_LIMIT = 10.0
"""Seconds in which a listener must report events that the dialer has already reported."""


@dataclass(frozen=True)
class Result:
    """One cell: one case, one direction."""

    peer: str
    """Its row."""
    direction: Direction
    case: str
    outcome: Outcome
    seconds: float
    evidence: str = ""
    """Why it is not green, or a remark on a green cell."""
    themselves: str = ""
    """For a red cell: the result of the same case between two instances of the peer."""


class Listening:
    """A running listener, and the events that it reports."""

    def __init__(self, program: Program, said: Line) -> None:
        self.program = program
        self.peer: str = said["peer"]
        self.address: str = said["addrs"][0]

    @property
    def port(self) -> str:
        return self.address.split("/udp/")[1].split("/")[0]

    async def event(self, event: str, peer: str) -> Line:
        """The event about ``peer``, by its peer id. Raises Failed if there is none in time."""

        def is_it(line: Line) -> bool:
            return line.get("event") == event and line.get("peer") == peer

        try:
            return await self.program.line(is_it, _EVENT_LIMIT, f'"{event}" of {peer}')
        except ProgramError as error:
            raise Failed(f"listener: {error}") from error

    def count(self, event: str, peer: str) -> int:
        return sum(line.get("event") == event and line.get("peer") == peer for line in self.program.lines)


class Listeners:
    """All shared listeners of a run, one for each peer, key type and IP version."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running: dict[tuple[str, str, str], Listening] = {}
        self._turn = trio.Lock()

    async def of(self, peer: Peer, key: str, ip: str) -> Listening:
        async with self._turn:
            kind = (peer.row, key, ip)
            found = self._running.get(kind)
            if found is None or not found.program.is_running:
                started: Listening = await self._nursery.start(self._keep, peer, key, ip)
                self._running[kind] = found = started
            return found

    def forget(self, peer: Peer) -> None:
        """Later cases get new ones. These continue to run for the cases that use them now."""
        for kind in [kind for kind in self._running if kind[0] == peer.row]:
            del self._running[kind]

    async def _keep(self, peer: Peer, key: str, ip: str, task_status: TaskStatus[Listening]) -> None:
        async with listener(peer, key=key, ip=ip) as found:
            task_status.started(found)
            await trio.sleep_forever()


@asynccontextmanager
async def listener(peer: Peer, **options: str) -> AsyncIterator[Listening]:
    arguments = as_arguments({**peer.options, **options})
    async with running([*peer.command, "listen", *arguments]) as program:
        said = await program.line(lambda line: "addrs" in line, _START_LIMIT, "addresses")
        if not said["addrs"]:
            raise Failed("the listener has no address")
        yield Listening(program, said)


class Stage:
    """The interface of a case: the two peers, their listeners and dialers."""

    def __init__(self, peer: Peer, dialer: Peer, listener: Peer, listeners: Listeners) -> None:
        self.peer = peer
        self.dialer = dialer
        self.listener = listener
        self._listeners = listeners
        self._met: dict[tuple[str, str], Listening] = {}

    async def listening(self, key: str = "ed25519", ip: str = "4") -> Listening:
        """The shared listener of that kind: the same one to the end of the case, even if another case has
        replaced it."""
        if (key, ip) not in self._met:
            self._met[key, ip] = await self._listeners.of(self.listener, key, ip)
        return self._met[key, ip]

    @asynccontextmanager
    async def own_listener(self, **options: str) -> AsyncIterator[Listening]:
        """A separate listener that the case may kill, with these command-line options."""
        async with listener(self.listener, **options) as found:
            yield found

    @asynccontextmanager
    async def dialing(
        self, case: str, address: str, more: Sequence[str] = (), **options: str
    ) -> AsyncIterator[Program]:
        command = [*self.dialer.command, "dial", *as_arguments(options), address, case, *more]
        async with running(command) as program:
            yield program

    async def dial(
        self,
        case: str,
        address: str = "",
        listener_key: str = "ed25519",
        ip: str = "4",
        more: Sequence[str] = (),
        **options: str,
    ) -> Line:
        """The answer of a dialer, in a process of its own."""
        address = address or (await self.listening(listener_key, ip)).address
        async with self.dialing(case, address, more, **options) as program:
            said = await program.line(lambda line: "ok" in line, float("inf"), "answer")
            await program.ended(_END_LIMIT)
            return said


_Todo = tuple[Stage, Case, Direction]


async def run(
    built: AsyncIterable[Peer],
    cases: list[Case],
    jobs: int,
    deadline: float,
    report: Callable[[Result], None],
) -> list[Result]:
    """Run every case in both directions, with each peer as soon as ``built`` yields it and ours of its
    transport; without ours, none. `report` gets each result at once. A case that did not start before
    ``deadline`` is red."""
    results: list[Result] = []
    async with trio.open_nursery() as keepers:
        listeners = Listeners(keepers)

        async def work(through: AsyncIterable[_Todo]) -> None:
            async for stage, case, direction in through:
                if trio.current_time() > deadline:
                    late = Result(
                        stage.peer.row, direction, case.name, "red", 0, "not run: the time limit was reached"
                    )
                    results.append(late)
                    report(late)
                    continue
                result = await cell(stage, case, direction)
                if result.outcome == "red":
                    # A failed case may have damaged the listener, so other cases get a new one.
                    listeners.forget(stage.listener)
                if result.outcome == "red" and stage.peer.name != OURS:
                    listeners.forget(stage.peer)
                    alone = Stage(stage.peer, stage.peer, stage.peer, listeners)
                    result = replace(result, themselves=await between_themselves(alone, case, direction))
                results.append(result)
                report(result)

        to_quiet, quiet = trio.open_memory_channel[_Todo](math.inf)
        to_busy, busy = trio.open_memory_channel[_Todo](math.inf)
        with quiet, busy:
            async with trio.open_nursery() as workers:
                for _ in range(_QUIET_JOBS):
                    workers.start_soon(work, quiet)
                for _ in range(jobs):
                    workers.start_soon(work, busy)
                with to_quiet, to_busy:
                    async for peer, ours in _with_ours(built):
                        for case in cases:
                            to = to_quiet if case.is_quiet else to_busy
                            to.send_nowait((Stage(peer, ours, peer, listeners), case, "we dial"))
                            if peer.name != OURS:
                                to.send_nowait((Stage(peer, peer, ours, listeners), case, "they dial"))
        keepers.cancel_scope.cancel()
    return results


async def _with_ours(built: AsyncIterable[Peer]) -> AsyncIterator[tuple[Peer, Peer]]:
    """Each peer and ours of the same transport, when both are built."""
    ours_over: dict[str, Peer] = {}
    early: list[Peer] = []
    async for peer in built:
        early.append(peer)
        if peer.name == OURS:
            ours_over[peer.transport] = peer
        for each in [each for each in early if each.transport in ours_over]:
            early.remove(each)
            yield each, ours_over[each.transport]


def not_run(unbuilt: dict[str, str], cases: list[Case]) -> list[Result]:
    """The cells of the rows that could not be built; ``unbuilt`` has the reasons."""
    return [
        Result(row, direction, case.name, "unbuilt", 0, reason)
        for row, reason in unbuilt.items()
        for case in cases
        for direction in DIRECTIONS
    ]


async def between_themselves(stage: Stage, case: Case, direction: Direction) -> str:
    """Repeat a red case between two instances of the peer: if it fails there, the defect is hardly ours."""
    result = await cell(stage, case, direction)
    return f"{result.outcome} {result.evidence}".strip()


async def cell(stage: Stage, case: Case, direction: Direction) -> Result:
    began = time.monotonic()
    outcome: Outcome = "green"
    evidence = ""
    with trio.move_on_after(case.limit) as scope:
        try:
            if case.quic_only and stage.peer.transport != QUIC:
                raise Absent(f"over QUIC only: {case.quic_only}")
            evidence = await case.run(stage) or ""
            if case.shows and not evidence:
                outcome, evidence = "red", "nothing was seen"
        except Absent as absent:
            outcome, evidence = "absent", str(absent)
        except (Failed, ProgramError, OSError) as error:
            outcome, evidence = "red", str(error)
        except KeyError as error:
            outcome, evidence = "red", f"the dialer's answer lacks {error}"
    if scope.cancelled_caught:
        outcome, evidence = "red", f"took more than {case.limit:.0f} s"
    seconds = round(time.monotonic() - began, 1)
    return Result(stage.peer.row, direction, case.name, outcome, seconds, placeless(evidence))


def placeless(text: str) -> str:
    """The text without paths of this machine, which do not belong on a page."""
    for folder, shown in ((HERE.parent, ""), (HERE.parents[1], ""), (Path.home(), "~/")):
        text = text.replace(f"{folder}/", shown)
    return text
