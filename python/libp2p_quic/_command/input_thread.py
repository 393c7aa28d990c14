"""Reads a descriptor on a thread, where an event loop cannot wait for it: the console and pipes of Windows,
and devices on macOS.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from threading import Thread


class InputThread:
    """Reads one block at a time, on demand. The thread ends with its block, or with the process."""

    def __init__(self, descriptor: int, block: int) -> None:
        """``block`` is the largest number of bytes of one read."""
        self._descriptor = descriptor
        self._block = block
        # What the next `read` returns.
        self._reading: Future[bytes] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether a thread waits for input."""
        return self._reading is not None and not self._reading.done()

    async def read(self) -> bytes:
        """At least one byte; b"" at the end. Raises OSError.

        Canceling loses no byte: the next call returns them.
        """
        if self._reading is None:
            self._reading = Future()
            # It cannot be canceled from now on.
            self._reading.set_running_or_notify_cancel()
            # The end of the process does not wait for a daemon.
            Thread(target=self._fill, args=(self._reading,), name="libp2p-quic-input", daemon=True).start()
        try:
            data = await asyncio.wrap_future(self._reading)
        except OSError:
            self._reading = None
            raise
        self._reading = None
        return data

    def drop(self) -> None:
        """Drop what has arrived and was not read."""
        if not self.is_reading:
            self._reading = None

    def _fill(self, reading: Future[bytes]) -> None:
        try:
            reading.set_result(os.read(self._descriptor, self._block))
        except OSError as error:
            reading.set_exception(error)
