"""Bytes of the demonstration, in which every error of transmission is detected.

Generates the bytes and computes their SHA-256. Opens no connections; only `RunningDigest` waits in trio,
when its thread is behind.
"""

from __future__ import annotations

import hashlib
import queue
import random
import threading
from collections.abc import Iterator

import trio

BLOCK = 65_536
"""Bytes in one write of the application."""

_POOL = 1 << 20
# An odd stride visits every offset of the pool before it repeats one, so the first million blocks are
# distinct: lost, duplicated and swapped blocks change the digest.
_STRIDE = 4099


class Payload:
    """``size`` bytes, the same ones in every run, made from one megabyte of memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool = random.Random("libp2p-quic").randbytes(_POOL + BLOCK)

    def blocks(self) -> Iterator[bytes]:
        """The bytes in order, `BLOCK` at a time; the last block may be shorter."""
        for number, done in enumerate(range(0, self.size, BLOCK)):
            offset = number * _STRIDE % _POOL
            yield self._pool[offset : offset + min(BLOCK, self.size - done)]

    def sha256(self) -> bytes:
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.digest()


class RunningDigest:
    """SHA-256 of a stream as it arrives, computed in a separate thread.

    The thread shares the processors with the transfer, so hashing is part of the measurement, but does
    not delay reads.
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._chunks: queue.Queue[bytes | None] = queue.Queue(maxsize=256)
        # A daemon thread, so that an abandoned transfer does not prevent the exit.
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    async def update(self, chunk: bytes) -> None:
        """Hand over a chunk. Waits only when the thread is 256 chunks behind."""
        try:
            self._chunks.put_nowait(chunk)
        except queue.Full:
            await trio.to_thread.run_sync(self._chunks.put, chunk)

    async def finish(self) -> bytes:
        """The digest of everything handed over."""
        await trio.to_thread.run_sync(self._chunks.put, None)
        await trio.to_thread.run_sync(self._thread.join)
        return self._digest.digest()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._digest.update(chunk)
