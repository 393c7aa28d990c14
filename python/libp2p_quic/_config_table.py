"""The table of all configuration fields: unit, accepted values, and effect.

The checks, the precedence of synonyms, the warnings about fields without effect, and the table in
docs/configuration.md all come from these rows. `_config` computes the values in effect.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_network
from os import PathLike


@dataclass(frozen=True)
class Kind:
    """The values that a field accepts. ``wants`` completes "must be ..."."""

    unit: str
    wants: str
    accepts: Callable[[object], bool]


def _number(unit: str, wants: str, low: float, high: float, *, is_whole: bool = False) -> Kind:
    """A number from ``low`` to ``high``, both included. NaN and bool are rejected."""
    types = int if is_whole else (int, float)
    return Kind(
        unit,
        wants,
        lambda value: isinstance(value, types) and not isinstance(value, bool) and low <= value <= high,
    )


def _optional(kind: Kind) -> Kind:
    return Kind(kind.unit, f"{kind.wants}, or None", lambda value: value is None or kind.accepts(value))


def _one_of(*names: str) -> Kind:
    wants = "one of " + ", ".join(names)
    return Kind("name", wants, lambda value: isinstance(value, str) and value in names)


def _takes_a_peer(value: object) -> bool:
    """Whether it can be called with a peer id and an address. True if it shows no signature."""
    if not callable(value):
        return False
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind("peer id", "address")
    except TypeError:
        return False
    return True


def _are_networks(value: object) -> bool:
    try:
        return isinstance(value, list) and all(
            isinstance(each, str) and ip_network(each, strict=False) for each in value
        )
    except ValueError:
        return False


# The largest integer that QUIC can encode (RFC 9000 section 16), and the largest number of streams
# (section 4.6). As limits, both mean no limit.
LARGEST = 2**62 - 1
MOST_STREAMS = 2**60

# Bytes that wait for the reader of a stream after they left QUIC's receive window: the default,
# which is the engine's (a test compares them), and the size that goes with a small window.
_READ_BUFFER = 4_194_304
SMALL_READ_BUFFER = 524_288
_SMALLEST = 1e-6
_LONGEST = 1e9

_SECONDS = _number("s", "a positive number of seconds", _SMALLEST, _LONGEST)
_SECONDS_OR_ZERO = _number("s", "a number of seconds, not negative", 0, _LONGEST)
_LIMIT = _number("s", "a positive number of seconds, or math.inf for no limit", _SMALLEST, math.inf)
_BYTES = _number("bytes", "a whole number of bytes from 1 to 2**62 - 1", 1, LARGEST, is_whole=True)
_PAYLOAD = _number("bytes", "a whole number of bytes from 1200 to 65527", 1200, 65_527, is_whole=True)
_COUNT = _number("number", "a whole number, not negative", 0, LARGEST, is_whole=True)
_STREAMS = _number("streams", "a whole number from 0 to 2**32 - 1", 0, 2**32 - 1, is_whole=True)
_NO_STREAMS = _number("streams", "0: libp2p has no unidirectional streams", 0, 0, is_whole=True)
_OPENED = _number("streams", "a whole number from 0 to 2**60", 0, MOST_STREAMS, is_whole=True)
_HANDSHAKES = _number("handshakes", "a positive whole number", 1, 2**32 - 1, is_whole=True)
_SOME = _number("handshakes", "a whole number, not negative", 0, 2**32 - 1, is_whole=True)
_IPV4_BITS = _number("bits", "a whole number from 1 to 32", 1, 32, is_whole=True)
_IPV6_BITS = _number("bits", "a whole number from 1 to 128", 1, 128, is_whole=True)
_BUDGET = _number("bytes", "a whole number of bytes from 65536 to 2**62 - 1", 65_536, LARGEST, is_whole=True)
_GATE = Kind("callable", "callable as gate_peer(peer_id, address)", _takes_a_peer)
_CONNECTIONS = _number("connections", "a positive whole number", 1, 2**32 - 1, is_whole=True)
_PORT = _number("port", "a whole number from 0 to 65535", 0, 65_535, is_whole=True)
_FRACTION = _number("0 to 1", "a number from 0 to 1", 0, 1)
_FACTOR = _number("factor", "a number, not negative", 0, _LONGEST)
_MILLISECONDS = _number("ms", "a positive number of milliseconds", _SMALLEST, _LONGEST)
_FLAG = Kind("bool", "True or False", lambda value: isinstance(value, bool))
_TEXT = Kind("text", "a string", lambda value: isinstance(value, str))
_PATH = Kind("path", "a path", lambda value: isinstance(value, str | PathLike))
_FILE_SIZE = _number("bytes", "a whole number of bytes from 4096 to 2**62 - 1", 4096, LARGEST, is_whole=True)
_TEXTS = Kind(
    "list",
    "a list of strings",
    lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
)
# The swarm's gate ignores an invalid entry: an allow list of typos admits everybody.
_NETWORKS = Kind(
    "list", 'a list of IP addresses and networks, like ["192.0.2.1", "2001:db8::/32"]', _are_networks
)
# `ssl.VerifyMode` is an int, and programs also pass the plain numbers.
_MODE = Kind("ssl.VerifyMode", "an ssl.VerifyMode", lambda value: value in (0, 1, 2))


class Reader(Enum):
    """What reads a field."""

    TRANSPORT = "This transport"
    SWARM = "py-libp2p's swarm and host"
    NOBODY = "Nobody"


@dataclass(frozen=True)
class Row:
    """One field. Of rows with the same ``sets``, the first field that was set takes precedence."""

    name: str
    kind: Kind
    here: str
    reader: Reader = Reader.TRANSPORT
    sets: str = ""


def _sets(setting: str, *rows: tuple[str, Kind, str]) -> list[Row]:
    return [Row(name, kind, here, sets=setting) for name, kind, here in rows]


def _own(name: str, kind: Kind, here: str) -> Row:
    """A field that alone sets what its name says."""
    return Row(name, kind, here, sets=name)


def _swarm(*rows: tuple[str, Kind, str]) -> list[Row]:
    return [Row(name, kind, here, Reader.SWARM) for name, kind, here in rows]


def _nobody(*rows: tuple[str, Kind, str]) -> list[Row]:
    return [Row(name, kind, here, Reader.NOBODY) for name, kind, here in rows]


_WINDOW = "Unread bytes that the peer may send on one stream. One value serves both directions"
_METRICS = "The engine always counts: `QUICConnection.statistics()`"
_LIBRARY = "The engine schedules streams itself"
_RETRY = "The swarm and the application retry; the engine only retransmits lost data"

ROWS: tuple[Row, ...] = (
    # Connections
    *_sets(
        "idle_timeout",
        ("max_idle_timeout", _optional(_SECONDS), "Synonym of `idle_timeout`, with precedence over it"),
        (
            "idle_timeout",
            _SECONDS,
            "Time without a packet from the peer after which a connection is lost. The smaller value of both "
            "sides applies (RFC 9000 section 10.1)",
        ),
    ),
    *_sets(
        "keep_alive_interval",
        (
            "keep_alive_interval",
            _optional(_SECONDS),
            "Time without a packet after which a PING is sent; None: never. Must be shorter than the idle "
            "timeout. If a third of the idle timeout that both sides agreed on is shorter, that applies. A "
            "connection for which a hole was punched takes two fifths of it (2 s by default), as some NATs "
            "forget a mapping after 5 s. It may leave a tenth early, with that of another connection",
        ),
    ),
    *_sets(
        "handshake_timeout",
        (
            "CONNECTION_HANDSHAKE_TIMEOUT",
            _SECONDS,
            "How long a handshake may take, dialed or accepted; a dial by name has it for each address",
        ),
        (
            "connection_timeout",
            _SECONDS_OR_ZERO,
            "The same, if `CONNECTION_HANDSHAKE_TIMEOUT` is not set. 30, if assigned and not given to the "
            "constructor, counts as not set: `new_host` assigns it when it merges a ConnectionConfig",
        ),
    ),
    *_sets(
        "linger",
        (
            "linger",
            _SECONDS_OR_ZERO,
            "How long a closed connection continues to deliver the data of closed streams",
        ),
        ("connection_close_timeout", _SECONDS_OR_ZERO, "The same, if `linger` is not set"),
    ),
    *_sets(
        "drain_timeout",
        (
            "CONNECTION_CLOSE_TIMEOUT",
            _SECONDS_OR_ZERO,
            "How long a connection that was lost or closed by the peer waits, without progress, until what "
            "has arrived is read",
        ),
    ),
    *_sets(
        "max_connections",
        (
            "max_connections",
            _CONNECTIONS,
            "Connections in all; inbound ones beyond it are refused in the handshake. At the default of "
            "py-libp2p's own class, 1000, the swarm applies 1000 and this transport 4096. If it is given to "
            "the constructor and none of these is, the swarm's `min_connections` becomes 0, `high_watermark` "
            "this value, and `low_watermark` a third of it",
        ),
    ),
    *_sets(
        "max_connections_per_address",
        (
            "max_connections_per_address",
            _optional(_CONNECTIONS),
            "Inbound connections from one remote address; more are refused. None: no limit. The loopback "
            "has no limit",
        ),
    ),
    _own("ipv4_prefix", _IPV4_BITS, "IPv4 prefix length that counts as one address for the limits"),
    _own("ipv6_prefix", _IPV6_BITS, "IPv6 prefix length that counts as one address for the limits"),
    *_sets(
        "max_handshakes",
        (
            "max_handshakes",
            _HANDSHAKES,
            "Inbound handshakes in flight, including failed ones whose state is still kept. First packets "
            "beyond it are dropped; peers retransmit them",
        ),
    ),
    *_sets(
        "max_handshakes_per_address",
        (
            "max_handshakes_per_address",
            _HANDSHAKES,
            "The same for one remote address. Beyond it the address must be validated by a Retry; the same "
            "number again may be in flight from the validated address. The loopback has no limit",
        ),
    ),
    *_sets(
        "retry_above",
        (
            "retry_above",
            _optional(_SOME),
            "Inbound handshakes in flight above which every unknown address must be validated by a Retry. 0: "
            "always. None: only at `max_handshakes_per_address`. Must be less than `max_handshakes`; if not "
            "set, the smaller of the default and a quarter of `max_handshakes` applies",
        ),
    ),
    *_sets(
        "max_accept_backlog",
        (
            "max_accept_backlog",
            _CONNECTIONS,
            "Connections with a complete handshake that wait for the event loop; more are closed with 0x1001",
        ),
    ),
    *_sets(
        "gate_peer",
        (
            "gate_peer",
            _optional(_GATE),
            "Called with peer id and multiaddr once a peer is verified, before the swarm sees the "
            "connection. May be `async`. Only True admits: any other answer, an exception and a timeout "
            "close the connection with 0x1007. Runs in the event loop and must not block it",
        ),
    ),
    *_sets(
        "gate_timeout",
        (
            "gate_timeout",
            _SECONDS,
            "How long `gate_peer`, or the swarm's connection gate, may take for one peer; then the peer is "
            "denied. The default allows a database query, and is half of the peer's handshake timeout",
        ),
    ),
    _own(
        "disable_active_migration",
        _FLAG,
        "Tells peers that dial us not to migrate; a peer that changes its address is lost",
    ),
    _own("enable_v1", _FLAG, "Serve `/quic-v1` addresses. QUIC version 1 is used in any case"),
    *_sets(
        "enable_draft29",
        (
            "enable_draft29",
            _FLAG,
            "Serve `/quic` addresses, and accept the stock transport's dials to them; see below",
        ),
    ),
    # Streams
    *_sets(
        "stream_receive_window",
        (
            "initial_max_stream_data_bidirectional_local",
            _optional(_BYTES),
            f"{_WINDOW}: the larger of this and the next line, if both are set",
        ),
        (
            "initial_max_stream_data_bidirectional_remote",
            _optional(_BYTES),
            f"{_WINDOW}: the larger of this and the previous line",
        ),
        (
            "STREAM_FLOW_CONTROL_WINDOW",
            _BYTES,
            "The same, if neither of these is set. Credit is returned as the application reads",
        ),
        ("stream_window", _BYTES, "The same, if none of these is set"),
    ),
    *_sets(
        "connection_receive_window",
        (
            "initial_max_data",
            _optional(_BYTES),
            "Unread bytes that the peer may send on all streams of a connection together. The window starts "
            "at 32 KiB and doubles up to this when half of it is read within few round trips, or when "
            "readers have stopped",
        ),
        ("CONNECTION_FLOW_CONTROL_WINDOW", _BYTES, "The same, if `initial_max_data` is not set"),
        ("connection_window", _BYTES, "The same, if neither is set"),
    ),
    _own(
        "receive_budget",
        _BUDGET,
        "Unread bytes held for all connections together. A connection is charged its window and the "
        "bytes that wait for readers outside it. When the budget is used up, neither grows",
    ),
    *_sets(
        "send_budget",
        (
            "send_budget",
            _BUDGET,
            "Bytes held for all connections together until peers acknowledge them. A connection is charged "
            "its send window, which grows from 64 KiB to 10 MB as its peer acknowledges, and the bytes that "
            "wait in its streams. When half is used up, a stream queues no more at a time than its peer took "
            "of it before; when all is used up, 4 KiB, and no window grows",
        ),
    ),
    *_sets(
        "stream_memory",
        (
            "MAX_STREAM_RECEIVE_BUFFER",
            _BYTES,
            "Limit of the window of a stream and our buffer together. Nothing is dropped: the peer waits",
        ),
        ("STREAM_MEMORY_LIMIT_PER_STREAM", _BYTES, "The same; the smaller of the two applies"),
    ),
    *_sets(
        "connection_memory",
        (
            "STREAM_MEMORY_LIMIT_PER_CONNECTION",
            _BYTES,
            "Limit of the window of a connection. `receive_budget` limits what waits for readers outside it",
        ),
    ),
    *_sets(
        "max_incoming_streams",
        (
            "initial_max_streams_bidirectional",
            _optional(_STREAMS),
            "Streams that the peer may have open at once. The allowance starts at 16 and grows to this as it "
            "is used",
        ),
        ("MAX_INCOMING_STREAMS", _STREAMS, "The same, if the line above is not set"),
        ("max_concurrent_streams", _STREAMS, "The same, if none of these is set"),
        ("MAX_CONCURRENT_STREAMS", _STREAMS, "The same, if none of these is set"),
    ),
    *_sets(
        "initial_max_streams_unidirectional",
        (
            "initial_max_streams_unidirectional",
            _optional(_NO_STREAMS),
            "libp2p's streams are bidirectional, so only 0 is accepted",
        ),
    ),
    *_sets(
        "outgoing_streams",
        (
            "MAX_OUTGOING_STREAMS",
            _OPENED,
            "Streams that this program may have open at once on one connection; beyond it, `open_stream` "
            "raises QUICStreamLimitError. At the peer's limit it waits",
        ),
    ),
    *_sets(
        "write_buffer",
        (
            "STREAM_SEND_BUFFER_HIGH_WATERMARK",
            _BYTES,
            "Written bytes of one stream that may wait to be sent; beyond it, `write` waits. Sent bytes "
            "that are not acknowledged are limited to 10 MB for a connection",
        ),
    ),
    *_sets(
        "open_timeout",
        (
            "STREAM_OPEN_TIMEOUT",
            _LIMIT,
            "How long `open_stream` waits until the peer allows one more stream; then it raises "
            "QUICStreamTimeoutError",
        ),
    ),
    *_sets(
        "read_timeout",
        (
            "STREAM_READ_TIMEOUT",
            _LIMIT,
            "How long a read waits for a byte; then it raises QUICStreamTimeoutError. No limit by default, "
            "as streams of protocols like pubsub are silent for hours",
        ),
    ),
    *_sets(
        "write_timeout",
        (
            "STREAM_WRITE_TIMEOUT",
            _LIMIT,
            "How long a write may make no progress; then it raises QUICStreamTimeoutError",
        ),
    ),
    # Packets
    *_sets(
        "congestion_control",
        (
            "congestion_control_algorithm",
            _one_of("cubic", "newreno", "reno", "bbr"),
            '"cubic", with the share of two flows, as in go-libp2p; "newreno" (or "reno"), with the share '
            'of one; or "bbr"',
        ),
    ),
    _own("initial_rtt", _SECONDS, "Round-trip time assumed before the first measurement"),
    _own(
        "max_datagram_size", _PAYLOAD, "Largest UDP payload that path MTU discovery tries; it starts at 1200"
    ),
    # Logs
    _own(
        "qlog_dir",
        _optional(_PATH),
        "Folder for a [qlog](howto/reading-a-qlog.md) file of each connection. None: the one that the "
        "environment variable `QLOGDIR` names. An empty text turns it off in any case",
    ),
    _own("enable_qlog", _FLAG, "True demands a folder; False does not turn one off"),
    _own("qlog_file_limit", _FILE_SIZE, "Largest qlog file; later events of its connection are left out"),
    # Fields that the swarm and the host read
    *_swarm(
        ("NEGOTIATE_TIMEOUT", _SECONDS, "The host's `negotiate_timeout`, if that has its own default"),
        ("PROTOCOL_QUIC_V1", _TEXT, "A constant of py-libp2p"),
        ("PROTOCOL_QUIC_DRAFT29", _TEXT, "A constant of py-libp2p"),
        (
            "min_connections",
            _COUNT,
            "Below it the auto-connector dials; also slots reserved from inbound connections",
        ),
        ("low_watermark", _COUNT, "Number of connections at which pruning stops"),
        ("high_watermark", _COUNT, "Number of connections at which pruning starts"),
        ("max_peer_addrs_to_dial", _COUNT, "py-libp2p 0.8.1 does not read it"),
        ("max_connections_per_peer", _CONNECTIONS, "Connections to one peer; the swarm closes the others"),
        ("dial_timeout", _SECONDS_OR_ZERO, "Limit of the auto-connector's and DCUtR's dials"),
        ("inbound_upgrade_timeout", _SECONDS_OR_ZERO, "Limit of an inbound upgrade; QUIC needs none"),
        ("outbound_upgrade_timeout", _SECONDS_OR_ZERO, "Limit of adding a dialed connection to the swarm"),
        ("outbound_stream_protocol_negotiation_timeout", _SECONDS_OR_ZERO, "Limit of a stream's negotiation"),
        ("inbound_stream_protocol_negotiation_timeout", _SECONDS_OR_ZERO, "Limit of a stream's negotiation"),
        (
            "load_balancing_strategy",
            _one_of("best", "round_robin", "least_loaded", "health_based", "latency_based"),
            "Which of several connections to a peer a new stream uses",
        ),
        ("auto_connect_interval", _SECONDS, "Pause between the auto-connector's rounds"),
        ("grace_period", _SECONDS_OR_ZERO, "How long a new connection is not pruned"),
        ("allow_list", _NETWORKS, "IP addresses and networks that may connect"),
        (
            "deny_list",
            _NETWORKS,
            "IP addresses and networks that may not connect. Also applies to the addresses of a dialed name",
        ),
        ("enable_health_monitoring", _FLAG, "Whether the swarm monitors its connections"),
        ("health_initial_delay", _SECONDS_OR_ZERO, "Time before the first health check"),
        ("health_warmup_window", _SECONDS_OR_ZERO, "How long a new connection is not checked"),
        ("health_check_interval", _SECONDS, "Time between two health checks"),
        ("ping_timeout", _SECONDS, "Time limit of a ping of the health check"),
        ("min_health_threshold", _FRACTION, "Below it a connection is unhealthy"),
        ("min_connections_per_peer", _COUNT, "Connections to a peer that are kept even if unhealthy"),
        ("latency_weight", _FRACTION, "Weight in the health score"),
        ("success_rate_weight", _FRACTION, "Weight in the health score"),
        ("stability_weight", _FRACTION, "Weight in the health score"),
        ("max_ping_latency", _MILLISECONDS, "Above it a connection is unhealthy"),
        ("min_ping_success_rate", _FRACTION, "Below it a connection is unhealthy"),
        ("max_failed_streams", _COUNT, "Above it a connection is unhealthy"),
        ("unhealthy_grace_period", _COUNT, "Failed checks in a row before a connection is replaced"),
        ("critical_health_threshold", _FRACTION, "Below it even the last connection is replaced"),
        ("skip_ping_when_streams_open", _FLAG, "Whether busy connections are not pinged"),
        ("record_ping_latency_in_peerstore", _FLAG, "Whether the peerstore records the round-trip time"),
        ("abort_connection_on_ping_failure", _FLAG, "Whether one failed ping ends the connection"),
    ),
    # Fields without effect
    *_nobody(
        ("enable_0rtt", _FLAG, "0-RTT is not supported: it can be replayed and does not verify the peer"),
        (
            "enable_protocol_negotiation",
            _FLAG,
            "QUIC's version and ALPN are always negotiated; py-libp2p negotiates a stream's protocol",
        ),
        ("local_port", _optional(_PORT), "The multiaddr has the port; dials leave from the listening socket"),
        (
            "verify_mode",
            _MODE,
            "Both peers are always verified, by libp2p's rules; this cannot be turned off",
        ),
        ("alpn_protocols", _TEXTS, 'libp2p fixes it: "libp2p"'),
        (
            "STREAM_ACCEPT_TIMEOUT",
            _LIMIT,
            "The swarm waits for streams for the life of a connection, and a timeout would end it. Pass "
            "`accept_stream` a timeout instead",
        ),
        ("STREAM_CLOSE_TIMEOUT", _LIMIT, "Closing a stream does not wait"),
        (
            "NEGOTIATION_SEMAPHORE_LIMIT",
            _COUNT,
            "This transport does not limit negotiations; py-libp2p's semaphore loses permits",
        ),
        ("STREAM_RECEIVE_BUFFER_LOW_WATERMARK", _BYTES, "QUIC's receive windows replace it"),
        ("STREAM_RECEIVE_BUFFER_HIGH_WATERMARK", _BYTES, "QUIC's receive windows replace it"),
        ("STREAM_SEND_BUFFER_LOW_WATERMARK", _BYTES, "A writer continues as soon as there is room"),
        ("STREAM_WRITE_CHUNK_SIZE", _BYTES, "The engine takes as many bytes as it has room for"),
        (
            "ENABLE_STREAM_RESET_ON_ERROR",
            _FLAG,
            "`async with` always resets after an exception, as does dropping an open stream",
        ),
        ("STREAM_RESET_ERROR_CODE", _COUNT, "Pass `reset` the code; py-libp2p's streams send 0"),
        (
            "ENABLE_STREAM_KEEP_ALIVE",
            _FLAG,
            "Silent streams need no keep-alive; for the connection see `keep_alive_interval`",
        ),
        ("STREAM_KEEP_ALIVE_INTERVAL", _LIMIT, "Use the connection's `keep_alive_interval`"),
        ("ENABLE_STREAM_RESOURCE_TRACKING", _FLAG, "py-libp2p's resource manager counts streams"),
        ("ENABLE_STREAM_BATCHING", _FLAG, _LIBRARY),
        ("STREAM_BATCH_SIZE", _COUNT, _LIBRARY),
        ("STREAM_PROCESSING_CONCURRENCY", _COUNT, _LIBRARY),
        ("ENABLE_STREAM_METRICS", _FLAG, _METRICS),
        ("ENABLE_STREAM_TIMELINE_TRACKING", _FLAG, _METRICS),
        ("STREAM_METRICS_COLLECTION_INTERVAL", _SECONDS, _METRICS),
        ("STREAM_ERROR_RETRY_ATTEMPTS", _COUNT, _RETRY),
        ("STREAM_ERROR_RETRY_DELAY", _SECONDS_OR_ZERO, _RETRY),
        ("STREAM_ERROR_RETRY_BACKOFF_FACTOR", _FACTOR, _RETRY),
    ),
)

# Pairs that contradict each other if both are set and the first is larger.
ORDERED: tuple[tuple[str, str], ...] = (
    ("STREAM_FLOW_CONTROL_WINDOW", "CONNECTION_FLOW_CONTROL_WINDOW"),
    ("initial_max_stream_data_bidirectional_local", "initial_max_data"),
    ("initial_max_stream_data_bidirectional_remote", "initial_max_data"),
    ("stream_window", "connection_window"),
    ("STREAM_SEND_BUFFER_LOW_WATERMARK", "STREAM_SEND_BUFFER_HIGH_WATERMARK"),
    ("STREAM_RECEIVE_BUFFER_LOW_WATERMARK", "STREAM_RECEIVE_BUFFER_HIGH_WATERMARK"),
    ("STREAM_RECEIVE_BUFFER_HIGH_WATERMARK", "MAX_STREAM_RECEIVE_BUFFER"),
    ("min_connections", "low_watermark"),
    ("low_watermark", "high_watermark"),
    ("high_watermark", "max_connections"),
    ("max_connections_per_address", "max_connections"),
    ("max_handshakes_per_address", "max_handshakes"),
)


def read_buffer(stream_window: int) -> int:
    """The size of the buffer behind a receive window. Both in bytes.

    A program that sets a small window does not want a much larger buffer behind it.
    """
    return _READ_BUFFER if stream_window >= 2 * _READ_BUFFER else SMALL_READ_BUFFER
