"""Lets an exchange of addresses over a relay precede the other streams of its connection, for a moment.

A peer opens streams for identify and ping at the same time. Over a relayed connection the interpreter
encrypts and decrypts the frames of all of them, and the upgrade would wait for each.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import trio
from libp2p.abc import IMuxedConn

# Less than a round trip of most relays. Seconds.
_LONGEST = 0.01


class Precedence:
    """Which relayed connections of one host have an exchange of addresses that goes first."""

    def __init__(self) -> None:
        # The end of each, and when it ends at the latest.
        self._ends: WeakKeyDictionary[IMuxedConn, tuple[trio.Event, float]] = WeakKeyDictionary()

    def take(self, connection: IMuxedConn) -> None:
        """Streams that the peer opens on ``connection`` wait from now on, for at most `_LONGEST`."""
        self._ends[connection] = trio.Event(), trio.current_time() + _LONGEST

    def end(self, connection: IMuxedConn) -> None:
        """Streams of ``connection`` wait no longer. Nothing if they do not."""
        ended = self._ends.pop(connection, None)
        if ended is not None:
            ended[0].set()

    async def give(self, connection: IMuxedConn) -> None:
        """Wait until the exchange on ``connection``, if there is one, need not go first."""
        found = self._ends.get(connection)
        if found is not None:
            ended, until = found
            with trio.move_on_at(until):
                await ended.wait()
