"""What became of one address of a dial. `_dial_progress` fills it in; nothing here decides or waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._exception_types import DialError
from libp2p_quic._statistics import ConnectionStatistics


@dataclass(eq=False)
class DialAttempt:
    """One address that a dial tried. `Endpoint.connect` makes it, and fills it in while it dials.

    ``address`` is the multiaddr with the IP address that was tried. ``began`` and ``ended`` are in
    seconds since the call of `connect`; ``ended`` is None while the attempt waits. ``result`` is
    "waiting", "connected", "failed", for which ``error`` says why, or "abandoned": another address
    connected first, or the dial was canceled.
    """

    address: str
    began: float
    ended: float | None = None
    result: Literal["waiting", "connected", "failed", "abandoned"] = "waiting"
    error: DialError | None = None
    _engine: EngineConnection | None = field(default=None, repr=False)
    _statistics: ConnectionStatistics | None = field(default=None, repr=False)

    def statistics(self) -> ConnectionStatistics | None:
        """The counters of `Connection.statistics`: up to now, or up to the end of the attempt. None
        if no datagram could be sent."""
        if self._engine is None:
            return self._statistics
        return ConnectionStatistics(**self._engine.statistics())

    @property
    def is_port_unreachable(self) -> bool:
        """Whether an ICMP message reports the port as unreachable: no program listens there, or a
        firewall, of the peer's machine or of a router, rejects UDP. The attempt continues, since
        the peer may be starting."""
        return self._engine is not None and self._engine.is_port_unreachable
