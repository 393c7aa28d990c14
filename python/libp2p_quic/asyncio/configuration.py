"""The configuration of an endpoint: fields of `QUICTransportConfig` that need no py-libp2p.

Names, units, accepted values and meaning are those of docs/configuration.md; `_config_table` checks
them. Where the transport has several names for one setting, this class has one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from os import PathLike

from libp2p_quic._config_table import LARGEST, ORDERED, ROWS, read_buffer
from libp2p_quic._engine import Config
from libp2p_quic._engine_errors import ConfigError
from libp2p_quic._exception_types import InvalidConfigError
from libp2p_quic._field_names import names_checked
from libp2p_quic._peer_id import PeerId

PeerGate = Callable[[PeerId, str], bool | Awaitable[bool]]

# Field -> the engine's name, where they differ.
_ENGINE_NAMES = {
    "stream_window": "stream_receive_window",
    "connection_window": "connection_receive_window",
    "max_concurrent_streams": "max_incoming_streams",
    "congestion_control_algorithm": "congestion_control",
}
# Fields that the engine does not read, and those that are computed below.
_NOT_ENGINE = {"gate_peer", "gate_timeout", "negotiation_timeout", "disable_active_migration"}


@names_checked(InvalidConfigError)
@dataclass(frozen=True)
class EndpointConfig:
    """Limits and timeouts of an endpoint. Times are in seconds, sizes in bytes.

    docs/configuration.md describes the fields, their defaults and why. Three are spelled otherwise
    there: ``handshake_timeout`` is CONNECTION_HANDSHAKE_TIMEOUT, ``write_buffer`` is
    STREAM_SEND_BUFFER_HIGH_WATERMARK, and ``negotiation_timeout`` (the time limit of agreeing on
    the protocol of a stream; 10 s, as in go-libp2p) is the host's there.

    ``gate_peer(peer_id, address)`` is asked about each verified peer, dialed or accepted; only
    True admits. It may be async. Raises InvalidConfigError, which names the field.
    """

    handshake_timeout: float = 10.0
    idle_timeout: float = 30.0
    keep_alive_interval: float | None = 5.0
    linger: float = 1.0
    negotiation_timeout: float = 10.0
    stream_window: int = 10_000_000
    connection_window: int = 15_000_000
    receive_budget: int = 268_435_456
    send_budget: int = 268_435_456
    write_buffer: int = 262_144
    max_concurrent_streams: int = 1024
    congestion_control_algorithm: str = "cubic"
    initial_rtt: float = 0.333
    max_datagram_size: int = 1452
    max_connections: int = 4096
    max_connections_per_address: int | None = 256
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    max_handshakes: int = 1024
    max_handshakes_per_address: int = 64
    retry_above: int | None = 256
    max_accept_backlog: int = 256
    disable_active_migration: bool = False
    qlog_dir: str | PathLike[str] | None = None
    qlog_file_limit: int = 67_108_864
    gate_peer: PeerGate | None = None
    gate_timeout: float = 5.0

    def __post_init__(self) -> None:
        kinds = {row.name: row.kind for row in ROWS}
        for field in fields(self):
            value = getattr(self, field.name)
            kind = kinds[_TABLE_NAMES.get(field.name, field.name)]
            if not kind.accepts(value):
                raise InvalidConfigError(f"{field.name} must be {kind.wants}, not {value!r}")
        for low, high in ORDERED:
            lower, upper = getattr(self, low, None), getattr(self, high, None)
            is_set = lower != _DEFAULTS.get(low) and upper != _DEFAULTS.get(high)
            if lower is not None and upper is not None and is_set and lower > upper:
                raise InvalidConfigError(f"{low} ({lower}) must not exceed {high} ({upper})")
        self.engine_config()

    def engine_config(self) -> Config:
        """The engine's part. Raises InvalidConfigError."""
        try:
            return Config(**self._engine_values())  # type: ignore[arg-type]
        except ConfigError as error:
            names = {engine: field for field, engine in _ENGINE_NAMES.items()}
            name = names.get(error.field, error.field)
            raise InvalidConfigError(f"{name}: {str(error).removeprefix(f'{error.field}: ')}") from error

    def _engine_values(self) -> dict[str, object]:
        values: dict[str, object] = {
            _ENGINE_NAMES.get(each.name, each.name): getattr(self, each.name)
            for each in fields(self)
            if each.name not in _NOT_ENGINE
        }
        if values["congestion_control"] == "reno":
            values["congestion_control"] = "newreno"
        values["migration"] = not self.disable_active_migration
        # Defaults give way to what was set: a shorter idle timeout needs earlier keep-alives, and
        # fewer handshakes earlier Retries.
        if self.keep_alive_interval == _DEFAULTS["keep_alive_interval"]:
            values["keep_alive_interval"] = min(self.keep_alive_interval or 0, self.idle_timeout / 2)
        if self.retry_above == _DEFAULTS["retry_above"]:
            values["retry_above"] = min(self.retry_above or 0, self.max_handshakes // 4)
        connection = min(self.connection_window, LARGEST)
        if self.connection_window == _DEFAULTS["connection_window"]:
            connection = max(connection, self.stream_window)
        stream = min(self.stream_window, connection)
        values["connection_receive_window"] = connection
        values["stream_receive_window"] = stream
        values["read_buffer"] = read_buffer(stream)
        return values


_DEFAULTS = {field.name: field.default for field in fields(EndpointConfig)}
# Field -> the row of the table with its accepted values, where the names differ.
_TABLE_NAMES = {
    "handshake_timeout": "CONNECTION_HANDSHAKE_TIMEOUT",
    "negotiation_timeout": "CONNECTION_HANDSHAKE_TIMEOUT",
    "write_buffer": "STREAM_SEND_BUFFER_HIGH_WATERMARK",
}
