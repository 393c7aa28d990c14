"""Watches a descriptor on a thread, for an asyncio loop that cannot: Windows' default one (Proactor) waits
for completed operations only. Each wake-up costs two changes of thread.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Callable
from threading import Thread, current_thread


class WatchThread:
    """Calls ``callback`` in ``loop`` when ``descriptor`` is readable, until `end`. One call at a time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, descriptor: int, callback: Callable[[], object]
    ) -> None:
        """Start the thread. Raises OSError without a free descriptor."""
        self._loop = loop
        self._descriptor = descriptor
        self._callback = callback
        # The loop's side and the thread's. A byte has the thread watch again; the end of the bytes ends it.
        self._near, self._far = socket.socketpair()
        self._is_ended = False
        # The end of the process does not wait for a daemon.
        self._thread = Thread(target=self._run, name="libp2p-quic-watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread, and call no more. In the loop's thread, or when the loop is closed or freed.
        Idempotent."""
        if not self._is_ended:
            self._is_ended = True
            self._near.close()
            # Before the descriptor may be closed. A collection of garbage may call this in the thread itself.
            if self._thread is not current_thread():
                self._thread.join()

    def _run(self) -> None:
        with self._far, selectors.DefaultSelector() as selector:
            selector.register(self._descriptor, selectors.EVENT_READ)
            selector.register(self._far, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._far for key, _ in selector.select()):
                    return
                try:
                    self._loop.call_soon_threadsafe(self._call)
                except RuntimeError:
                    # The loop was closed without `end`.
                    return
                if not self._far.recv(1):
                    return

    def _call(self) -> None:
        try:
            if not self._is_ended:
                self._callback()
        finally:
            # The callback may have ended it.
            if not self._is_ended:
                self._near.send(b".")
