"""One try: a relay and two homes in a new network, and what became of the connection between them."""

from __future__ import annotations

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


async def attempt(cell: Cell, captures: Path | None = None, seed: int = 0) -> Outcome:
    """Try once, in a network of its own.

    ``captures``: where packets at the routers are kept, if tcpdump is installed. ``seed``: of the loss.
    """
    with town(cell.routers, cell.is_shared) as where:
        async with AsyncExitStack() as stack:

            async def start(peer: str, home: Home, *arguments: str) -> Program:
                transport = ["--transport", peer] if peer in ("ours", "stock") else []
                command = [*PROGRAMS[peer], *arguments, "--listen", home.listen, *transport]
                return await stack.enter_async_context(running(home.machine.command(command)))

            for number, router in enumerate(where.routers if captures and has_captures() else ()):
                output = str(captures) + f"/router{number}.pcap"
                capture = ["tcpdump", "-q", "-U", "-i", "wan", "-w", output, "udp or icmp or icmp6"]
                # Ends with our end of its input, as the other programs do, also if this process is killed.
                capture = ["sh", "-c", '"$@" & cat > /dev/null; kill $!', "sh", *capture]
                await stack.enter_async_context(running(router.command(capture)))
            try:
                await stack.enter_async_context(delayed(cell, where, seed))
                relay = await start(cell.relay, where.relay, "relay")
                through = f"{where.relay.listen}/p2p/{(await _told(relay, 'ready'))['peer']}"
                options = ["home", "--relay", through, "--limit", str(LIMIT), "--hold", str(cell.hold)]
                listener = await start(cell.listener, where.homes[0], *options)
                target = await _told(listener, "ready")
                dialer = await start(cell.dialer, where.homes[1], *options, "--dial", str(target["peer"]))
                await _told(dialer, "relayed")
                outcome = await _result(dialer, cell.hold)
                return replace(outcome, left=await _left(cell, dialer, listener, relay))
            except ProgramError as error:
                return Outcome(error=str(error))


def has_captures() -> bool:
    """Whether packets can be captured here."""
    return shutil.which("tcpdump") is not None


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


async def _result(dialer: Program, hold: float) -> Outcome:
    ends = ("pinged", "unusable")
    end = await dialer.line(lambda line: line.get("event") in ends, LIMIT + hold + 15, "end")
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


def attempted(cell: Cell, captures: Path | None = None, seed: int = 0) -> Outcome:
    """`attempt` in an event loop of its own."""
    return trio.run(attempt, cell, captures, seed)
