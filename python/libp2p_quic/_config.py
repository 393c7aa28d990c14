"""Translates py-libp2p's QUIC configuration into the engine's and into the adapter's own limits.

This module decides which fields count as set. In our class: fields that were given to the
constructor or assigned, and fields that differ from their default. In a *stock* configuration:
fields that differ from py-libp2p's default. Stock defaults fit aioquic (an idle timeout of 600 s,
as it sends no keep-alive; datagrams of 1200 bytes, as it does no path MTU discovery), so ours
replace them. `_config_table` describes the fields.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import MISSING, asdict, dataclass, fields
from os import environ
from typing import TYPE_CHECKING, Any, ClassVar

from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from multiaddr import Multiaddr

from libp2p_quic._addr import QUIC, QUIC_V1
from libp2p_quic._config_table import (
    LARGEST,
    MOST_STREAMS,
    ORDERED,
    ROWS,
    SMALL_READ_BUFFER,
    Reader,
    read_buffer,
)
from libp2p_quic._engine import Config
from libp2p_quic._engine_errors import ConfigError
from libp2p_quic._field_names import unknown_argument, unknown_field
from libp2p_quic.exceptions import InvalidConfigError

PeerGate = Callable[[ID, Multiaddr], bool | Awaitable[bool]]


class UnusedSettingWarning(UserWarning):
    """A field was set that has no effect on this transport. Issued once for each field."""


@dataclass
class QUICTransportConfig(StockConfig):
    """py-libp2p's QUICTransportConfig with this transport's defaults and additions.

    Times are in seconds, sizes in bytes. docs/configuration.md describes every field: its unit, its
    default, and what it does. Setting a field that has no effect issues an UnusedSettingWarning
    once. Raises InvalidConfigError, a ValueError that names the field.

    The value of a field is in effect unless another field with the same meaning takes precedence
    or a limit bounds it. `QUICTransport.effective_config` returns the values in effect.
    """

    # Names of the fields that were given or assigned. A slot, so that `vars` returns only fields.
    __slots__ = ("_chosen",)
    if TYPE_CHECKING:
        # A dataclass would make a field of any annotation other than ClassVar.
        _chosen: ClassVar[frozenset[str]]

    idle_timeout: float = 30.0
    max_datagram_size: int = 1452
    congestion_control_algorithm: str = "cubic"
    initial_rtt: float = 0.333
    STREAM_FLOW_CONTROL_WINDOW: int = 10_000_000
    CONNECTION_FLOW_CONTROL_WINDOW: int = 15_000_000
    MAX_INCOMING_STREAMS: int = 1024
    MAX_OUTGOING_STREAMS: int = MOST_STREAMS
    MAX_STREAM_RECEIVE_BUFFER: int = LARGEST
    STREAM_MEMORY_LIMIT_PER_STREAM: int = LARGEST
    STREAM_MEMORY_LIMIT_PER_CONNECTION: int = LARGEST
    STREAM_SEND_BUFFER_HIGH_WATERMARK: int = 262_144
    STREAM_OPEN_TIMEOUT: float = math.inf
    STREAM_READ_TIMEOUT: float = math.inf
    STREAM_WRITE_TIMEOUT: float = math.inf
    # Synonyms of the above need the same defaults: a value counts as set if it differs from its
    # default, and py-libp2p's default must be a value that one can set.
    stream_window: int = 10_000_000
    connection_window: int = 15_000_000
    max_concurrent_streams: int = 1024
    MAX_CONCURRENT_STREAMS: int = 1024

    max_connections: int = 4096
    max_connections_per_address: int | None = 256
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    max_handshakes: int = 1024
    max_handshakes_per_address: int = 64
    retry_above: int | None = 256
    max_accept_backlog: int = 256
    gate_peer: PeerGate | None = None
    gate_timeout: float = 5.0
    receive_budget: int = 268_435_456
    send_budget: int = 268_435_456
    qlog_file_limit: int = 67_108_864
    keep_alive_interval: float | None = 5.0
    linger: float = 1.0
    disable_active_migration: bool = False
    enable_0rtt: bool = False
    enable_protocol_negotiation: bool = True
    # Names of RFC 9000's transport parameters. None: not set, the older name counts.
    max_idle_timeout: float | None = None
    initial_max_data: int | None = None
    initial_max_stream_data_bidirectional_local: int | None = None
    initial_max_stream_data_bidirectional_remote: int | None = None
    initial_max_streams_bidirectional: int | None = None
    initial_max_streams_unidirectional: int | None = None

    def __new__(cls, *values: Any, **named: Any) -> QUICTransportConfig:
        """Record which fields are given. The constructor that dataclass generates does the rest.

        Raises InvalidConfigError for a keyword that is no field. Python's own TypeError names no field.
        """
        if (what := unknown_argument(cls, named)) is not None:
            raise InvalidConfigError(what)
        made = super().__new__(cls)
        names = [field.name for field in fields(cls)]
        given = frozenset(names[: len(values)]).union(named)
        # A call with every field is a copy (`dataclasses.replace`), not a choice of each value.
        object.__setattr__(made, "_chosen", frozenset() if given.issuperset(names) else given)
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        # Methods may be replaced, and `copy` assigns the slot.
        if name not in self.__dataclass_fields__ and not hasattr(type(self), name):
            raise InvalidConfigError(unknown_field(type(self), name))
        # The constructor assigns every field once, also those that were not given.
        is_made = name in self.__dict__
        super().__setattr__(name, value)
        if is_made and _MERGED.get(name) != value:
            object.__setattr__(self, "_chosen", self._chosen | {name})

    def __post_init__(self) -> None:
        # The stock class's checks are skipped: they relate fields that have no effect here.
        _checked(self)
        self._fit_swarm_limits()
        # Skips this method and the constructor that dataclass generates.
        _warn_of_unused(self, stacklevel=4)

    def _fit_swarm_limits(self) -> None:
        """Make the swarm admit the ``max_connections`` that was given, if it gets this object.

        The swarm's other limits have defaults for 300 connections: it would keep 50 of them for its
        own dials, also if ``max_connections`` is 30, and close connections beyond 300.
        """
        if "max_connections" in self._chosen:
            most = self.max_connections
            fitted = {"min_connections": 0, "low_watermark": most // 3, "high_watermark": most}
            # A value that was given may exclude the fitted ones: they must not decrease.
            if not self._chosen.intersection(fitted):
                chosen = self._chosen
                for name, value in fitted.items():
                    setattr(self, name, value)
                object.__setattr__(self, "_chosen", chosen)


@dataclass(frozen=True)
class Limits:
    """The limits that the adapter enforces. Times are in seconds; infinity means no limit."""

    open_timeout: float
    read_timeout: float
    write_timeout: float
    drain_timeout: float
    linger: float
    outgoing_streams: int
    # Decides whether a verified peer is admitted. None admits every peer.
    gate_peer: PeerGate | None
    gate_timeout: float
    # The protocol names that addresses may end in.
    protocols: tuple[str, ...]


def engine_config(config: StockConfig) -> Config:
    """The engine's part of a configuration of either class.

    Checks the configuration again, as fields may have been assigned since it was made. Raises
    InvalidConfigError.
    """
    made = _checked(config)
    # Skips this function and the transport's constructor.
    _warn_of_unused(config, stacklevel=4)
    return made


def _check_values(config: StockConfig) -> None:
    for row in ROWS:
        value = _value(config, row.name)
        if not row.kind.accepts(value):
            raise InvalidConfigError(f"{row.name} must be {row.kind.wants}, not {value!r}")
    for low, high in ORDERED:
        if _is_set(config, low) and _is_set(config, high):
            lower, upper = _value(config, low), _value(config, high)
            if None not in (lower, upper) and lower > upper:
                raise InvalidConfigError(f"{low} ({lower}) must not exceed {high} ({upper})")
    if not (config.enable_v1 or config.enable_draft29):
        raise InvalidConfigError("enable_v1 or enable_draft29 must be True, or there is no address to serve")
    if config.enable_qlog and not config.qlog_dir and not environ.get("QLOGDIR"):
        raise InvalidConfigError("enable_qlog needs a folder: set qlog_dir, or QLOGDIR in the environment")


def _checked(config: StockConfig) -> Config:
    _check_values(config)
    try:
        return Config(**_engine_values(config))
    except ConfigError as error:
        names = " or ".join(row.name for row in ROWS if row.sets == error.field) or error.field
        reason = str(error).removeprefix(f"{error.field}: ")
        raise InvalidConfigError(f"{names}: {reason}") from error


def _engine_values(config: StockConfig) -> dict[str, Any]:
    algorithm = _setting(config, "congestion_control")
    return {
        "handshake_timeout": _setting(config, "handshake_timeout"),
        "linger": _setting(config, "linger"),
        "max_incoming_streams": _setting(config, "max_incoming_streams"),
        "write_buffer": _setting(config, "write_buffer"),
        "congestion_control": "newreno" if algorithm == "reno" else algorithm,
        "initial_rtt": _setting(config, "initial_rtt"),
        "max_datagram_size": _setting(config, "max_datagram_size"),
        "ipv4_prefix": _setting(config, "ipv4_prefix"),
        "ipv6_prefix": _setting(config, "ipv6_prefix"),
        "max_accept_backlog": _setting(config, "max_accept_backlog"),
        "receive_budget": _setting(config, "receive_budget"),
        "send_budget": _setting(config, "send_budget"),
        "accept_draft_29": config.enable_draft29,
        "migration": not _setting(config, "disable_active_migration"),
        "qlog_dir": config.qlog_dir,
        "qlog_file_limit": _setting(config, "qlog_file_limit"),
        **_connections(config),
        **_silence(config),
        **_windows(config),
    }


def effective_values(config: StockConfig) -> dict[str, Any]:
    """The value in effect for each field that this transport reads, which may come from another
    field with the same meaning or from a bound. None and infinity mean no limit."""
    made = {**asdict(limits(config)), **_engine_values(config)}
    for bound in ("stream_memory", "connection_memory"):
        made[bound] = min(_set_values(config, bound), default=LARGEST)
    rows = [row for row in ROWS if row.reader is Reader.TRANSPORT]
    return {row.name: made.get(row.sets, _value(config, row.name)) for row in rows}


def chosen_connections(config: StockConfig) -> int | None:
    """``max_connections`` if the program set it, else None."""
    return int(_value(config, "max_connections")) if _is_set(config, "max_connections") else None


def limits(config: StockConfig) -> Limits:
    """The adapter's part of a configuration of either class."""
    served = {QUIC_V1: config.enable_v1, QUIC: config.enable_draft29}
    return Limits(
        open_timeout=_setting(config, "open_timeout"),
        read_timeout=_setting(config, "read_timeout"),
        write_timeout=_setting(config, "write_timeout"),
        drain_timeout=_setting(config, "drain_timeout"),
        linger=_setting(config, "linger"),
        outgoing_streams=_setting(config, "outgoing_streams"),
        gate_peer=_value(config, "gate_peer"),
        gate_timeout=_setting(config, "gate_timeout"),
        protocols=tuple(name for name, is_served in served.items() if is_served),
    )


