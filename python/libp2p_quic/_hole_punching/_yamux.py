"""Has py-libp2p's yamux announce credit once half of a window is used, not after each read.

py-libp2p 0.8.1 sends a window update after each read of a stream, also of a single byte, and its
readers take lengths byte by byte. Over a relayed connection each update is encrypted, sent, relayed and
decrypted: most frames of an exchange of addresses were such updates.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import cache
from types import SimpleNamespace
from typing import Any

from libp2p.abc import IHost
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE, YamuxStream

from libp2p_quic._repair import ClassPatch, Repair, result_of

_METHOD = "_auto_tune_and_send_window_update"
_stock: Any = getattr(YamuxStream, _METHOD, None)


def repair_yamux(host: IHost) -> Repair | None:
    """Skip updates that are not due, unless py-libp2p does.

    The repair ends with the last host that wanted it.
    """
    if _is_mended():
        return None
    return Repair(
        "a read over yamux sends a window update once half of the window is used",
        _patch.apply(host),
        why="py-libp2p 0.8.1 sends one after each read, also of a single byte",
    )


async def _update_if_due(stream: Any, *, bytes_read: int = 0) -> None:
    # What is not announced now stays owed: the next call counts it again.
    unread = len(stream.conn.stream_buffers.get(stream.stream_id, b""))
    owed = stream.target_recv_window - stream.recv_window - unread
    if owed >= stream._grow_threshold():
        await _stock(stream, bytes_read=bytes_read)


_patch = ClassPatch(YamuxStream, _METHOD, _update_if_due)


@cache
def _is_mended() -> bool:
    return not _updates_for_a_byte()


def _updates_for_a_byte() -> bool:
    """Whether a stream of which one byte was received and read announces it."""
    announced: list[int] = []

    async def send_window_update(increment: int, **_: bool) -> None:
        announced.append(increment)

    stream = SimpleNamespace(
        stream_id=1,
        conn=SimpleNamespace(stream_buffers={}),
        window_lock=AsyncExitStack(),
        target_recv_window=DEFAULT_WINDOW_SIZE,
        recv_window=DEFAULT_WINDOW_SIZE - 1,
        send_window_update=send_window_update,
        _grow_threshold=lambda: DEFAULT_WINDOW_SIZE // 2,
        _apply_autotune_epoch=lambda _: 0,
        _pending_recv_release=0,
        _window_update_partial_slack=0,
    )
    result_of(lambda: _stock(stream, bytes_read=1))
    return bool(announced)
