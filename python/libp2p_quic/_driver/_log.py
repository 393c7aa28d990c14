"""Emits the engine's events as records of Python's `logging`, in the event loop.

The engine queues events and never waits for Python. The logger "libp2p_quic.engine" provides level
and handlers. The engine decides what it logs; this module only moves records.
"""

from __future__ import annotations

import logging

from libp2p_quic._engine import LogQueue, ReadyQueue

logger = logging.getLogger("libp2p_quic.engine")

# Events may come faster than they are logged, and the end of a loop must not wait for the last one.
_LAST_BATCHES = 4


class EngineLog:
    """The engine's log queue, drained by one event loop."""

    def __init__(self, ready_queue: ReadyQueue) -> None:
        self._queue = LogQueue(ready_queue)
        self.arrived = self._queue.arrived
        follow_level()

    def drain_nowait(self) -> bool | None:
        """Log the queued events. Returns None if there are none; `arrived` is then the token."""
        drained = self._queue.drain_nowait()
        if drained is None:
            return None
        entries, lost = drained
        for time, level, message, path, line in entries:
            if logger.isEnabledFor(level):
                record = logger.makeRecord(logger.name, level, path, line, message, (), None)
                record.created = time
                record.msecs = time % 1 * 1000
                _handle(record)
        if lost:
            logger.warning("%d more events of the engine came faster than they could be logged", lost)
        return True

    def close(self) -> None:
        """Log the queued events, and stop waking this loop."""
        for _ in range(_LAST_BATCHES):
            if not self.drain_nowait():
                break
        self._queue.close()


def follow_level() -> None:
    """Set the engine's log level to the logger's.

    `logging` does not report a change of level, so this is called whenever an endpoint, a listener
    or a connection starts. It takes a microsecond.
    """
    LogQueue.set_level(max(logger.getEffectiveLevel(), logger.manager.disable + 1))


def _handle(record: logging.LogRecord) -> None:
    try:
        logger.handle(record)
    except Exception:  # noqa: BLE001 - handlers and filters are the program's code
        # As `logging` does if a handler cannot write: print a note to stderr.
        logging.Handler().handleError(record)
