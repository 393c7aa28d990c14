"""Runs one measure of one contender: its two processes, and the relay between them or the load beside them
if the measure needs one.

All of them are always killed at the end.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from testkit.program import Program, ProgramError, running
from tools.bench.contender import BUILD, Contender
from tools.bench.measure import Line, Measure

RELAY = BUILD / "relay" / "release" / "relay"
LOAD = [sys.executable, "-m", "tools.bench.load"]
START_LIMIT = 30.0
"""Seconds until a listener has printed its address."""
DIAL_LIMIT = 90.0
"""Seconds until a dialer has ended; measures take much less."""


def absence(contender: Contender, measure: Measure) -> str | None:
    """Why this cell is not run; None if it is."""
    if contender.only and not {measure.group, measure.name} & {*contender.only}:
        return "not measured"
    if measure.only and contender.name not in measure.only:
        return "not measured"
    for name in (measure.name, measure.group):
        if name in contender.absent:
            return contender.absent[name]
    return None


def options_of(contender: Contender, measure: Measure) -> list[str]:
    options = dict(measure.options)
    if contender.size is not None and "size" in options:
        options["size"] = min(options["size"], contender.size)
    return [f"{name}={value}" for name, value in options.items() if name != "do"]


def _with_port(address: str, port: str) -> str:
    parts = address.split("/")
    parts[4] = port
    return "/".join(parts)


@asynccontextmanager
async def loading() -> AsyncIterator[Program]:
    """A process that computes from the start of the block to its end, on the processor that the system
    chooses."""
    async with running(LOAD) as program:
        await program.line(lambda line: "computing" in line, START_LIMIT, "sign that it computes")
        yield program


async def run(contender: Contender, measure: Measure, seed: int = 0) -> Line:
    """The dialer's line; equal seeds make equal networks. Raises ProgramError if the cell fails."""
    # Ten thousand connections may need as many sockets.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(running([*contender.command, "serve"]))
        ready = await listener.line(lambda line: "address" in line, START_LIMIT, "address")
        address = str(ready["address"])
        if measure.path is not None:
            rtt, loss = measure.path
            port = address.split("/")[4]
            command = [str(RELAY), "--to", f"127.0.0.1:{port}", "--delay", f"{rtt / 2:g}ms"]
            command += ["--seed", str(seed)]
            if loss:
                command += ["--loss", f"{loss:g}%"]
            relay = await stack.enter_async_context(running(command))
            ready = await relay.line(lambda line: "address" in line, START_LIMIT, "address of the relay")
            address = _with_port(address, str(ready["address"]).rpartition(":")[2])
        load = await stack.enter_async_context(loading()) if measure.is_loaded else None
        command = [*contender.command, "dial", address, measure.command, *options_of(contender, measure)]
        dialer = await stack.enter_async_context(running(command))
        line = await dialer.line(lambda line: "cpu" in line, DIAL_LIMIT, "result")
        if not line.get("bytes", line.get("count")):
            raise ProgramError(f"{contender.name} completed nothing within its time")
        if load is not None and not load.is_running:
            raise ProgramError(f"the load ended before {contender.name}{load.standard_error()}")
        return line
