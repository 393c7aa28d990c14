"""Computes how long a dialed connection is withheld until the listener can have refused it.

In TLS 1.3 the dialer completes the handshake before the listener has seen its certificate. So a
refusal by the listener's gate arrives at least one round trip later, and an admission sends
nothing. A stream that the listener opens proves the admission and ends the wait: hosts open one at
once, for identify. So a wait costs a round trip with a host, and its limit is reached only if
the listener is slow, or opens no stream at all; such a peer is remembered and waited for less.
Peers whose refusal came later are remembered as well, and the next dial waits as long as they took.
This module only computes times; `_dial` waits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID

T = TypeVar("T")

# How long after it began a dial of a peer may still be withheld. py-libp2p's own `Swarm.dial_peer` takes
# that long anyway: the delay of py-libp2p 0.8.1 (`_HAPPY_EYEBALLS_DELAY`) less the swarm's work after the
# dial. Seconds.
FREE = 0.24
# No dial waits longer for a refusal by a peer that is not remembered. Seconds.
_LONGEST_GUESS = 0.24
# The time of the listener's event loop and a fast gate, beyond the round trip. Seconds.
_MARGIN = 0.02
# The first round trips of a path differ by less than this factor.
_SLACK = 1.25
# Peers remembered, the default of `max_connections`. Each takes about a hundred bytes.
_REMEMBERED = 4096
# The default of `gate_timeout`: no dial waits for a slower gate. Seconds.
_LONGEST = 5.0


class RefusalDelays:
    """How long after the handshake each listener refused us, by peer."""

    def __init__(self) -> None:
        self._delays: OrderedDict[ID, float] = OrderedDict()
        # Peers that were admitted and opened no stream while they were waited for.
        self._silent: OrderedDict[ID, None] = OrderedDict()

    def free_time(self, peer: ID) -> float:
        """How long after its beginning a dial of ``peer`` may be withheld where nothing else waits, in
        seconds: zero if the peer opened no stream in that time before."""
        return 0.0 if peer in self._silent else FREE

    def wait_time(self, peer: ID, rtt: float, spent: float, free: float = 0.0) -> float:
        """How long to withhold a connection to ``peer``. ``spent`` is the time since the dial began,
        and ``free`` how much of the dial's time may be used up anyway. All times are in seconds."""
        can_have_come = _SLACK * rtt + _MARGIN
        if (delay := self._delays.get(peer)) is not None:
            return min(max(_SLACK * delay + _MARGIN, can_have_come), _LONGEST)
        return max(0.0, free - spent, min(can_have_come, _LONGEST_GUESS - spent))

    def record_refusal(self, peer: ID, after: float) -> None:
        """Record that ``peer`` refused us ``after`` this many seconds."""
        _remember(self._delays, peer, after)

    def record_admission(self, peer: ID) -> None:
        """Record that a connection to ``peer`` was still open after `wait_time`, or had a stream."""
        self._delays.pop(peer, None)

    def record_stream(self, peer: ID) -> None:
        """Record that ``peer`` opened a stream within `wait_time`."""
        self._silent.pop(peer, None)

    def record_silence(self, peer: ID) -> None:
        """Record that ``peer`` opened no stream within a `wait_time` that used up `free_time`."""
        _remember(self._silent, peer, None)


def _remember(known: OrderedDict[ID, T], peer: ID, what: T) -> None:
    known[peer] = what
    known.move_to_end(peer)
    if len(known) > _REMEMBERED:
        known.popitem(last=False)


def free_time(swarm: Swarm | None, peer: ID) -> float:
    """How much of the time of a dial of one address costs nothing, in seconds.

    Zero without a swarm, if `Swarm.dial_peer` is not dialing ``peer`` (`dial_addr` returns at once), or
    if its first success ends it.
    """
    if swarm is None:
        return 0.0
    is_waiting = peer in swarm._ongoing_dials and swarm.connection_config.max_connections_per_peer > 1
    return FREE if is_waiting else 0.0
