"""Reads a qlog file into times and figures: packets, bytes, losses, round-trip times, windows.

It reads JSON text sequences (.sqlog) and JSON (.qlog), of the current drafts and of qlog 0.3, which
quic-go and others write. `trace` prints the figures, and `qlog_picture` draws them.
"""

from __future__ import annotations

import json
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# RFC 7464 section 2.2.
_RECORD_SEPARATOR = b"\x1e"
# Our files have at most 64 MiB; those of others are not bounded.
_LONGEST_FILE = 1024 * 1024 * 1024

Samples = list[tuple[float, float]]


class NotQlogError(ValueError):
    """The file is not qlog, or has no trace of a connection."""


@dataclass
class QlogFile:
    """What a file tells. Times are in seconds since its first event, sizes in bytes."""

    role: str = "unknown"
    title: str = ""
    began: str = ""
    events: int = 0
    duration: float = 0.0
    handshake: float | None = None
    packets_sent: int = 0
    packets_received: int = 0
    packets_lost: int = 0
    packets_dropped: int = 0
    stream_bytes_sent: int = 0
    stream_bytes_received: int = 0
    mtu: int | None = None
    min_rtt: float | None = None
    closed: str = ""
    messages: list[str] = field(default_factory=list)
    """What the writer of the file says about it, such as missing events."""
    unreadable: int = 0
    """Records that are no JSON. The last one of a process that was killed is expected to be cut off."""
    sent: Samples = field(default_factory=list)
    """Time and all bytes sent until then. Likewise for the next two."""
    received: Samples = field(default_factory=list)
    acknowledged: Samples = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    latest_rtt: Samples = field(default_factory=list)
    smoothed_rtt: Samples = field(default_factory=list)
    window: Samples = field(default_factory=list)
    in_flight: Samples = field(default_factory=list)

    @property
    def bytes_sent(self) -> int:
        return int(self.sent[-1][1]) if self.sent else 0

    @property
    def bytes_received(self) -> int:
        return int(self.received[-1][1]) if self.received else 0

    @property
    def rtts(self) -> list[float]:
        """The measured round-trip times; smoothed ones if the file has no others."""
        return [rtt for _, rtt in self.latest_rtt or self.smoothed_rtt]

    @property
    def active(self) -> float:
        """Seconds from the first to the last packet."""
        times = [samples[at][0] for samples in (self.sent, self.received) if samples for at in (0, -1)]
        return max(times) - min(times) if times else 0.0


def read(path: Path) -> QlogFile:
    """The contents of a file. Raises OSError, and NotQlogError for a file of another kind."""
    if path.stat().st_size > _LONGEST_FILE:
        raise NotQlogError("it has more than 1 GiB")
    with path.open("rb") as file:
        start = file.read(1)
    reader = _Reader()
    if start == _RECORD_SEPARATOR:
        reader.take_all(_records(path, reader.file))
    elif start == b"{":
        reader.take_all(_contained(path))
    else:
        raise NotQlogError("it begins neither with a record separator nor with {")
    return reader.file


def _records(path: Path, result: QlogFile) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in file:
            text = line.strip(_RECORD_SEPARATOR + b"\r\n")
            if not text:
                continue
            try:
                record = json.loads(text)
            except ValueError:
                result.unreadable += 1
                continue
            if isinstance(record, dict):
                yield record


def _contained(path: Path) -> Iterator[dict[str, Any]]:
    try:
        whole = json.loads(path.read_bytes())
        trace = whole["traces"][0]
        events = trace["events"]
    except (ValueError, LookupError, TypeError) as error:
        raise NotQlogError("it is JSON, and not of qlog with a trace") from error
    yield {**whole, "trace": trace}
    yield from (event for event in events if isinstance(event, dict))


