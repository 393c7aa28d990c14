"""The streams of a host over this transport: the lock of their state costs no pass of trio's scheduler.

py-libp2p 0.8.1 takes a `trio.Lock` in each read and write of a stream, to look at the stream's state. Taking
a free `trio.Lock` is a checkpoint: the run polls for I/O, and every other task that can run does so first.
What py-libp2p does under the lock stays its own.
"""

from __future__ import annotations

import logging
from functools import cache
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.abc import IMuxedStream
from libp2p.network.connection import swarm_connection
from libp2p.network.stream.net_stream import NetStream

from libp2p_quic._repair import Repair, result_of
from libp2p_quic._stream import QUICStream

logger = logging.getLogger("libp2p_quic.transport")

# Where the swarm's connections look the class up.
_NAME = "NetStream"


class StateLock:
    """Excludes tasks as `trio.Lock` does, and in its order. To take it while it is free is no checkpoint:
    reads and writes of a stream have one of their own."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class HostStream(NetStream):
    """py-libp2p's stream, with a `StateLock` if it is a stream of this transport."""

    def __init__(self, muxed_stream: IMuxedStream, *others: Any, **named: Any) -> None:
        super().__init__(muxed_stream, *others, **named)
        if isinstance(muxed_stream, QUICStream):
            self._state_lock: Any = StateLock()


def repair_streams() -> Repair | None:
    """Have swarms make `HostStream`s, unless py-libp2p's own streams do not wait for their state. Logs it
    once in this process. Idempotent; `restore_streams` undoes it."""
    if _is_mended():
        return None
    setattr(swarm_connection, _NAME, HostStream)
    repair = Repair(
        "a read or write of a stream takes the free lock of its state at once",
        restore_streams,
        why="py-libp2p 0.8.1 waits for one pass of the scheduler in each of them",
    )
    repair.tell(logger)
    return repair


def restore_streams() -> None:
    """Have swarms make py-libp2p's own streams. Those that are open stay as they are."""
    setattr(swarm_connection, _NAME, NetStream)


@cache
def _is_mended() -> bool:
    """Whether py-libp2p's stream reads what is there without waiting itself."""

    async def read(_: int | None = None) -> bytes:
        return b"?"

    muxed_stream: Any = SimpleNamespace(muxed_conn=None, read=read)
    return result_of(lambda: NetStream(muxed_stream, None, None).read(1)) == b"?"
