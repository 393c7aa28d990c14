"""The connections of a listener as they come and go: a live table in a terminal, lines in a pipe."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.table import Table

from libp2p_quic._command.explanation import of_close
from libp2p_quic._command.output import Output
from libp2p_quic._command.quantity import duration, size
from libp2p_quic._exception_types import ConnectionClosed
from libp2p_quic.asyncio.connection import Connection

# Connections that are over stay in the table until this number is reached.
_MOST_ENDED = 10
# Rows of the table. The line below it counts the others.
_MOST_ROWS = 30


@dataclass
class _Row:
    connection: Connection
    began: float
    end: str = ""


class ConnectionTable:
    """Keeps the rows. The caller draws `table` when it wants to."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rows: dict[int, _Row] = {}
        self._count = 0

    def opened(self, connection: Connection) -> int:
        """Add a connection. Returns its number."""
        self._count += 1
        self._rows[self._count] = _Row(connection, time.monotonic())
        peer, address = str(connection.peer_id), connection.remote_address
        if not self._output.is_live:
            self._output.text(f"opened {address}/p2p/{peer}")
        self._output.event("opened", number=self._count, peer_id=peer, address=address)
        return self._count

    def closed(self, number: int, closed: ConnectionClosed) -> None:
        """Note the end of a connection."""
        row = self._rows[number]
        row.end = str(closed)
        statistics = row.connection.statistics()
        seconds = time.monotonic() - row.began
        received, sent = statistics.bytes_received, statistics.bytes_sent
        if not self._output.is_live:
            figures = f"{size(received)} received, {size(sent)} sent in {duration(seconds)}"
            self._output.text(f"closed {row.connection.remote_address}: {row.end} ({figures})")
        self._output.event(
            "closed",
            number=number,
            cause=of_close(closed).cause,
            text=row.end,
            elapsed=seconds,
            bytes_received=received,
            bytes_sent=sent,
        )
        over = [each for each, row in self._rows.items() if row.end]
        for each in over[: max(0, len(over) - _MOST_ENDED)] if self._output.is_live else over:
            del self._rows[each]

    def table(self) -> Table:
        """The rows as they are now, the newest first."""
        caption = f"{self._count} connections so far. Ctrl-C ends."
        # Without lines between the columns, and with a width that the last one keeps, 80 columns suffice.
        made = Table(box=None, caption=caption, caption_justify="left")
        for name in ("peer", "address", "since", "rtt", "streams", "received", "sent", "lost"):
            made.add_column(name, no_wrap=True, overflow="ellipsis")
        made.add_column("state", overflow="fold", min_width=12)
        for row in list(reversed(self._rows.values()))[:_MOST_ROWS]:
            facts = row.connection.statistics()
            made.add_row(
                f"…{str(row.connection.peer_id)[-8:]}",
                row.connection.remote_address.removesuffix("/quic-v1"),
                duration(time.monotonic() - row.began),
                duration(facts.rtt),
                str(facts.streams_open),
                size(facts.bytes_received),
                size(facts.bytes_sent),
                str(facts.packets_lost),
                row.end or "open",
                style="dim" if row.end else None,
            )
        return made
