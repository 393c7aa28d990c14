"""Reads a qlog file into times and figures: packets, bytes, losses, round-trip times, windows.

It reads JSON text sequences (.sqlog) and JSON (.qlog), of the current drafts and of qlog 0.3, which
quic-go and others write. `trace` prints the figures, and `qlog_picture` draws them.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeGuard

# RFC 7464 section 2.2.
_RECORD_SEPARATOR = b"\x1e"
# Our files have at most 64 MiB; those of others are not bounded.
_LONGEST_FILE = 1024 * 1024 * 1024
# No time in milliseconds, count or size of a connection is larger (RFC 9000 section 16).
_LARGEST_NUMBER = 1 << 62
_TOO_LONG = "it has more than 1 GiB"
_NO_TRACE = "it is JSON, and not of qlog with a trace"

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
    """Records that are no JSON, or not of the form of qlog. The last one of a process that was killed is
    expected to be cut off."""
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
    reader = _Reader()
    # A pipe can be opened once.
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > _LONGEST_FILE:
            raise NotQlogError(_TOO_LONG)
        start = file.peek(1)[:1]
        if start == _RECORD_SEPARATOR:
            reader.take_all(_records(file, reader.file))
        elif start == b"{":
            reader.take_all(_contained(file))
        else:
            raise NotQlogError("it begins neither with a record separator nor with {")
    return reader.file


def _records(file: IO[bytes], result: QlogFile) -> Iterator[dict[str, Any]]:
    for line in file:
        text = line.strip(_RECORD_SEPARATOR + b"\r\n")
        if not text:
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            result.unreadable += 1
            continue
        if isinstance(record, dict):
            yield record


def _contained(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    data = file.read(_LONGEST_FILE + 1)
    # The size of a pipe is not known before.
    if len(data) > _LONGEST_FILE:
        raise NotQlogError(_TOO_LONG)
    try:
        whole = json.loads(data)
        trace = whole["traces"][0]
        events = trace["events"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise NotQlogError(_NO_TRACE) from error
    if not isinstance(trace, dict) or not isinstance(events, list):
        raise NotQlogError(_NO_TRACE)
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
        if not isinstance(trace, dict):
            self.file.unreadable += 1
            return
        common = _object(trace, "common_fields")
        self.file.role = _text(_object(trace, "vantage_point"), "type") or "unknown"
        self.file.title = _text(record, "title") or _text(trace, "title")
        self.file.began = _text(_object(common, "reference_time"), "wall_clock_time")
        self._is_relative = common.get("time_format") in ("relative_to_previous_event", "delta")

    def _event(self, record: dict[str, Any]) -> None:
        time, data = record["time"], record.get("data")
        if not _is_number(time) or not isinstance(data, dict):
            self.file.unreadable += 1
            return
        self._time = self._time + time if self._is_relative else float(time)
        if self._first is None:
            self._first = self._time
        at = (self._time - self._first) / 1000
        self.file.events += 1
        self.file.duration = max(self.file.duration, at)
        # The drafts moved events from one namespace to another.
        name = _text(record, "name").rpartition(":")[2]
        if name in self._kinds:
            self._kinds[name](at, data)

    def _packet_sent(self, at: float, data: dict[str, Any]) -> None:
        header, length = _object(data, "header"), _length(data)
        self.file.packets_sent += 1
        self._sent += length
        self.file.sent.append((at, self._sent))
        self.file.stream_bytes_sent += _stream_bytes(data)
        number = header.get("packet_number")
        if isinstance(number, int):
            kind = _text(header, "packet_type")
            self._in_flight.setdefault(kind, {})[number] = length
            insort(self._numbers.setdefault(kind, []), number)

    def _packet_received(self, at: float, data: dict[str, Any]) -> None:
        self.file.packets_received += 1
        self._received += _length(data)
        self.file.received.append((at, self._received))
        self.file.stream_bytes_received += _stream_bytes(data)
        kind = _text(_object(data, "header"), "packet_type")
        before, is_readable = self._acknowledged, True
        for frame in _frames(data):
            if frame.get("frame_type") == "ack":
                for span in _list(frame, "acked_ranges"):
                    if _is_range(span):
                        self._acknowledge(kind, span[0], span[-1])
                    else:
                        is_readable = False
        if not is_readable:
            self.file.unreadable += 1
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
            if _is_number(value):
                samples.append((at, value / scale))
        least = data.get("min_rtt")
        if _is_number(least):
            self.file.min_rtt = least / 1000

    def _state(self, at: float, data: dict[str, Any]) -> None:
        # quic-go and quiche report the confirmation only.
        if data.get("new") in ("handshake_complete", "handshake_completed", "handshake_confirmed"):
            self.file.handshake = at if self.file.handshake is None else self.file.handshake

    def _closed(self, at: float, data: dict[str, Any]) -> None:
        side = _text(data, "initiator") or _text(data, "owner")
        by = {"local": "by this side", "remote": "by the peer"}.get(side, "")
        error = _text(data, "connection_error") or _text(data, "application_error")
        names = ("error_code", "application_code", "connection_code")
        name = next((each for each in names if each in data), "")
        if error in ("", "unknown") and name:
            code = data[name]
            error = f"code {code:#x}" if isinstance(code, int) else _text(data, name)
        parts = (_text(data, "trigger").replace("_", " "), by, error, _text(data, "reason"))
        self.file.closed = ", ".join(part for part in parts if part)

    def _mtu(self, at: float, data: dict[str, Any]) -> None:
        found = data.get("new")
        if _is_number(found):
            self.file.mtu = int(found)

    def _message(self, at: float, data: dict[str, Any]) -> None:
        self.file.messages.append(_text(data, "message"))


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that figures can have: JSON can have 1e999 and NaN, too."""
    return isinstance(value, int | float) and -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER


def _object(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """The JSON object ``name``; an empty one if there is none."""
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _list(holder: dict[str, Any], name: str) -> list[Any]:
    found = holder.get(name)
    return found if isinstance(found, list) else []


def _text(holder: dict[str, Any], name: str) -> str:
    """The text ``name``, which may be a peer's: it must not move the cursor of a terminal."""
    found = holder.get(name)
    if not isinstance(found, str):
        return ""
    return found if found.isprintable() else repr(found)


def _is_range(span: object) -> bool:
    """Whether it has the first and the last number of acknowledged packets, or the only one."""
    return isinstance(span, list) and bool(span) and all(isinstance(each, int) for each in span)


def _frames(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [frame for frame in _list(data, "frames") if isinstance(frame, dict)]


def _length(entity: dict[str, Any]) -> int:
    """The size of a packet; quinn writes it into the header."""
    for holder in (_object(entity, "raw"), _object(entity, "header")):
        if _is_number(length := holder.get("length")):
            return int(length)
    return 0


def _stream_bytes(data: dict[str, Any]) -> int:
    total = 0
    for frame in _frames(data):
        if frame.get("frame_type") == "stream":
            raw = _object(frame, "raw")
            lengths = raw.get("payload_length"), raw.get("length"), frame.get("length")
            total += next((int(each) for each in lengths if _is_number(each)), 0)
    return total
