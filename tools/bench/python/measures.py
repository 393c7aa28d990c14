"""The dialer's side of each measure of tools/bench/README.md; each returns its line of JSON.

It reads and writes 64 KiB at a time in plain trio tasks, as user programs do.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import trio

from tools.bench.python.level import Connection, Node, Stream
from tools.bench.python.usage import BLOCK, BULK, PIECE, latencies, usage

_BUSY = 0.02
"""Seconds of computing without a pause, in a receiver that computes for half of the time."""


Line = dict[str, object]
Options = Mapping[str, int]


@dataclass
class Task:
    """The node, the connections and the options of a measure."""

    node: Node
    address: str
    options: Options
    may_end_early: bool = False
    """An end of stream instead of an answer's last bytes is a known defect, and no failure."""
    connections: list[Connection] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    """Open streams, one for each connection, for round trips."""

    @property
    def first(self) -> Connection:
        return self.connections[0]


async def read_numbers(stream: Stream, count: int) -> list[int]:
    """Read ``count`` 64-bit numbers, big-endian. Raises EOFError."""
    data = b""
    while len(data) < 8 * count:
        data += await stream.read(8 * count - len(data))
    return [int.from_bytes(data[at : at + 8], "big") for at in range(0, 8 * count, 8)]


async def drain(stream: Stream, limit: float = float("inf")) -> tuple[int, int, int]:
    """Read to the end, or for ``limit`` seconds from the first byte. Returns the number of bytes, and the
    nanoseconds of the first and of the last."""
    count = began = now = 0
    try:
        while now - began <= limit * 1e9:
            count += len(await stream.read(PIECE))
            now = time.perf_counter_ns()
            began = began or now
    except EOFError:
        now = time.perf_counter_ns()
    return count, began, now


async def fill(stream: Stream, size: int, limit: float) -> None:
    """Write ``size`` bytes, or as many as fit into ``limit`` seconds."""
    end = time.perf_counter() + limit
    while size > 0 and time.perf_counter() < end:
        await stream.write(BLOCK if size >= PIECE else BLOCK[:size])
        size -= PIECE


async def census(connection: Connection) -> list[int]:
    """CPU time of the dialer and the listener, then their memory."""
    stream = await connection.open()
    await stream.write(b"c")
    cpu, memory = await read_numbers(stream, 2)
    await stream.close()
    here = usage()
    return [here[0], cpu, here[1], memory]


async def goodput(is_up: bool, task: Task) -> Line:
    options = task.options
    streams = options.get("streams", 1)
    size = options.get("size", 2 << 30) // streams
    limit = options.get("limit", 6_000) / 1000
    done: list[tuple[int, int, int]] = []

    async def one(connection: Connection) -> None:
        stream = await connection.open()
        if is_up:
            await stream.write(b"u")
            await fill(stream, size, limit)
            await stream.close_write()
            bytes_, began, ended = await read_numbers(stream, 3)
            done.append((bytes_, began, ended))
        else:
            await stream.write(b"d" + size.to_bytes(8, "big") + int(limit * 1e9).to_bytes(8, "big"))
            # At the time limit a sender may hold the bytes of many seconds.
            done.append(await drain(stream, limit))
        await stream.close()

    async with trio.open_nursery() as computing:
        if options.get("busy"):
            computing.start_soon(compute_half_of_the_time)
        async with trio.open_nursery() as nursery:
            for i in range(streams):
                nursery.start_soon(one, task.connections[i % len(task.connections)])
        computing.cancel_scope.cancel()
    return {
        "bytes": sum(each[0] for each in done),
        "seconds": (max(each[2] for each in done) - min(each[1] for each in done)) / 1e9,
        "rates": [count * 1e9 / max(ended - began, 1) for count, began, ended in done],
    }


async def compute_half_of_the_time() -> None:
    while True:
        end = time.perf_counter() + _BUSY
        while time.perf_counter() < end:
            sum(range(1000))
        await trio.sleep(_BUSY)  # scenario: the other half


