"""From py-libp2p's QUIC configuration to the engine's.

The one decision here: a field of a *stock* configuration that still has py-libp2p's own
default was not chosen by anybody. Those defaults fit aioquic (600 s of idle timeout,
since it sends no keep-alive; 1200 byte datagrams, since it finds no MTU), so ours apply
instead. A field that was set counts, and so does every field of our own class.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import QUICInvalidConfigError

from libp2p_quic._engine import Config
from libp2p_quic._errors import ConfigError


@dataclass
class QUICTransportConfig(StockConfig):
    """py-libp2p's QUICTransportConfig with this transport's defaults and additions.

    Times are seconds, sizes bytes. Fields of the stock class that are not repeated here
    and not named in `engine_config` have no effect on this transport; in particular there
    is no read timeout, since a stream may rightly be silent for hours.
    """

    idle_timeout: float = 30.0
    """Silence after which a connection is lost; the smaller value of both sides counts."""
    max_datagram_size: int = 1452
    """Largest UDP payload that MTU discovery tries."""
    congestion_control_algorithm: str = "cubic"
    """"cubic", "newreno" (or "reno"), or "bbr"."""
    initial_rtt: float = 0.333
    """Round-trip time assumed before the first measurement (RFC 9002 section 6.2.2)."""
    STREAM_FLOW_CONTROL_WINDOW: int = 10_000_000
    """Unread bytes the peer may send on one stream."""
    CONNECTION_FLOW_CONTROL_WINDOW: int = 15_000_000
    """Unread bytes the peer may send on all streams of a connection."""
    MAX_INCOMING_STREAMS: int = 1024
    """Streams the peer may have open at once."""
    CONNECTION_CLOSE_TIMEOUT: int = 10
    """How long a connection that the peer ended waits for readers of what had arrived."""

    keep_alive_interval: float | None = 5.0
    """Silence after which a PING is sent; at most half of the idle timeout. None: never."""
    linger: float = 1.0
    """How long a closed connection goes on delivering what closed streams still owe."""


def engine_config(config: StockConfig) -> Config:
    """Raises QUICInvalidConfigError, which names the field."""
    idle_timeout = float(_chosen(config, "idle_timeout"))
    keep_alive = _chosen(config, "keep_alive_interval")
    algorithm = str(_chosen(config, "congestion_control_algorithm"))
    try:
        return Config(
            handshake_timeout=float(config.CONNECTION_HANDSHAKE_TIMEOUT),
            idle_timeout=idle_timeout,
            # Later, and the connection would be lost before the first one.
            keep_alive_interval=keep_alive and min(keep_alive, idle_timeout / 2),
            linger=linger(config),
            stream_receive_window=_chosen(config, "STREAM_FLOW_CONTROL_WINDOW"),
            connection_receive_window=_chosen(config, "CONNECTION_FLOW_CONTROL_WINDOW"),
            max_incoming_streams=_chosen(config, "MAX_INCOMING_STREAMS"),
            congestion_control="newreno" if algorithm == "reno" else algorithm,
            initial_rtt=_chosen(config, "initial_rtt"),
            max_datagram_size=_chosen(config, "max_datagram_size"),
        )
    except ConfigError as error:
        raise QUICInvalidConfigError(f"{error.field}: {error}") from error


def linger(config: StockConfig) -> float:
    """`QUICTransportConfig.linger`, also for a stock configuration."""
    return float(_chosen(config, "linger"))


def _chosen(config: StockConfig, name: str) -> Any:
    if isinstance(config, QUICTransportConfig):
        return getattr(config, name)
    stock = _STOCK.get(name, MISSING)
    value = getattr(config, name, stock)
    return _OURS[name] if value == stock else value


_STOCK = {field.name: field.default for field in fields(StockConfig)}
_OURS = {field.name: field.default for field in fields(QUICTransportConfig)}
