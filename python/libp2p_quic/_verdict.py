"""Computes how long a dialed connection is withheld until the listener can have refused it.

In TLS 1.3 the dialer completes the handshake before the listener has seen its certificate. So a
refusal by the listener's gate arrives at least one round trip later, and an admission sends
nothing. `Swarm.dial_peer` takes at least 0.25 s, so a wait within that time costs nothing. Peers
whose refusal came later are remembered, and the next dial waits as long as they took. This module
only computes times; the transport waits.
"""

from __future__ import annotations

from collections import OrderedDict

from libp2p.peer.id import ID

# The delay of py-libp2p 0.8.1 (`_HAPPY_EYEBALLS_DELAY`) less the swarm's work after a dial. Seconds.
_FREE = 0.24
# The time of the listener's event loop and a fast gate, beyond the round trip. Seconds.
_MARGIN = 0.02
# The first round trips of a path differ by less than this factor.
_SLACK = 1.25
# Peers remembered, the default of `max_connections`. Each takes about a hundred bytes.
_REMEMBERED = 4096
# The default of `gate_timeout`: no dial waits for a slower gate. Seconds.
_LONGEST = 5.0


class Verdicts:
    """How long after the handshake each listener refused us, by peer."""

    def __init__(self) -> None:
        self._delays: OrderedDict[ID, float] = OrderedDict()

    def hold(self, peer: ID, rtt: float, spent: float) -> float:
        """How long to withhold a connection to ``peer``. ``spent`` is the time of the dial so far.
        All times are in seconds."""
        can_have_come = _SLACK * rtt + _MARGIN
        if (delay := self._delays.get(peer)) is not None:
            return min(max(_SLACK * delay + _MARGIN, can_have_come), _LONGEST)
        return max(0.0, min(can_have_come, _FREE - spent))

    def turned_away(self, peer: ID, after: float) -> None:
        """Record that ``peer`` refused us ``after`` this many seconds."""
        self._delays[peer] = after
        self._delays.move_to_end(peer)
        if len(self._delays) > _REMEMBERED:
            self._delays.popitem(last=False)

    def admitted(self, peer: ID) -> None:
        """Record that a connection to ``peer`` was still open after `hold`."""
        self._delays.pop(peer, None)
