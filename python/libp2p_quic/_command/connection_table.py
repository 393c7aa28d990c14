"""The connections of a listener as they come and go: a live table in a terminal, lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from libp2p_quic._command.explanation import of_close
from libp2p_quic._command.listening import PeerGate
from libp2p_quic._command.output import Output
from libp2p_quic._command.quantity import duration, size
from libp2p_quic._exception_types import ConnectionClosed
from libp2p_quic.asyncio.connection import Connection

# Connections that are over stay in the table until this number is reached.
_MOST_ENDED = 10
# Rows of the table. The line below it counts the others.
_MOST_ROWS = 30
# As they are shown, and by importance: a narrow terminal has the first ones.
_COLUMNS = ("peer", "address", "since", "rtt", "streams", "received", "sent", "lost", "state")
_BY_IMPORTANCE = ("peer", "state", "address", "since", "rtt", "received", "sent", "streams", "lost")
# The least width of the column "state".
_STATE = 14


@dataclass
class _Row:
    connection: Connection
    began: float
    end: str = ""


class ConnectionTable:
    """Keeps the rows. The caller draws `table` when it wants to.

    ``gate`` has the peers that it refused, and ``count_refused`` counts all that the listeners did.
    """

    def __init__(self, output: Output, gate: PeerGate | None, count_refused: Callable[[], int]) -> None:
        self._output = output
        self._gate = gate
        self._count_refused = count_refused
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

    def table(self, width: int) -> RenderableType:
        """The rows as they are now, the newest first, with the columns that fit into ``width``.

        The last peers that the gate refused are above them.
        """
        rows = list(reversed(self._rows.values()))[:_MOST_ROWS]
        cells = [_cells(each) for each in rows]
        wide = {name: max([len(name), *(len(each[name]) for each in cells)]) for name in _COLUMNS}
        wide["state"] = _STATE
        shown, used = [], 0
        for name in _BY_IMPORTANCE:
            # A column has a space on each side.
            if used + wide[name] + 2 <= width:
                used += wide[name] + 2
                shown.append(name)
        plural = "" if self._count == 1 else "s"
        caption = f"{self._count} connection{plural} so far, {self._count_refused()} refused. Ctrl-C ends."
        made = Table(box=None, caption=caption, caption_justify="left")
        for name in sorted(shown, key=_COLUMNS.index):
            # The end of a connection is long, and has the lines that it needs.
            kind = {"overflow": "fold", "min_width": _STATE} if name == "state" else {"no_wrap": True}
            made.add_column(name, **kind)
        for row, each in zip(rows, cells, strict=True):
            told = [each[name] for name in sorted(shown, key=_COLUMNS.index)]
            made.add_row(*told, style="dim" if row.end else None)
        if self._gate is None or not self._gate.refused:
            return made
        return Group(self._refused(self._gate), made)

    def _refused(self, gate: PeerGate) -> Table:
        """The last peers that the gate refused, the newest first. The whole peer id, to be admitted with."""
        made = Table(box=None, style="red")
        made.add_column(f"refused: {gate.reason}", no_wrap=True)
        made.add_column("address", overflow="fold")
        for peer_id, address in reversed(gate.refused):
            # With the port of a peer that dials, 80 columns would not suffice.
            made.add_row(str(peer_id), address.partition("/udp/")[0])
        return made


def _cells(row: _Row) -> dict[str, str]:
    facts = row.connection.statistics()
    return {
        "peer": f"…{str(row.connection.peer_id)[-8:]}",
        "address": row.connection.remote_address.removesuffix("/quic-v1"),
        "since": duration(time.monotonic() - row.began),
        "rtt": duration(facts.rtt),
        "streams": str(facts.streams_open),
        "received": size(facts.bytes_received),
        "sent": size(facts.bytes_sent),
        "lost": str(facts.packets_lost),
        "state": row.end.removeprefix("connection ") or "open",
    }