def _connections(config: StockConfig) -> dict[str, Any]:
    """How many connections and handshakes may exist at once."""
    handshakes = _setting(config, "max_handshakes")
    retry_above = _value(config, "retry_above")
    if retry_above is not None and not _is_set(config, "retry_above"):
        retry_above = min(retry_above, handshakes // 4)
    return {
        "max_connections": _setting(config, "max_connections"),
        "max_connections_per_address": _value(config, "max_connections_per_address"),
        "max_handshakes": handshakes,
        "max_handshakes_per_address": _setting(config, "max_handshakes_per_address"),
        "retry_above": retry_above,
    }


def _silence(config: StockConfig) -> dict[str, Any]:
    """The idle timeout and the keep-alive interval, which must be shorter."""
    idle_timeout = _setting(config, "idle_timeout")
    interval = _setting(config, "keep_alive_interval")
    if interval is not None and interval >= idle_timeout:
        if _is_set(config, "keep_alive_interval"):
            raise InvalidConfigError(
                f"keep_alive_interval ({interval} s) must be shorter than the idle timeout "
                f"({idle_timeout} s), or the connection is lost before the first PING"
            )
        interval = math.inf
    if interval is not None and not _is_set(config, "keep_alive_interval"):
        interval = min(interval, idle_timeout / 2)
    return {"idle_timeout": idle_timeout, "keep_alive_interval": interval}


def _windows(config: StockConfig) -> dict[str, Any]:
    """The receive windows, which must fit each other and the memory limits."""
    stream = _setting(config, "stream_receive_window")
    both = "initial_max_stream_data_bidirectional_"
    named = [_value(config, both + way) for way in ("local", "remote") if _is_set(config, both + way)]
    if named:
        stream = max(named)
    connection = _setting(config, "connection_receive_window")
    if _is_any_set(config, "stream_receive_window") and not _is_any_set(config, "connection_receive_window"):
        connection = max(connection, stream)
    memory = min(_set_values(config, "stream_memory"), default=LARGEST)
    connection = min(connection, *_set_values(config, "connection_memory"), LARGEST)
    # The window gets at least half of a small memory limit: it bounds the throughput of long
    # paths, which matters more than the buffer.
    stream = min(stream, connection, memory - min(SMALL_READ_BUFFER, memory // 2))
    return {
        "stream_receive_window": stream,
        "connection_receive_window": connection,
        "read_buffer": max(1, min(read_buffer(stream), memory - stream)),
    }


# Which fields were set


def _defaults(of: type) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(of)
    }


_OURS = _defaults(QUICTransportConfig)
_STOCK = _defaults(StockConfig)
# `new_host` assigns every field of a ConnectionConfig to the QUIC configuration, also fields at
# their default, so an assigned default is not a choice. Only `connection_timeout` is listed: the
# swarm applies the other fields too, while this one is meant for TCP dials and is three times our
# handshake timeout.
_MERGED = {"connection_timeout": ConnectionConfig().connection_timeout}


def _value(config: StockConfig, name: str) -> Any:
    """The value of a field; our default if the class of ``config`` has no such field."""
    return getattr(config, name, _OURS[name])


def _is_set(config: StockConfig, name: str) -> bool:
    if isinstance(config, QUICTransportConfig) and name in config._chosen:
        # None leaves the decision to the synonyms of the field.
        return _value(config, name) is not None or _OURS[name] is not None
    return _differs(config, name)


def _differs(config: StockConfig, name: str) -> bool:
    """Whether a field has neither its default nor what `new_host` writes."""
    value = _value(config, name)
    known = _OURS if isinstance(config, QUICTransportConfig) or name not in _STOCK else _STOCK
    return bool(value != known[name] and value != _MERGED.get(name, known[name]))


def _set_values(config: StockConfig, setting: str) -> list[Any]:
    return [_value(config, row.name) for row in ROWS if row.sets == setting and _is_set(config, row.name)]


def _is_any_set(config: StockConfig, setting: str) -> bool:
    return bool(_set_values(config, setting))


def _setting(config: StockConfig, setting: str) -> Any:
    """The value of the first field that was set for ``setting``, else the first default of ours."""
    for value in _set_values(config, setting):
        return value
    return next(
        (_OURS[row.name] for row in ROWS if row.sets == setting and _OURS[row.name] is not None), None
    )


# Warnings

_warned: set[str] = set()


def _warn_of_unused(config: StockConfig, stacklevel: int) -> None:
    for row in ROWS:
        if row.reader is Reader.NOBODY and row.name not in _warned and _differs(config, row.name):
            _warned.add(row.name)
            message = f"{row.name} does nothing on this transport: {row.here}"
            warnings.warn(message, UnusedSettingWarning, stacklevel=stacklevel)
