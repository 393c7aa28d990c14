"""Limits the dials to addresses that peers name, at once and over time: several peers may name the same
victim. No I/O here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from libp2p.peer.id import ID

# Dials at once, of at most eight addresses each: as many as peers are upgraded at once.
AT_ONCE = 16
# The dial of one attempt may outlast the attempt.
AT_ONCE_FOR_PEER = 2
# Four for each upgrade: an upgrade begins each 4 s, after a burst of 15.
PER_MINUTE = 60


class DialLimit:
    """The dials of one host."""

    def __init__(self) -> None:
        self._running: Counter[ID] = Counter()
        self._tokens = float(PER_MINUTE)
        self._filled = 0.0

    @contextmanager
    def slot(self, peer_id: ID) -> Iterator[bool]:
        """Whether a dial for the peer may begin now. If so, it counts until the context ends."""
        is_admitted = self._try_take(peer_id)
        try:
            yield is_admitted
        finally:
            if is_admitted:
                self._running[peer_id] -= 1
                if not self._running[peer_id]:
                    del self._running[peer_id]

    def _try_take(self, peer_id: ID) -> bool:
        now = trio.current_time()
        self._tokens = min(PER_MINUTE, self._tokens + (now - self._filled) * PER_MINUTE / 60)
        self._filled = now
        running = sum(self._running.values())
        if self._tokens < 1 or running >= AT_ONCE or self._running[peer_id] >= AT_ONCE_FOR_PEER:
            return False
        self._tokens -= 1
        self._running[peer_id] += 1
        return True
