"""One try: a relay and two homes in a new network, and what became of the connection between them."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from testkit.program import Line, Program, ProgramError, running
from tools.interop.peer import BUILD
from tools.nat.network import ROUTER_KINDS, Home, Town, town

# Peer -> its program. Those of go and rust are the peers of tools/interop.
PROGRAMS: dict[str, list[str]] = {
    "ours": [sys.executable, "-m", "tools.nat.node"],
    "stock": [sys.executable, "-m", "tools.nat.node"],
    "go": [str(BUILD / "go" / "peer")],
    "rust": [str(BUILD / "rust" / "release" / "peer")],
}
# The peers whose program is `tools.nat.node`, which takes its transport as an option.
_NODES = ("ours", "stock")
# How long a program may take to start, and to connect through the relay. Seconds.
_START = 60.0
# How long a direct connection is waited for: three attempts of 5 s each, and their exchanges. Seconds.
LIMIT = 25.0
# How long a direct connection must last in silence through mappings that end after a third of it. Seconds.
HOLD = 15.0
# How long our homes may take to give back what they use: more than `testkit.census.PATIENCE`. Seconds.
_END = 40.0


@dataclass(frozen=True)
class Cell:
    """Which peers meet where: ``listener`` holds the reservation, ``dialer`` comes through ``relay``."""

    listener: str
    dialer: str
    relay: str
    routers: tuple[str, str]
    is_shared: bool = False
    # One way between any two of the networks; the relayed way is twice as long. Milliseconds.
    delay: int = 0
    # Of the packets between two networks. Percent.
    loss: int = 0

    def __str__(self) -> str:
        where = f"{self.routers[0]}, shared" if self.is_shared else " and ".join(self.routers)
        return f"{self.listener} and {self.dialer} through {self.relay}, behind {where}{self.path}"

    @property
    def path(self) -> str:
        """What is between the networks, if it is not an ideal one."""
        return f", {self.delay} ms and {self.loss} % loss" if self.delay or self.loss else ""

    @property
    def hold(self) -> float:
        """Seconds of silence that a direct connection must outlast."""
        return HOLD if any(ROUTER_KINDS[name].udp_timeout is not None for name in self.routers) else 0.0

    @property
    def is_punchable(self) -> bool:
        """Whether a direct connection is possible."""
        return self.routers != ("symmetric", "symmetric") and "stock" not in (self.listener, self.dialer)

    @property
    def is_timed(self) -> bool:
        """Whether its time is compared, or decides, so that no other try may use the machine meanwhile.

        It does not decide where both routers accept input and nothing delays the packets: the homes' first
        packets would have to pass each other within microseconds.
        """
        return self.is_punchable and (self.routers != ("accept", "accept") or self.delay > 0)

    @property
    def reference(self) -> Cell:
        """go-libp2p with itself in the same networks, through the same relay."""
        return replace(self, listener="go", dialer="go")

    @property
    def is_compared(self) -> bool:
        """Whether its verdict needs the reference."""
        return self.is_punchable and "ours" in (self.listener, self.dialer)


@dataclass(frozen=True)
class Outcome:
    """``seconds`` from the relayed to the direct connection, as the dialer sees it; None: it stays relayed.

    ``is_usable``: a ping passes in the end, over the direct connection if there was one. ``error``: the try
    is void. ``left``: what our homes and our relay did not give back.
    """

    seconds: float | None = None
    is_usable: bool = False
    error: str = ""
    address: str = ""
    left: str = ""

    @property
    def told(self) -> str:
        if self.error:
            return self.error[:300]
        direct = "relayed" if self.seconds is None else f"direct after {self.seconds * 1000:.0f} ms"
        usable = "usable" if self.is_usable else "NOT USABLE"
        return "; ".join(each for each in (f"{direct}, {usable}", self.left[:300]) if each)


class _Peer:
    """One of the three programs of a try, which ends with ``stack``."""

    def __init__(self, name: str, home: Home, role: str, stack: AsyncExitStack) -> None:
        self._name = name
        self._home = home
        self._role = role
        self._stack = stack
        self._waiting: Program | None = None

    async def prepare(self) -> None:
        """Let a program in Python import its modules, which takes most of the time of its start, before
        its options are known."""
        if self._name in _NODES:
            self._waiting = await self._run("--wait")

    async def start(self, *options: str) -> Program:
        if self._waiting is None:
            return await self._run(*options)
        await self._waiting.say(json.dumps(options))
        return self._waiting

    async def _run(self, *options: str) -> Program:
        transport = ["--transport", self._name] if self._name in _NODES else []
        command = [*PROGRAMS[self._name], self._role, *options, "--listen", self._home.listen, *transport]
        return await self._stack.enter_async_context(running(self._home.machine.command(command)))


async def attempt(
    cell: Cell, captures: Path | None = None, seed: int = 0, alone: trio.Lock | None = None
) -> Outcome:
    """Try once, in a network of its own.

    ``captures``: where packets at the routers are kept, if tcpdump is installed. ``seed``: of the loss.
    ``alone``: held but for the silence that the cell has, so that tries with the same lock do not change
    each other's times.
    """
    alone = alone or trio.Lock()
    async with alone:
        with town(cell.routers, cell.is_shared) as where:
            async with AsyncExitStack() as stack:
                if captures is not None:
                    await stack.enter_async_context(captured(where, captures))
                try:
                    return await _outcome(cell, where, stack, seed, alone)
                except ProgramError as error:
                    return Outcome(error=str(error))


async def _outcome(cell: Cell, where: Town, stack: AsyncExitStack, seed: int, alone: trio.Lock) -> Outcome:
    at_relay = _Peer(cell.relay, where.relay, "relay", stack)
    at_listener = _Peer(cell.listener, where.homes[0], "home", stack)
    at_dialer = _Peer(cell.dialer, where.homes[1], "home", stack)
    for each in (at_relay, at_listener, at_dialer):
        await each.prepare()
    await stack.enter_async_context(delayed(cell, where, seed))
    relay = await at_relay.start()
    through = f"{where.relay.listen}/p2p/{(await _told(relay, 'ready'))['peer']}"
    options = ["--relay", through, "--limit", str(LIMIT), "--hold", str(cell.hold)]
    listener = await at_listener.start(*options)
    target = await _told(listener, "ready")
    dialer = await at_dialer.start(*options, "--dial", str(target["peer"]))
    await _told(dialer, "relayed")
    outcome = await _result(dialer, cell.hold, alone)
    return replace(outcome, left=await _left(cell, dialer, listener, relay))


def has_captures() -> bool:
    """Whether packets can be captured here."""
    return shutil.which("tcpdump") is not None


@asynccontextmanager
async def captured(where: Town, folder: Path) -> AsyncIterator[None]:
    """Packets at the outer interface of each router go to a file in ``folder``, if tcpdump is installed."""
    async with AsyncExitStack() as stack:
        for number, router in enumerate(where.routers if has_captures() else ()):
            # Unless told otherwise, Debian's writes the file as a user who may not enter the folder.
            capture = ["tcpdump", "-q", "-U", "-Z", "root", "-i", "wan"]
            capture += ["-w", f"{folder}/router{number}.pcap", "udp or icmp or icmp6"]
            # Ends with our end of its input, as the other programs do, also if this process is killed.
            capture = ["sh", "-c", '"$@" & cat > /dev/null; kill $!', "sh", *capture]
            await stack.enter_async_context(running(router.command(capture)))
        yield


@asynccontextmanager
async def delayed(cell: Cell, where: Town, seed: int = 0) -> AsyncIterator[None]:
    """The delay and the loss of the cell are between the networks."""
    if not cell.path:
        yield
        return
    command = [sys.executable, "-m", "tools.nat.delay", "--delay", str(cell.delay), "--loss", str(cell.loss)]
    command += ["--seed", str(seed), *where.interfaces]
    async with running(where.wan.command(command)) as program:
        await _told(program, "ready")
        yield


@asynccontextmanager
async def released(lock: trio.Lock) -> AsyncIterator[None]:
    """Other tasks may hold the lock, which this one holds before and after the block."""
    lock.release()
    try:
        yield
    finally:
        # The caller releases it, also when it is canceled.
        with trio.CancelScope(shield=True):
            await lock.acquire()


async def _result(dialer: Program, hold: float, alone: trio.Lock) -> Outcome:
    ends = ("pinged", "unusable")

    async def ended() -> Line:
        return await dialer.line(lambda line: line.get("event") in ends, LIMIT + hold + 15, "end")

    if hold:
        await dialer.line(lambda line: line.get("event") in ("direct", *ends), LIMIT + 15, "end")
        # The time is taken; a connection that is silent does not mind other tries.
        async with released(alone):
            end = await ended()
    else:
        end = await ended()
    direct = next((line for line in dialer.lines if line.get("event") == "direct"), None)
    is_pinged = end["event"] == "pinged"
    if direct is None:
        return Outcome(is_usable=is_pinged)
    is_kept = bool(end.get("direct", True))
    return Outcome(float(direct["seconds"]), is_pinged and is_kept, address=str(direct["address"]))


async def _left(cell: Cell, dialer: Program, listener: Program, relay: Program) -> str:
    """End the homes, the dialer first, and then the relay; what those of ours did not give back."""
    found = []
    for peer, role, program in (
        (cell.dialer, "dialer", dialer),
        (cell.listener, "listener", listener),
        (cell.relay, "relay", relay),
    ):
        if peer != "ours":
            continue
        await program.end_input()
        left = await program.line(lambda line: line.get("event") == "left", _END, "census")
        found += [f"the {role} left {kind}: {what}" for kind, what in left["what"].items()]
    return "; ".join(found)


async def _told(program: Program, event: str) -> Line:
    return await program.line(lambda line: line.get("event") == event, _START, event)
