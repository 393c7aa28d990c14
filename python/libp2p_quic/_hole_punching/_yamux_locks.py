"""Takes the free locks of py-libp2p's yamux without a pass of trio's scheduler.

py-libp2p 0.8.1 takes three for each frame of data that it writes, and one or two for each frame that it
receives. Over a relayed connection these passes took as much time as the exchange of addresses itself.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.abc import IHost
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream

from libp2p_quic._prompt_lock import PromptLock, PromptSemaphore, TurnLock
from libp2p_quic._repair import ClassPatch, Repair, result_of

_make_connection: Any = Yamux.__init__
_make_stream: Any = YamuxStream.__init__


def repair_yamux_locks(host: IHost) -> Repair | None:
    """Have yamux's later connections and streams take their free locks at once, unless they do.

    The repair ends with the last host that wanted it.
    """
    if _is_mended():
        return None
    undo_connections, undo_streams = _connections.apply(host), _streams.apply(host)

    def undo() -> None:
        undo_streams()
        undo_connections()

    return Repair(
        "a frame of yamux takes its free locks at once",
        undo,
        why="py-libp2p 0.8.1 waits for a pass of the scheduler for each of them",
    )


def _connection(connection: Any, *arguments: Any, **named: Any) -> None:
    _make_connection(connection, *arguments, **named)
    _replace(connection, "_write_lock", PromptLock)
    # A read of n bytes takes it, and may have no other checkpoint. A read of all bytes does not take it, but
    # leaves none, so that the next one waits.
    _replace(connection, "streams_lock", TurnLock)
    _replace(connection, "stream_backlog_semaphore", PromptSemaphore)


def _stream(stream: Any, *arguments: Any, **named: Any) -> None:
    _make_stream(stream, *arguments, **named)
    _replace(stream, "window_lock", PromptLock)
    # Of the two sides of this lock, yamux uses the writer's only.
    _replace(stream.rw_lock, "_writer_lock", PromptLock)


def _replace(owner: Any, name: str, kind: type[PromptLock]) -> None:
    lock = getattr(owner, name, None)
    # Anything else is a newer py-libp2p's, and stays.
    if isinstance(lock, (trio.Lock, trio.Semaphore)):
        setattr(owner, name, kind(lock))


_connections = ClassPatch(Yamux, "__init__", _connection)
_streams = ClassPatch(YamuxStream, "__init__", _stream)


@cache
def _is_mended() -> bool:
    return _is_taken_at_once()


def _is_taken_at_once() -> bool:
    """Whether a new stream's lock of its window is taken without waiting."""
    connection: Any = SimpleNamespace()
    lock = YamuxStream(1, connection, True).window_lock

    async def take() -> bool:
        async with lock:
            return True

    return result_of(take) is True
