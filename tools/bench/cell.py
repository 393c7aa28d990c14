"""Runs one measure of one contender: its two processes, and the relay between them if the measure needs
it.

All of them are always killed at the end.
"""

from __future__ import annotations

import resource
from contextlib import AsyncExitStack

from testkit.program import ProgramError, running
from tools.bench.contender import BUILD, Contender
from tools.bench.measure import Line, Measure

RELAY = BUILD / "relay" / "release" / "relay"
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
        command = [*contender.command, "dial", address, measure.command, *options_of(contender, measure)]
        dialer = await stack.enter_async_context(running(command))
        line = await dialer.line(lambda line: "cpu" in line, DIAL_LIMIT, "result")
        if not line.get("bytes", line.get("count")):
            raise ProgramError(f"{contender.name} completed nothing within its time")
        return line
