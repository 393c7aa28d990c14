"""What became of each address of a dial. `Endpoint.connect` fills it in; nothing here decides or waits."""

from __future__ import annotations

from collections.abc import Callable
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
        """Whether the peer's machine reports that no program listens on the port. The attempt
        continues, since the peer may be starting."""
        return self._engine is not None and self._engine.is_port_unreachable


class DialRecord:
    """Fills in ``attempts`` for one dial, which begins now. ``clock`` gives the time in seconds."""

    def __init__(self, attempts: list[DialAttempt], clock: Callable[[], float]) -> None:
        self._attempts = attempts
        self._clock = clock
        self._began = clock()
        self._by_host: dict[str, DialAttempt] = {}

    def begin(self, host: str, address: str) -> None:
        """The dial tries ``host``, an IP literal."""
        made = DialAttempt(address, self._clock() - self._began)
        self._by_host[host] = made
        self._attempts.append(made)

    def started(self, host: str, engine: EngineConnection) -> None:
        """The handshake with ``host`` has begun."""
        self._by_host[host]._engine = engine

    def connected(self, host: str) -> None:
        """The dial has its connection."""
        self._end(self._by_host[host], "connected")

    def failed(self, host: str, error: DialError) -> None:
        """There is no connection to ``host``."""
        attempt = self._by_host[host]
        attempt.error = error
        self._end(attempt, "failed")

    def abandoned(self, engine: EngineConnection) -> None:
        """The handshake is not needed any more."""
        for each in self._by_host.values():
            if each._engine is engine:
                self._end(each, "abandoned")

    def _end(self, attempt: DialAttempt, result: Literal["connected", "failed", "abandoned"]) -> None:
        attempt.ended = self._clock() - self._began
        attempt.result = result
        attempt._statistics = attempt.statistics()
        # A record must not keep a connection open that the program drops.
        attempt._engine = None
