"""One measure of one contender: its two processes, with the relay between them where asked.

All of them are killed when the cell is done, however it ends.
"""

from __future__ import annotations

import resource
from contextlib import AsyncExitStack

from bench.contender import BUILD, Contender
from bench.measure import Line, Measure
from interop.program import ProgramError, running

RELAY = BUILD / "relay" / "release" / "relay"
START_LIMIT = 30.0
"""Seconds until a listener has told its address."""
DIAL_LIMIT = 90.0
"""Seconds until a dialer is done; the measures themselves end long before."""


def absence(contender: Contender, measure: Measure) -> str | None:
    """Why this cell is not run; None when it is."""
    if contender.only and not {measure.group, measure.name} & {*contender.only}:
        return "not measured"
    if measure.only and contender.name not in measure.only:
        return "not measured"
    for name in (measure.name, measure.group):
        if name in contender.absent:
            return contender.absent[name]
    return None


def words_of(contender: Contender, measure: Measure) -> list[str]:
    words = dict(measure.words)
    if contender.size is not None and "size" in words:
        words["size"] = min(words["size"], contender.size)
    return [f"{name}={value}" for name, value in words.items() if name != "do"]


def _with_port(address: str, port: str) -> str:
    parts = address.split("/")
    parts[4] = port
    return "/".join(parts)


async def run(contender: Contender, measure: Measure, seed: int = 0) -> Line:
    """The dialer's line; equal seeds make equal networks. Raises ProgramError when the cell fails."""
    # Ten thousand connections may mean as many sockets.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(running([*contender.command, "serve"]))
        told = await listener.line(lambda line: "address" in line, START_LIMIT, "address")
        address = str(told["address"])
        if measure.path is not None:
            rtt, loss = measure.path
            port = address.split("/")[4]
            command = [str(RELAY), "--to", f"127.0.0.1:{port}", "--delay", f"{rtt / 2:g}ms"]
            command += ["--seed", str(seed)]
            if loss:
                command += ["--loss", f"{loss:g}%"]
            relay = await stack.enter_async_context(running(command))
            told = await relay.line(lambda line: "address" in line, START_LIMIT, "address of the relay")
            address = _with_port(address, str(told["address"]).rpartition(":")[2])
        command = [*contender.command, "dial", address, measure.verb, *words_of(contender, measure)]
        dialer = await stack.enter_async_context(running(command))
        line = await dialer.line(lambda line: "cpu" in line, DIAL_LIMIT, "result")
        if not line.get("bytes", line.get("count")):
            raise ProgramError(f"{contender.name} got nothing done in its time")
        return line
