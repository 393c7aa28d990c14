"""`libp2p-quic trace`: the figures of a connection from its qlog file, and a picture of it."""

from __future__ import annotations

from pathlib import Path

import click

from libp2p_quic._command import qlog_picture
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.output import Output, UnusableArgumentError, json_option
from libp2p_quic._command.qlog_file import NotQlogError, QlogFile, read
from libp2p_quic._command.quantity import duration, percentile, rate, size

# Seconds below which a rate says nothing: a few packets that left together.
_SHORTEST = 0.01


@click.command(
    epilog="""
\b
Examples:
  QLOGDIR=logs libp2p-quic perf /ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3...
  libp2p-quic trace logs/5f0e1c6bb1a0a7d2_client.sqlog
  libp2p-quic trace --svg picture.svg logs/5f0e1c6bb1a0a7d2_client.sqlog
  libp2p-quic trace --json logs/5f0e1c6bb1a0a7d2_client.sqlog

FILE is qlog as this engine writes it with QLOGDIR, or of another
implementation: JSON text sequences (.sqlog) or JSON (.qlog).
"""
)
@click.argument("name", metavar="FILE")
@click.option(
    "--svg", "picture", metavar="PICTURE", help="Draw data, losses, window and times into this file."
)
@json_option
def trace(name: str, picture: str | None, is_json: bool) -> None:
    """Summarize the qlog FILE of a connection, and draw it."""
    output = Output(is_json)
    try:
        file = read(Path(name))
    except OSError as error:
        text = f"cannot read {name}: {error.strerror or error}"
        raise UnusableArgumentError(
            Explanation("file", text, "check the path and its permissions"), is_json
        ) from error
    except NotQlogError as error:
        text = f"{name} is no qlog file: {error}"
        raise UnusableArgumentError(
            Explanation("file", text, "name a file that was written with QLOGDIR or `qlog_dir`"), is_json
        ) from error
    output.rows(_rows(file))
    output.event("trace", file=name, **_figures(file))
    for message in file.messages:
        output.warning(f"the file says: {message}")
    if file.unreadable:
        output.warning(f"{file.unreadable} records cannot be read, such as one that was cut off")
    if picture is not None:
        _draw(file, name, picture, output)


def _draw(file: QlogFile, name: str, picture: str, output: Output) -> None:
    title = f"{Path(name).name}: {file.role}, {duration(file.duration)}"
    try:
        Path(picture).write_text(qlog_picture.draw(file, title), encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        text = f"cannot write {picture}: {error.strerror or error}"
        raise UnusableArgumentError(
            Explanation("file", text, "name a file in a folder that can be written to"), output.is_json
        ) from error
    output.note(f"wrote {picture}")
    output.event("picture", file=picture)


def _rows(file: QlogFile) -> list[tuple[str, object]]:
    """What a reader sees; a figure that the file does not have is left out."""
    rows: list[tuple[str, object]] = [("side", file.role)]
    if file.began:
        rows.append(("began", file.began))
    rows.append(("lasted", f"{duration(file.duration)}, {file.events} events"))
    completed = "did not complete" if file.handshake is None else duration(file.handshake)
    rows.append(("handshake", completed))
    for way, packets, count, data in (
        ("sent", file.packets_sent, file.bytes_sent, file.stream_bytes_sent),
        ("received", file.packets_received, file.bytes_received, file.stream_bytes_received),
    ):
        speed = f", {rate(8 * count / file.active)}" if file.active >= _SHORTEST and count else ""
        rows.append((way, f"{packets} packets, {size(count)}, {size(data)} of streams{speed}"))
    share = f", {100 * file.packets_lost / file.packets_sent:.2f}% of sent" if file.packets_sent else ""
    rows.append(("lost", f"{file.packets_lost} packets{share}"))
    if file.packets_dropped:
        rows.append(("dropped", f"{file.packets_dropped} packets that could not be decrypted"))
    if rtts := file.rtts:
        middle = duration(percentile(rtts, 50))
        rows.append(("round trip", f"min {duration(min(rtts))}, median {middle}, max {duration(max(rtts))}"))
    if windows := [value for _, value in file.window]:
        rows.append(
            ("window", f"min {size(min(windows))}, max {size(max(windows))}, last {size(windows[-1])}")
        )
    if file.mtu is not None:
        rows.append(("MTU", f"{file.mtu} B"))
    rows.append(("ended", file.closed or "not in this file"))
    return rows


def _figures(file: QlogFile) -> dict[str, object]:
    """The same for programs: times in seconds, sizes in bytes, rates in bits per second."""
    rtts, windows = file.rtts, [value for _, value in file.window]

    def speed(count: int) -> float:
        return 8 * count / file.active if file.active else 0.0

    return {
        "role": file.role,
        "began": file.began,
        "duration": file.duration,
        "events": file.events,
        "handshake": file.handshake,
        "packets_sent": file.packets_sent,
        "packets_received": file.packets_received,
        "packets_lost": file.packets_lost,
        "packets_dropped": file.packets_dropped,
        "bytes_sent": file.bytes_sent,
        "bytes_received": file.bytes_received,
        "stream_bytes_sent": file.stream_bytes_sent,
        "stream_bytes_received": file.stream_bytes_received,
        "sent_rate": speed(file.bytes_sent),
        "received_rate": speed(file.bytes_received),
        "rtt_min": min(rtts, default=None),
        "rtt_median": percentile(rtts, 50) if rtts else None,
        "rtt_max": max(rtts, default=None),
        "window_min": min(windows, default=None),
        "window_max": max(windows, default=None),
        "mtu": file.mtu,
        "closed": file.closed,
        "unreadable": file.unreadable,
        "messages": file.messages,
    }