async def warm(task: Task) -> None:
    """A stream on each connection, after a tenth of the rounds for warm-up."""
    count = task.options.get("count", 5_000) // len(task.connections) // 10 + 1

    async def one(connection: Connection) -> None:
        stream = await connection.open()
        await stream.write(b"e")
        for _ in range(count):
            await stream.write(b"x")
            await stream.read(1)
        task.streams.append(stream)

    async with trio.open_nursery() as nursery:
        for connection in task.connections:
            nursery.start_soon(one, connection)


async def ping(task: Task) -> Line:
    count = task.options.get("count", 5_000) // len(task.streams)
    began = time.perf_counter_ns()
    until = began + task.options.get("limit", 6_000) * 1_000_000
    times: list[int] = []

    async def rounds(stream: Stream) -> None:
        for _ in range(count):
            start = time.perf_counter_ns()
            await stream.write(b"x")
            await stream.read(1)
            end = time.perf_counter_ns()
            times.append(end - start)
            if end > until:
                break
        await stream.close()

    async with trio.open_nursery() as nursery:
        for stream in task.streams:
            nursery.start_soon(rounds, stream)
    return latencies(times, began)


async def ping_beside_bulk(task: Task) -> Line:
    """Round trips while another connection receives as fast as it can."""
    connection = await task.node.dial(task.address)
    stream = await connection.open()
    await stream.write(b"d" + BULK)
    # Its first bytes: the transfer runs.
    await stream.read(PIECE)
    received = 0

    async def receive() -> None:
        nonlocal received
        while True:
            # An end of the transfer raises EOFError and fails the measure.
            received += len(await stream.read(PIECE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        began = time.perf_counter()
        said = await ping(task)
        rate = received / (time.perf_counter() - began)
        nursery.cancel_scope.cancel()
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

    async with trio.open_nursery() as nursery:
        for _ in range(inflight):
            nursery.start_soon(again)
    return latencies(times, began)


async def requests(task: Task) -> Line:
    async def one() -> None:
        stream = await task.first.open()
        await stream.write(b"e" + bytes(64))
        await stream.close_write()
        left = 64
        try:
            while left:
                left -= len(await stream.read(left))
        except EOFError:
            if not task.may_end_early:
                raise
        await stream.close()

    return await repeated(task.options, one)


async def handshakes(task: Task) -> Line:
    async def one() -> None:
        await (await task.node.dial(task.address)).close()

    return await repeated(task.options, one)


async def idle(task: Task) -> Line:
    count = task.options.get("count", 1_000)
    before = await census(task.first)
    began = time.perf_counter()
    held: list[Connection] = []

    async def hold() -> None:
        connection = await task.node.dial(task.address)
        # Used once: its memory counts, too, and the listener has accepted it.
        await census(connection)
        held.append(connection)

    for at in range(0, count, 8):
        async with trio.open_nursery() as nursery:
            for _ in range(min(8, count - at)):
                nursery.start_soon(hold)
    after = await census(task.first)
    each = [(after[side] - before[side]) / count for side in (2, 3)]
    return {"count": len(held), "seconds": time.perf_counter() - began, "each": each}


Measure = Callable[[Task], Awaitable[Line]]

MEASURES: dict[str, Measure] = {
    "up": partial(goodput, True),
    "down": partial(goodput, False),
    "ping": ping,
    "ping-bulk": ping_beside_bulk,
    "requests": requests,
    "handshakes": handshakes,
    "idle": idle,
}


async def measured(node: Node, address: str, what: str, options: Options, may_end_early: bool) -> Line:
    task = Task(node, address, options, may_end_early)
    for _ in range(options.get("connections", 1)):
        task.connections.append(await node.dial(address))
    if what in ("ping", "ping-bulk"):
        await warm(task)
    before = await census(task.first)
    said = await MEASURES[what](task)
    after = await census(task.first)
    cpu = [(after[side] - before[side]) / 1e9 for side in (0, 1)]
    return {**said, "cpu": cpu, "rss": after[2:]}
