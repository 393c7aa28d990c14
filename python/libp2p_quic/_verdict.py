"""How long a dialed connection is held back, so that a listener that turns us away is heard.

In TLS 1.3 the dialer is done before the listener has seen its certificate: the listener's gate
answers one round trip later at the earliest, and says nothing when it admits. Below a swarm that
round trip is free while it ends within py-libp2p's own pause: `Swarm.dial_peer` returns no sooner
than 0.25 s after it began to dial. Peers that turned us away later than that are remembered, and
the next dial waits as long as they took. Only times here; the transport waits.
"""

from __future__ import annotations

from collections import OrderedDict

from libp2p.peer.id import ID

# The pause of py-libp2p 0.8.1 (`_HAPPY_EYEBALLS_DELAY`), less what the swarm does after a dial.
_FREE = 0.24
# What the listener's event loop and a quick gate take, beside the round trip. Seconds.
_MARGIN = 0.02
# A path's first round trips differ by less than this factor.
_SLACK = 1.25
# As many peers are remembered as a node has connections at most; each costs a hundred bytes.
_REMEMBERED = 4096
# A gate that takes longer than its default timeout is not waited for.
_LONGEST = 5.0


class Verdicts:
    """When listeners turned us away, by peer."""

    def __init__(self) -> None:
        self._delays: OrderedDict[ID, float] = OrderedDict()

    def hold(self, peer: ID, rtt: float, spent: float) -> float:
        """How long to hold a connection back whose dial has taken ``spent``. Seconds."""
        can_have_come = _SLACK * rtt + _MARGIN
        if (delay := self._delays.get(peer)) is not None:
            return min(max(_SLACK * delay + _MARGIN, can_have_come), _LONGEST)
        return max(0.0, min(can_have_come, _FREE - spent))

    def turned_away(self, peer: ID, after: float) -> None:
        """``peer`` closed the connection ``after`` so many seconds."""
        self._delays[peer] = after
        self._delays.move_to_end(peer)
        if len(self._delays) > _REMEMBERED:
            self._delays.popitem(last=False)

    def admitted(self, peer: ID) -> None:
        """A connection to ``peer`` was still open after `hold`."""
        self._delays.pop(peer, None)
