"""Code of both ends: protocols, lines for the runner, and the ends of streams."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream
from libp2p.transport.quic.exceptions import QUICError
from libp2p.transport.webtransport.stream import WebTransportStream

import libp2p_quic

ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK = (
    TProtocol(f"/libp2p-quic/{name}/1.0.0")
    for name in ("echo", "sink", "source", "reset", "close", "watch", "note", "stop", "back")
)
BLOCK = 65_536
LISTENER_CODE, DIALER_CODE = 42, 43
ERRORS = (BaseLibp2pError, QUICError, OSError, ValueError, trio.TooSlowError)


def tell(**facts: object) -> None:
    """One line for the runner."""
    print(json.dumps(facts), flush=True)


def code_of(error: BaseException | None) -> int | None:
    """The code of the end of a stream or of its connection."""
    while error is not None:
        code = getattr(error, "error_code", None)
        if code is not None:
            return int(code)
        error = error.__cause__
    return None


async def drained(stream: INetStream) -> bytes:
    """Everything up to the end of the stream."""
    chunks = []
    try:
        while True:
            chunks.append(await stream.read(BLOCK))
    except StreamEOF:
        return b"".join(chunks)


async def together(*tasks: Callable[[], Awaitable[None]]) -> None:
    """Run them at once; the first error is raised as itself and not in a group."""
    errors: list[Exception] = []

    async def one(task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except ERRORS as error:
            errors.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for task in tasks:
            nursery.start_soon(one, task)
    if errors:
        raise errors[0]


async def finish(stream: INetStream) -> None:
    """Finish our direction only, which py-libp2p's interface does not declare."""
    await cast(NetStream, stream).close_write()


def pattern(size: int) -> bytes:
    """``size`` bytes that repeat with the prime 251, so that a lost block changes the sequence."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


async def pump(stream: INetStream, size: int) -> bytes:
    """Write ``size`` bytes of the pattern; returns their SHA-256."""
    digest = hashlib.sha256()
    block = pattern(251 * 256)
    while size:
        data = block[:size]
        digest.update(data)
        await stream.write(data)
        size -= len(data)
    return digest.digest()


async def reset(stream: INetStream, code: int) -> None:
    """Reset both directions, with ``code`` if the transport can send one."""
    # The reset of py-libp2p's own stream has no parameter for a code.
    muxed = cast(NetStream, stream).muxed_stream
    if isinstance(muxed, WebTransportStream):
        await muxed.reset()
    else:
        await cast(Any, muxed).reset(code)


async def close_connection(stream: INetStream, code: int) -> None:
    """Close the connection of ``stream``, with ``code`` if the transport can send one."""
    connection = stream.muxed_conn
    if isinstance(connection, libp2p_quic.QUICConnection):
        await connection.close(code)
    else:
        await connection.close()
