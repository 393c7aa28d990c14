"""The streams of a host over this transport and over yamux: the lock of their state, and the swarm's limit of
streams, cost no pass of trio's scheduler. What py-libp2p does under them stays its own.

py-libp2p 0.8.1 takes the lock in each read and write of a stream, to look at the stream's state.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.abc import IMuxedStream
from libp2p.network.connection import swarm_connection
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from libp2p_quic._prompt_lock import PromptSemaphore, TurnLock
from libp2p_quic._repair import ClassPatch, Repair, result_of
from libp2p_quic._stream import QUICStream


class HostStream(NetStream):
    """py-libp2p's stream, with a `TurnLock` if what it reads and writes has checkpoints of its own.

    Calls that only look at the state have no other checkpoint than that of the lock.
    """

    def __init__(self, muxed_stream: IMuxedStream, *others: Any, **named: Any) -> None:
        super().__init__(muxed_stream, *others, **named)
        if isinstance(muxed_stream, (QUICStream, YamuxStream)):
            self._state_lock: Any = TurnLock(self._state_lock)


# Swarms look the class up in this module.
_patch = ClassPatch(swarm_connection, "NetStream", HostStream)


def repair_streams(owner: object) -> Repair | None:
    """Have swarms make `HostStream`s, unless py-libp2p's own streams do not wait for their state.

    The repair ends with the last ``owner`` that wanted it, an object that can be referenced weakly.
    """
    if _is_mended():
        return None
    return Repair(
        "a read or write of a stream takes the free lock of its state at once",
        _patch.apply(owner),
        why="py-libp2p 0.8.1 waits for one pass of the scheduler in each of them",
    )


def repair_limit(swarm: Any) -> Repair | None:
    """Have new streams of ``swarm`` take a free place of its limit at once, unless it has none or they do."""
    semaphore = getattr(swarm, "_stream_semaphore", None)
    if not isinstance(semaphore, trio.Semaphore):
        return None
    swarm._stream_semaphore = prompt = PromptSemaphore(semaphore)

    def undo() -> None:
        if swarm._stream_semaphore is prompt:
            swarm._stream_semaphore = semaphore

    return Repair(
        "a new stream takes a free place of the swarm's limit at once",
        undo,
        why="py-libp2p 0.8.1 waits for one pass of the scheduler for it",
    )


@cache
def _is_mended() -> bool:
    return _reads_at_once()


def _reads_at_once() -> bool:
    """Whether py-libp2p's stream reads what is there without waiting itself."""

    async def read(_: int | None = None) -> bytes:
        return b"?"

    muxed_stream: Any = SimpleNamespace(muxed_conn=None, read=read)
    return result_of(lambda: NetStream(muxed_stream, None, None).read(1)) == b"?"
