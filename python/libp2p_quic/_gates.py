"""Asks the gates that decide whether a peer is admitted: the program's `gate_peer`, the swarm's.

`_gate` judges their answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from libp2p_quic._addr import to_multiaddr
from libp2p_quic._callback import outcome_of
from libp2p_quic._gate import Denial, Gate, InboundDenials


class TrioGate(Gate):
    """A gate that is asked in a trio run."""

    async def denial(self, peer: str, *arguments: object) -> Denial | None:
        """Why the gate denies ``peer``; None if it admits. ``arguments`` are passed to the gate.

        Canceling cancels the gate. A plain function cannot be interrupted; if it returns after
        the timeout, the peer is denied.
        """
        with trio.CancelScope(deadline=trio.current_time() + self._timeout) as scope:
            outcome = await outcome_of(lambda: self._call(*arguments))
        return self._judge(peer, None if scope.cancel_called else outcome)


def name_of(call: Callable[..., object]) -> str:
    """The name for log lines: the qualified name of a function, otherwise of the callable's class."""
    call = call.func if isinstance(call, partial) else call
    named = call if hasattr(call, "__qualname__") else type(call)
    return f"{named.__module__}.{named.__qualname__}"


class Gates:
    """The gates of one transport. ``swarm`` is the swarm that uses it, once it has one.

    ``gate_peer`` is the program's gate, None to admit every peer. ``timeout`` is the time limit of
    one call, in seconds.
    """

    def __init__(self, gate_peer: Callable[..., object] | None, timeout: float) -> None:
        self.swarm: Swarm | None = None
        # Inbound connections that a gate denied, and that the swarm refused for a limit of its own.
        self.denied = 0
        self.refused_by_swarm = 0
        self._inbound_denials = InboundDenials()
        self._peer_gate = (
            TrioGate(f"gate_peer ({name_of(gate_peer)})", gate_peer, timeout) if gate_peer else None
        )
        self._swarm_gate = TrioGate("the swarm's connection gate", self._ask_swarm, timeout)
        self._limit_gate = TrioGate("the swarm's resource manager", self._ask_limits, timeout)

    @property
    def admit_all(self) -> bool:
        """Whether there is neither a program's gate nor a swarm's, so that none has to be asked."""
        return self.swarm is None and self._peer_gate is None

    @property
    def has_peer_gate(self) -> bool:
        """Whether the program has a gate of its own."""
        return self._peer_gate is not None

    async def inbound_denial(self, peer_id: ID, maddr: Multiaddr) -> Denial | None:
        """Why the gates deny a verified inbound peer; None if they admit it.

        The swarm asks its own gate too, but later, and closes without a reason.
        """
        denial, peer = None, f"{peer_id} at {maddr}"
        if self.swarm is not None:
            denial = await self._swarm_gate.denial(peer, maddr)
        denial = denial or await self.peer_denial(peer_id, maddr)
        if denial is not None:
            self._inbound_denials.report(peer, denial)
        return denial

    async def peer_denial(self, peer_id: ID, maddr: Multiaddr) -> Denial | None:
        """Why `gate_peer` denies a verified peer; None if it admits it."""
        if self._peer_gate is None:
            return None
        return await self._peer_gate.denial(f"{peer_id} at {maddr}", peer_id, maddr)

    async def address_denial(self, host: str, port: int, held: str = "") -> Denial | None:
        """Why the swarm's gate, or the limits of its resource manager for networks, deny an IP address that
        is dialed; None if they admit it.

        ``held`` (default: none) is an IP literal for which the swarm has asked the resource manager: the
        slot that this dial holds would count against it.
        """
        if self.swarm is None:
            return None
        denial = await self._swarm_gate.denial(host, to_multiaddr(host, port))
        if denial is None and host != held and self._limiter is not None:
            denial = await self._limit_gate.denial(host, host.partition("%")[0])
        return denial

    @property
    def _limiter(self) -> Any:
        """The limits for networks of py-libp2p's resource manager; None if the program set none.

        Its other limits are those of connections, of which a dial makes at most one: the swarm asks.
        """
        return getattr(getattr(self.swarm, "_resource_manager", None), "cidr_limiter", None)

    def _ask_limits(self, host: str) -> object:
        return self._limiter.allow(host)

    def _ask_swarm(self, maddr: Multiaddr) -> object:
        # Looked up on each call, as a program may replace the swarm's gate.
        assert self.swarm is not None
        return self.swarm.connection_gate.is_allowed(maddr)
