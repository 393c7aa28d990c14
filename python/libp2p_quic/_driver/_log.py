"""The engine's events as records of Python's `logging`, emitted in the event loop.

The engine queues them and never waits for Python; levels and handlers are those of the logger
"libp2p_quic.engine". Only moving records here: what is worth an event, the engine decides.
"""

from __future__ import annotations

import logging

from libp2p_quic._engine import LogQueue, ReadyQueue

logger = logging.getLogger("libp2p_quic.engine")


class EngineLog:
    """The queue of the engine's events, as one event loop empties it."""

    def __init__(self, ready_queue: ReadyQueue) -> None:
        self._queue = LogQueue(ready_queue)
        self.arrived = self._queue.arrived
        follow_level()

    def drain_nowait(self) -> bool | None:
        """Log what waits. None: nothing, and `arrived` rings when something does."""
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
        """Log what waits, and wake this loop no more."""
        while self.drain_nowait():
            pass
        self._queue.close()


def follow_level() -> None:
    """Have the engine queue what the logger takes now.

    `logging` tells nobody when a level changes, so this is called whenever an endpoint, a
    listener or a connection begins. It costs a microsecond.
    """
    LogQueue.set_level(max(logger.getEffectiveLevel(), logger.manager.disable + 1))


def _handle(record: logging.LogRecord) -> None:
    try:
        logger.handle(record)
    except Exception:  # noqa: BLE001 - handlers and filters are the program's code
        # As `logging` itself does where a handler cannot write: a note on stderr, no more.
        logging.Handler().handleError(record)
