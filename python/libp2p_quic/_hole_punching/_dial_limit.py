"""Limits the addresses that are dialed because peers name them, at once and over time: several peers may
name the same victim. No I/O here.

Each address counts, as each costs the same: the dial of one list goes to all its addresses at once. A dial
sends at most 36 kB to an address that does not answer (`a_dial_to_a_victim_*` in the engine's simulation).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from libp2p.peer.id import ID

# Addresses at once: eight of each of four peers, or two of each of the sixteen that are upgraded at once.
AT_ONCE = 32
# Two dials of eight addresses: the dial of one attempt may outlast the attempt.
AT_ONCE_FOR_PEER = 16
# Four upgrades that begin together: a dial without a punch and three attempts, of eight addresses each.
BURST = 128
# Addresses a minute after that. Peers have one or two in general.
PER_MINUTE = 60


class DialLimit:
    """The dials of one host."""

    def __init__(self) -> None:
        # Addresses.
        self._running: Counter[ID] = Counter()
        self._tokens = float(BURST)
        self._filled = 0.0

    @contextmanager
    def admitted(self, peer_id: ID, wanted: int) -> Iterator[int]:
        """How many of ``wanted`` addresses of the peer may be dialed now, until the context ends."""
        count = self._take(peer_id, wanted)
        try:
            yield count
        finally:
            self._running[peer_id] -= count
            if not self._running[peer_id]:
                del self._running[peer_id]

    def _take(self, peer_id: ID, wanted: int) -> int:
        now = trio.current_time()
        self._tokens = min(BURST, self._tokens + (now - self._filled) * PER_MINUTE / 60)
        self._filled = now
        count = min(
            wanted,
            int(self._tokens),
            AT_ONCE - sum(self._running.values()),
            AT_ONCE_FOR_PEER - self._running[peer_id],
        )
        self._tokens -= count
        self._running[peer_id] += count
        return count
