"""libp2p's perf protocol, /perf/1.0.0: both sides of one stream (perf spec)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.stream import Stream

PERF = "/perf/1.0.0"
_BLOCK = bytes(64 * 1024)
# More than a download of any duration takes: the client ends it.
ENDLESS = 1 << 60


async def serve_perf(stream: Stream) -> None:
    """Read to the end, and send as many bytes as the first eight asked for, an unsigned big-endian number."""
    wanted = int.from_bytes(await stream.read_exactly(8), "big")
    while await stream.read():
        pass
    while wanted:
        block = _BLOCK if wanted >= len(_BLOCK) else _BLOCK[:wanted]
        await stream.write(block)
        wanted -= len(block)


async def upload(connection: Connection, until: float, count: Callable[[int], None]) -> None:
    """Send until ``until`` (time.monotonic), then wait until the peer has read all of it.

    ``count`` gets the number of bytes of each write. Raises QUICError.
    """
    async with await connection.open_stream(PERF) as stream:
        await stream.write(bytes(8))
        await stream.negotiated()
        while time.monotonic() < until:
            await stream.write(_BLOCK)
            count(len(_BLOCK))
        stream.finish()
        # The peer finishes its empty answer when it has read everything.
        await stream.read_to_end(0)


async def download(connection: Connection, until: float, count: Callable[[int], None]) -> None:
    """Read what the peer sends until ``until`` (time.monotonic), also if it sends nothing.

    ``count`` gets the number of bytes of each read. Raises QUICError.
    """
    stream = await connection.open_stream(PERF)

    async def receive() -> None:
        await stream.write(ENDLESS.to_bytes(8, "big"))
        stream.finish()
        while data := await stream.read():
            count(len(data))

    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), until - time.monotonic())
    finally:
        stream.reset()
