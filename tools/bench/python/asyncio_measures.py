"""The two sides of each measure of tools/bench/README.md in asyncio's terms, for every asyncio contender.

The measures are those of `measures`. A contender gives it streams, connections, and a node that dials.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from tools.bench.python.usage import BLOCK, BULK, PIECE, latencies, usage

MEASURES = ("up", "down", "ping", "ping-bulk", "requests", "handshakes", "idle")
Line = dict[str, object]
Options = Mapping[str, int]


class Stream(Protocol):
    async def read(self, n: int) -> bytes:
        """b"" at the end."""

    async def read_exactly(self, n: int) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class Connection(Protocol):
    async def open_stream(self) -> Stream: ...
    def close(self) -> None: ...


class Node(Protocol):
    async def connect(self, address: str) -> Connection: ...


# The listener's side


async def drain(stream: Stream, limit: float = float("inf")) -> tuple[int, int, int]:
    """Read to the end, or for ``limit`` seconds from the first byte: bytes, and the
    nanoseconds of the first and of the last of them."""
    count = began = now = 0
    while now - began <= limit * 1e9 and (data := await stream.read(PIECE)):
        count += len(data)
        now = time.perf_counter_ns()
        began = began or now
    return count, began, time.perf_counter_ns() if began == 0 else now


async def fill(stream: Stream, size: int, limit: float) -> None:
    end = time.perf_counter() + limit
    while size > 0 and time.perf_counter() < end:
        await stream.write(BLOCK if size >= PIECE else BLOCK[:size])
        size -= PIECE


async def read_numbers(stream: Stream, count: int) -> list[int]:
    data = await stream.read_exactly(8 * count)
    return [int.from_bytes(data[at : at + 8], "big") for at in range(0, 8 * count, 8)]


async def tell(stream: Stream, *numbers: int) -> None:
    await stream.write(b"".join(number.to_bytes(8, "big") for number in numbers))


async def answer(stream: Stream) -> None:
    """Serve one stream: its first byte is the command."""
    what = await stream.read(1)
    if what == b"u":
        await tell(stream, *await drain(stream))
    elif what == b"d":
        size, limit = await read_numbers(stream, 2)
        await fill(stream, size, limit / 1e9)
    elif what == b"e":
        while data := await stream.read(PIECE):
            await stream.write(data)
    elif what == b"c":
        await tell(stream, *usage())
    stream.close()


async def until_stdin_ends(address: str) -> None:
    """Print the address, and wait for the end of the measure."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    print(json.dumps({"address": address}), flush=True)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


# The dialer's side


async def census(connection: Connection) -> list[int]:
    """CPU time of the dialer and the listener, then their memory."""
    stream = await connection.open_stream()
    await stream.write(b"c")
    cpu, memory = await read_numbers(stream, 2)
    stream.close()
    here = usage()
    return [here[0], cpu, here[1], memory]


async def goodput(connections: list[Connection], options: Options, is_up: bool) -> Line:
    streams = options.get("streams", 1)
    size = options.get("size", 2 << 30) // streams
    limit = options.get("limit", 6_000) / 1000
    done: list[tuple[int, int, int]] = []

    async def one(connection: Connection) -> None:
        stream = await connection.open_stream()
        if is_up:
            await stream.write(b"u")
            await fill(stream, size, limit)
            stream.finish()
            bytes_, began, ended = await read_numbers(stream, 3)
            done.append((bytes_, began, ended))
        else:
            await stream.write(b"d" + size.to_bytes(8, "big") + int(limit * 1e9).to_bytes(8, "big"))
            done.append(await drain(stream, limit))
        stream.close()

    await asyncio.gather(*(one(connections[i % len(connections)]) for i in range(streams)))
    return {
        "bytes": sum(each[0] for each in done),
        "seconds": (max(each[2] for each in done) - min(each[1] for each in done)) / 1e9,
        "rates": [count * 1e9 / max(ended - began, 1) for count, began, ended in done],
    }


