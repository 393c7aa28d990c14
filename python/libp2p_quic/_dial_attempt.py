"""What became of one address of a dial. `_dial_progress` fills it in; nothing here decides or waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._exception_types import DialError
from libp2p_quic._statistics import ConnectionStatistics


class PeerCertificate(NamedTuple):
    """The certificate that a peer showed in the TLS handshake, which has verified it.

    Use the fields by name: later versions may add some.
    """

    not_before: int
    """The first second in which it is valid (RFC 5280 section 4.1.2.5), in seconds since
    1970-01-01T00:00:00Z."""
    not_after: int
    """The last second in which it is valid, likewise."""
    serial: str
    """The serial number in hexadecimal, without leading zero bytes (RFC 5280 section 4.1.2.2)."""
    key_type: str
    """The type of the certificate's key: "Ed25519", "ECDSA on P-256", "ECDSA on P-384", "ECDSA on P-521", or
    "RSA of 2048 bits" with its size. This key is not the host key, which has signed it."""


@dataclass(eq=False)
class DialAttempt:
    """One address that a dial tried. `Endpoint.connect` makes it, and fills it in while it dials.

    ``address`` is the multiaddr with the IP address that was tried. ``began`` and ``ended`` are in
    seconds since the call of `connect`; ``ended`` is None while the attempt waits. ``result`` is
    "waiting", "connected", "failed", for which ``error`` says why, or "abandoned": another address
    connected first, or the dial was canceled. ``certificate`` is the peer's, once ``result`` is "connected".
    """

    address: str
    began: float
    ended: float | None = None
    result: Literal["waiting", "connected", "failed", "abandoned"] = "waiting"
    error: DialError | None = None
    certificate: PeerCertificate | None = None
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
