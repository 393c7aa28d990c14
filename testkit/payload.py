"""Bytes that both sides generate from a seed, and checks of what arrived. Opens no connections."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import trio
from libp2p.abc import INetStream
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.network.stream.net_stream import NetStream

from testkit.causes import described

BLOCK = 65_536
MIB = 1 << 20


def payload(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def blocks(data: bytes) -> Iterator[bytes]:
    return (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))


def drawn_blocks(seed: int, size: int, block: int) -> Iterator[bytes]:
    """``size`` bytes of the seed, one block at a time."""
    dice = random.Random(seed)
    return (dice.randbytes(min(block, size - start)) for start in range(0, size, block))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Drained:
    """Everything that was read from a stream, and the class name of its end.

    The name only: an error refers to its frames, and these to the host.
    """

    size: int
    sha256: str
    end: str
    chain: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)


async def drain(stream: INetStream, rate: float = math.inf, rest: float = 0) -> Drained:
    """Read until the stream ends in any way: at most ``rate`` bytes a second in the long run,
    with a pause of ``rest`` seconds after each second of reading."""
    digest = hashlib.sha256()
    size = 0
    began = rested = trio.current_time()
    try:
        while True:
            # Bytes of a tenth of a second, so that a slow reader is evenly slow.
            data = await stream.read(int(min(BLOCK, max(1, rate / 10))))
            digest.update(data)
            size += len(data)
            if rest and trio.current_time() - rested > 1:
                await trio.sleep(rest)  # scenario: this reader stops now and then
                rested = trio.current_time()
            ahead = size / rate - (trio.current_time() - began)
            if ahead > 0:
                await trio.sleep(ahead)  # scenario: this reader is slow
    except (StreamEOF, StreamError) as error:
        return Drained(size, digest.hexdigest(), type(error).__name__, described(error))


async def echoed(stream: NetStream, data: bytes) -> Drained:
    """Write ``data``, finish, and concurrently read the answer."""
    drained: list[Drained] = []

    async def read() -> None:
        drained.append(await drain(stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for block in blocks(data):
            await stream.write(block)
        await stream.close_write()
    return drained[0]


async def echoed_back(stream: INetStream, data: bytes) -> str:
    """Write ``data`` and concurrently read as much; returns its SHA-256. Leaves the stream open."""
    got = bytearray()

    async def read() -> None:
        while len(got) < len(data):
            got.extend(await stream.read(BLOCK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for block in blocks(data):
            await stream.write(block)
    return sha256(bytes(got))
