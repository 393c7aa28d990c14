"""The rules of the published qlog schema for the events that the engine writes.

They restate the CDDL of draft-ietf-quic-qlog-main-schema-14 and draft-ietf-quic-qlog-quic-events-13: which
members an object must have and may have, and of which type. A member that is not listed is an error, though
the drafts let implementations add some: it would be a name that was mistyped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEPARATOR = b"\x1e"

Rule = Callable[[Any], bool]


def _uint(bits: int) -> Rule:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**bits


def _one_of(*values: str) -> Rule:
    return lambda value: value in values


def _list_of(rule: Rule, least: int = 0) -> Rule:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(rule, value))


def _object(required: dict[str, Rule] | None = None, optional: dict[str, Rule] | None = None) -> Rule:
    def follows(value: Any) -> bool:
        rules = {**(required or {}), **(optional or {})}
        return (
            isinstance(value, dict)
            and value.keys() >= (required or {}).keys()
            and all(name in rules and rules[name](member) for name, member in value.items())
        )

    return follows


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _float(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _hex(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"(?:[0-9a-f]{2})*", value) is not None


_U64, _U32, _U16, _U8 = _uint(64), _uint(32), _uint(16), _uint(8)
_RAW = _object({}, {"length": _U64, "payload_length": _U64, "data": _hex})
_TRANSPORT_ERRORS = [
    "no_error",
    "internal_error",
    "connection_refused",
    "flow_control_error",
    "stream_limit_error",
    "stream_state_error",
    "final_size_error",
    "frame_encoding_error",
    "transport_parameter_error",
    "connection_id_limit_error",
    "protocol_violation",
    "invalid_token",
    "application_error",
    "crypto_buffer_exceeded",
    "key_update_error",
    "aead_limit_reached",
    "no_viable_path",
    "unknown",
]


def _transport_error(value: Any) -> bool:
    return value in _TRANSPORT_ERRORS or re.fullmatch(r"crypto_error_0x1[0-9a-f]{2}", str(value)) is not None


_APPLICATION_ERROR = _one_of("unknown")
_TOKEN = _object({}, {"type": _one_of("retry", "resumption"), "details": _text, "raw": _RAW})
_STREAM_TYPE = _one_of("unidirectional", "bidirectional")


def _frame_with(required: dict[str, Rule] | None = None, optional: dict[str, Rule] | None = None) -> Rule:
    return _object({"frame_type": _text, **(required or {})}, {"raw": _RAW, **(optional or {})})


FRAMES: dict[str, Rule] = {
    "padding": _frame_with(),
    "ping": _frame_with(),
    "ack": _frame_with(
        {},
        {
            "ack_delay": _float,
            "acked_ranges": _list_of(lambda it: _list_of(_U64, 1)(it) and len(it) <= 2, 1),
            "ect0": _U64,
            "ect1": _U64,
            "ce": _U64,
        },
    ),
    "reset_stream": _frame_with(
        {"stream_id": _U64, "error": _APPLICATION_ERROR, "final_size": _U64}, {"error_code": _U64}
    ),
    "stop_sending": _frame_with({"stream_id": _U64, "error": _APPLICATION_ERROR}, {"error_code": _U64}),
    "crypto": _frame_with({"offset": _U64, "raw": _object({"length": _U64}, {"payload_length": _U64})}),
    "new_token": _frame_with({"token": _TOKEN}),
    "stream": _frame_with({"stream_id": _U64}, {"offset": _U64, "fin": _flag}),
    "max_data": _frame_with({"maximum": _U64}),
    "max_stream_data": _frame_with({"stream_id": _U64, "maximum": _U64}),
    "max_streams": _frame_with({"stream_type": _STREAM_TYPE, "maximum": _U64}),
    "data_blocked": _frame_with({"limit": _U64}),
    "stream_data_blocked": _frame_with({"stream_id": _U64, "limit": _U64}),
    "streams_blocked": _frame_with({"stream_type": _STREAM_TYPE, "limit": _U64}),
    "new_connection_id": _frame_with(
        {"sequence_number": _U64, "retire_prior_to": _U64, "connection_id": _hex},
        {"connection_id_length": _U8, "stateless_reset_token": _hex},
    ),
    "retire_connection_id": _frame_with({"sequence_number": _U64}),
    "path_challenge": _frame_with({}, {"data": _hex}),
    "path_response": _frame_with({}, {"data": _hex}),
    "connection_close": _frame_with(
        {},
        {
            "error_space": _one_of("transport", "application"),
            "error": lambda it: _transport_error(it) or _APPLICATION_ERROR(it),
            "error_code": _U64,
            "reason": _text,
            "reason_bytes": _hex,
            "trigger_frame_type": lambda it: _U64(it) or _text(it),
        },
    ),
    "handshake_done": _frame_with(),
    "datagram": _frame_with(),
    "unknown": _frame_with({"frame_type_bytes": _U64}),
}


def _frame(value: Any) -> bool:
    return isinstance(value, dict) and FRAMES.get(value.get("frame_type", ""), lambda _: False)(value)


_HEADER = _object(
    {
        "packet_type": _one_of(
            "initial",
            "handshake",
            "0RTT",
            "1RTT",
            "retry",
            "version_negotiation",
            "stateless_reset",
            "unknown",
        )
    },
    {
        "packet_number": _U64,
        "flags": _U8,
        "token": _TOKEN,
        "length": _U16,
        "version": _hex,
        "scil": _U8,
        "dcil": _U8,
        "scid": _hex,
        "dcid": _hex,
    },
)
_ENDPOINT = _object(
    {}, {"ip_v4": _text, "port_v4": _U16, "ip_v6": _text, "port_v6": _U16, "connection_ids": _list_of(_hex)}
)
_ALPN = _object({}, {"byte_value": _hex, "string_value": _text})
_STATES = [
    "attempted",
    "handshake_started",
    "handshake_complete",
    "closed",
    "peer_validated",
    "early_write",
    "handshake_confirmed",
    "closing",
    "draining",
]

_NUMBERS = [
    "max_idle_timeout",
    "max_udp_payload_size",
    "ack_delay_exponent",
    "max_ack_delay",
    "active_connection_id_limit",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "max_datagram_frame_size",
]

EVENTS: dict[str, Rule] = {
    "quic:connection_started": _object({"local": _ENDPOINT, "remote": _ENDPOINT}),
    "quic:connection_closed": _object(
        {},
        {
            "initiator": _one_of("local", "remote"),
            "connection_error": _transport_error,
            "application_error": _APPLICATION_ERROR,
            "error_code": _U64,
            "internal_code": _U64,
            "reason": _text,
            "trigger": _one_of(
                "idle_timeout",
                "application",
                "error",
                "version_mismatch",
                "stateless_reset",
                "aborted",
                "unspecified",
            ),
        },
    ),
    "quic:connection_state_updated": _object({"new": _one_of(*_STATES)}, {"old": _one_of(*_STATES)}),
    "quic:mtu_updated": _object({"new": _U32}, {"old": _U32, "done": _flag}),
    "quic:parameters_set": _object(
        {},
        {
            "initiator": _one_of("local", "remote"),
            "disable_active_migration": _flag,
            "grease_quic_bit": _flag,
            "tls_cipher": _text,
            "unknown_parameters": _list_of(_object({"id": _U64}, {"value": _hex})),
            **{
                f"{name}_connection_id": _hex
                for name in ("original_destination", "initial_source", "retry_source")
            },
            **dict.fromkeys(_NUMBERS, _U64),
        },
    ),
    "quic:alpn_information": _object(
        {}, {"server_alpns": _list_of(_ALPN), "client_alpns": _list_of(_ALPN), "chosen_alpn": _ALPN}
    ),
    "quic:packet_sent": _object(
        {"header": _HEADER},
        {
            "frames": _list_of(_frame),
            "raw": _RAW,
            "datagram_id": _U32,
            "is_mtu_probe_packet": _flag,
            "trigger": _text,
        },
    ),
    "quic:packet_received": _object(
        {"header": _HEADER},
        {"frames": _list_of(_frame), "raw": _RAW, "datagram_id": _U32, "trigger": _text},
    ),
    "quic:packet_dropped": _object(
        {},
        {
            "header": _HEADER,
            "raw": _RAW,
            "datagram_id": _U32,
            "details": _object(),
            "trigger": _one_of(
                "internal_error",
                "rejected",
                "unsupported",
                "invalid",
                "duplicate",
                "connection_unknown",
                "decryption_failure",
                "key_unavailable",
                "general",
            ),
        },
    ),
    "quic:recovery_metrics_updated": _object(
        {},
        {
            "min_rtt": _float,
            "smoothed_rtt": _float,
            "latest_rtt": _float,
            "rtt_variance": _float,
            "pto_count": _U16,
            "congestion_window": _U64,
            "bytes_in_flight": _U64,
            "ssthresh": _U64,
            "packets_in_flight": _U64,
            "pacing_rate": _U64,
        },
    ),
    "quic:congestion_state_updated": _object(
        {"new": _text}, {"old": _text, "trigger": _one_of("persistent_congestion", "ecn")}
    ),
    "quic:packet_lost": _object(
        {},
        {
            "header": _HEADER,
            "frames": _list_of(_frame),
            "is_mtu_probe_packet": _flag,
            "trigger": _one_of("reordering_threshold", "time_threshold", "pto_expired"),
        },
    ),
    "loglevel:warning": _object({}, {"code": _U64, "message": _text}),
}

_FILE = _object(
    {
        "file_schema": _one_of("urn:ietf:params:qlog:file:sequential"),
        "serialization_format": _one_of("application/qlog+json-seq"),
        "trace": _object(
            {
                "event_schemas": _list_of(lambda it: str(it).startswith("urn:ietf:params:qlog:events:"), 1),
            },
            {
                "title": _text,
                "description": _text,
                "common_fields": _object(
                    {},
                    {
                        "tuple": _text,
                        "group_id": _text,
                        "protocol_types": _list_of(_text, 1),
                        "time_format": _one_of("relative_to_epoch", "relative_to_previous_event"),
                        "reference_time": _object(
                            {"clock_type": _one_of("system", "monotonic"), "epoch": _text},
                            {
                                "wall_clock_time": lambda it: (
                                    re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", str(it))
                                    is not None
                                )
                            },
                        ),
                    },
                ),
                "vantage_point": _object(
                    {"type": _one_of("client", "server", "network", "unknown")},
                    {"name": _text, "flow": _one_of("client", "server", "unknown")},
                ),
            },
        ),
    },
    {"title": _text, "description": _text},
)
_EVENT = _object({"time": _float, "name": _text, "data": lambda it: isinstance(it, dict)})


def records(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON text sequence (RFC 7464): the header, then the events."""
    begin, *texts = path.read_bytes().split(SEPARATOR)
    assert begin == b"", "the file does not begin with a record separator"
    assert all(text.endswith(b"\n") for text in texts), "a record does not end with a line feed"
    return [json.loads(text) for text in texts]


def checked(path: Path) -> list[dict[str, Any]]:
    """The events of a file whose every record follows the schema."""
    header, *events = records(path)
    assert _FILE(header), header
    time = 0.0
    for event in events:
        assert _EVENT(event), event
        rule = EVENTS.get(event["name"])
        assert rule is not None, f"an event that is in no rule: {event}"
        assert rule(event["data"]), event
        assert event["time"] >= time, f"time goes back to {event}"
        time = event["time"]
        schema = event["name"].partition(":")[0]
        schemas = header["trace"]["event_schemas"]
        assert any(f":{schema}-" in each for each in schemas), (schema, schemas)
    return events