class _Reader:
    """Collects figures, event by event."""

    def __init__(self) -> None:
        self.file = QlogFile()
        self._first: float | None = None
        self._is_relative = False
        self._time = 0.0
        self._sent = self._received = self._acknowledged = 0
        # Packet number -> size of the packets that may be acknowledged; for each type of header.
        self._in_flight: dict[str, dict[int, int]] = {}
        self._numbers: dict[str, list[int]] = {}
        self._kinds: dict[str, Callable[[float, dict[str, Any]], None]] = {
            "packet_sent": self._packet_sent,
            "packet_received": self._packet_received,
            "packet_lost": self._packet_lost,
            "packet_dropped": self._packet_dropped,
            "recovery_metrics_updated": self._metrics,
            "metrics_updated": self._metrics,
            "connection_state_updated": self._state,
            "connection_closed": self._closed,
            "mtu_updated": self._mtu,
            "warning": self._message,
            "error": self._message,
        }

    def take_all(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            if "trace" in record:
                self._header(record)
            elif "name" in record and "time" in record:
                self._event(record)
        if not self.file.events:
            raise NotQlogError("it has no events")

    def _header(self, record: dict[str, Any]) -> None:
        trace = record["trace"]
        common = trace.get("common_fields") or {}
        self.file.role = (trace.get("vantage_point") or {}).get("type", "unknown")
        self.file.title = record.get("title") or trace.get("title") or ""
        reference = common.get("reference_time")
        if isinstance(reference, dict):
            self.file.began = str(reference.get("wall_clock_time", ""))
        self._is_relative = common.get("time_format") in ("relative_to_previous_event", "delta")

    def _event(self, record: dict[str, Any]) -> None:
        time, data = record["time"], record.get("data")
        if not isinstance(time, int | float) or not isinstance(data, dict):
            self.file.unreadable += 1
            return
        self._time = self._time + time if self._is_relative else float(time)
        if self._first is None:
            self._first = self._time
        at = (self._time - self._first) / 1000
        self.file.events += 1
        self.file.duration = max(self.file.duration, at)
        # The drafts moved events from one namespace to another.
        name = str(record["name"]).rpartition(":")[2]
        if name in self._kinds:
            self._kinds[name](at, data)

    def _packet_sent(self, at: float, data: dict[str, Any]) -> None:
        header, length = _header_of(data), _length(data)
        self.file.packets_sent += 1
        self._sent += length
        self.file.sent.append((at, self._sent))
        self.file.stream_bytes_sent += _stream_bytes(data)
        number = header.get("packet_number")
        if isinstance(number, int):
            kind = str(header.get("packet_type"))
            self._in_flight.setdefault(kind, {})[number] = length
            insort(self._numbers.setdefault(kind, []), number)

    def _packet_received(self, at: float, data: dict[str, Any]) -> None:
        self.file.packets_received += 1
        self._received += _length(data)
        self.file.received.append((at, self._received))
        self.file.stream_bytes_received += _stream_bytes(data)
        kind = str(_header_of(data).get("packet_type"))
        before = self._acknowledged
        for frame in _frames(data):
            if frame.get("frame_type") == "ack":
                for span in frame.get("acked_ranges") or ():
                    self._acknowledge(kind, int(span[0]), int(span[-1]))
        if self._acknowledged > before:
            self.file.acknowledged.append((at, self._acknowledged))

    def _acknowledge(self, kind: str, first: int, last: int) -> None:
        # Ranges repeat: only the packets that are still in flight are looked at.
        numbers, sizes = self._numbers.get(kind, []), self._in_flight.get(kind, {})
        begin, end = bisect_left(numbers, first), bisect_left(numbers, last + 1)
        for number in numbers[begin:end]:
            self._acknowledged += sizes.pop(number, 0)
        del numbers[begin:end]

    def _packet_lost(self, at: float, data: dict[str, Any]) -> None:
        self.file.packets_lost += 1
        self.file.losses.append(at)

    def _packet_dropped(self, at: float, data: dict[str, Any]) -> None:
        self.file.packets_dropped += 1

    def _metrics(self, at: float, data: dict[str, Any]) -> None:
        for name, scale, samples in (
            ("latest_rtt", 1000, self.file.latest_rtt),
            ("smoothed_rtt", 1000, self.file.smoothed_rtt),
            ("congestion_window", 1, self.file.window),
            ("bytes_in_flight", 1, self.file.in_flight),
        ):
            value = data.get(name)
            if isinstance(value, int | float):
                samples.append((at, value / scale))
        if isinstance(data.get("min_rtt"), int | float):
            self.file.min_rtt = data["min_rtt"] / 1000

    def _state(self, at: float, data: dict[str, Any]) -> None:
        # quic-go and quiche report the confirmation only.
        if data.get("new") in ("handshake_complete", "handshake_completed", "handshake_confirmed"):
            self.file.handshake = at if self.file.handshake is None else self.file.handshake

    def _closed(self, at: float, data: dict[str, Any]) -> None:
        by = {"local": "by this side", "remote": "by the peer"}.get(
            str(data.get("initiator", data.get("owner"))), ""
        )
        error = data.get("connection_error") or data.get("application_error") or ""
        code = data.get("error_code", data.get("application_code", data.get("connection_code")))
        if error in ("", "unknown") and code is not None:
            error = f"code {code:#x}" if isinstance(code, int) else str(code)
        parts = (str(data.get("trigger", "")).replace("_", " "), by, str(error), str(data.get("reason", "")))
        self.file.closed = ", ".join(part for part in parts if part)

    def _mtu(self, at: float, data: dict[str, Any]) -> None:
        if isinstance(data.get("new"), int):
            self.file.mtu = data["new"]

    def _message(self, at: float, data: dict[str, Any]) -> None:
        self.file.messages.append(str(data.get("message", "")))


def _header_of(data: dict[str, Any]) -> dict[str, Any]:
    header = data.get("header")
    return header if isinstance(header, dict) else {}


def _frames(data: dict[str, Any]) -> list[dict[str, Any]]:
    frames = data.get("frames")
    return [frame for frame in frames if isinstance(frame, dict)] if isinstance(frames, list) else []


def _length(entity: dict[str, Any]) -> int:
    """The size of a packet; quinn writes it into the header."""
    for holder in (entity.get("raw"), entity.get("header")):
        if isinstance(holder, dict) and isinstance(holder.get("length"), int):
            return int(holder["length"])
    return 0


def _stream_bytes(data: dict[str, Any]) -> int:
    total = 0
    for frame in _frames(data):
        if frame.get("frame_type") == "stream":
            raw = frame.get("raw")
            lengths = (raw.get("payload_length"), raw.get("length")) if isinstance(raw, dict) else ()
            total += next((it for it in (*lengths, frame.get("length")) if isinstance(it, int)), 0)
    return total