async def ping(connections: list[Connection], options: Options) -> Line:
    count = options.get("count", 5_000) // len(connections)
    times: list[int] = []
    began = until = 0

    async def rounds(connection: Connection) -> None:
        nonlocal began, until
        stream = await connection.open_stream()
        await stream.write(b"e")
        for _ in range(count // 10 + 1):
            await stream.write(b"x")
            await stream.read(1)
        began = began or time.perf_counter_ns()
        until = until or began + options.get("limit", 6_000) * 1_000_000
        for _ in range(count):
            start = time.perf_counter_ns()
            await stream.write(b"x")
            await stream.read(1)
            end = time.perf_counter_ns()
            times.append(end - start)
            if end > until:
                break
        stream.close()

    await asyncio.gather(*map(rounds, connections))
    return latencies(times, began)


async def ping_beside_bulk(node: Node, address: str, connections: list[Connection], options: Options) -> Line:
    """Round trips while another connection receives as fast as it can."""
    connection = await node.connect(address)
    stream = await connection.open_stream()
    await stream.write(b"d" + BULK)
    # Its first bytes: the transfer runs.
    await stream.read_exactly(PIECE)
    received = 0

    async def receive() -> None:
        nonlocal received
        while data := await stream.read(PIECE):
            received += len(data)

    receiving = asyncio.ensure_future(receive())
    began = time.perf_counter()
    said = await ping(connections, options)
    rate = received / (time.perf_counter() - began)
    if receiving.done():
        raise EOFError("the transfer ended before the round trips") from receiving.exception()
    receiving.cancel()
    connection.close()
    return {**said, "rates": [rate]}


async def repeated(options: Options, one: Callable[[], Awaitable[None]]) -> Line:
    """Run ``one`` ``count`` times, ``inflight`` at once, or until the time limit."""
    inflight = options.get("inflight", 1)
    count = options.get("count", 5_000) // inflight
    times: list[int] = []
    began = time.perf_counter_ns()
    limit = options.get("limit", 6_000) * 1_000_000

    async def again() -> None:
        for _ in range(count):
            start = time.perf_counter_ns()
            if start - began > limit:
                return
            await one()
            times.append(time.perf_counter_ns() - start)

    await asyncio.gather(*(again() for _ in range(inflight)))
    return latencies(times, began)


async def idle(node: Node, address: str, first: Connection, options: Options) -> Line:
    count = options.get("count", 1_000)
    before = await census(first)
    began = time.perf_counter()
    held: list[Connection] = []

    async def hold() -> None:
        connection = await node.connect(address)
        # Used once: its memory counts, too, and the listener has accepted it.
        await census(connection)
        held.append(connection)

    for at in range(0, count, 8):
        await asyncio.gather(*(hold() for _ in range(min(8, count - at))))
    after = await census(first)
    each = [(after[side] - before[side]) / count for side in (2, 3)]
    return {"count": len(held), "seconds": time.perf_counter() - began, "each": each}


async def measured(node: Node, address: str, what: str, options: Options) -> Line:
    connections = [await node.connect(address) for _ in range(options.get("connections", 1))]
    first = connections[0]

    async def request() -> None:
        stream = await first.open_stream()
        await stream.write(b"e" + bytes(64))
        stream.finish()
        await stream.read_exactly(64)
        stream.close()

    async def handshake() -> None:
        (await node.connect(address)).close()

    before = await census(first)
    if what in ("up", "down"):
        said = await goodput(connections, options, what == "up")
    elif what == "ping":
        said = await ping(connections, options)
    elif what == "ping-bulk":
        said = await ping_beside_bulk(node, address, connections, options)
    elif what == "idle":
        said = await idle(node, address, first, options)
    else:
        said = await repeated(options, request if what == "requests" else handshake)
    after = await census(first)
    cpu = [(after[side] - before[side]) / 1e9 for side in (0, 1)]
    return {**said, "cpu": cpu, "rss": after[2:]}


async def dial(node: Node, arguments: argparse.Namespace) -> None:
    options = {name: int(value) for name, value in (each.split("=") for each in arguments.options)}
    print(json.dumps(await measured(node, arguments.address, arguments.measure, options)), flush=True)


def parser(program: str) -> argparse.ArgumentParser:
    """Has the arguments of `serve` and `dial`; ``role`` of the result is one of both."""
    found = argparse.ArgumentParser(prog=program)
    roles = found.add_subparsers(required=True, dest="role")
    roles.add_parser("serve")
    dialing = roles.add_parser("dial")
    dialing.add_argument("address")
    dialing.add_argument("measure", choices=MEASURES)
    dialing.add_argument("options", nargs="*", metavar="name=value")
    return found
