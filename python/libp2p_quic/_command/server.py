"""Serves the protocols of `services` to every connection of some listeners, and shows who is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.live import Live

from libp2p_quic._command.connection_table import ConnectionTable
from libp2p_quic._command.listening import PeerGate, reached_at, start_serving
from libp2p_quic._command.live import fit
from libp2p_quic._command.output import Output
from libp2p_quic._command.services import handlers
from libp2p_quic.asyncio.connection import Connection, Handler, cancel_all
from libp2p_quic.asyncio.listener import Listener

# How often the live table is drawn. Seconds.
_DRAW_INTERVAL = 0.5


class Server:
    """A table in a terminal, a line for each event in a pipe. ``public_key`` is the host's, for identify.

    ``served`` are the handlers by protocol, beside identify. ``gate`` is that of the endpoint.
    """

    def __init__(
        self,
        listeners: Sequence[Listener],
        public_key: bytes,
        output: Output,
        served: Mapping[str, Handler],
        gate: PeerGate | None = None,
    ) -> None:
        self._listeners = listeners
        self._public_key = public_key
        self._output = output
        self._served = served
        self._gate = gate
        self._table = ConnectionTable(output, gate, self._count_refused)
        if gate is not None:
            gate.is_drawn = output.is_live

    async def run(self) -> None:
        """Serve until canceled. Raises the error of a task that fails, such as one that cannot print."""
        tasks = start_serving(self._listeners, self._serve, self._gate)
        try:
            if self._output.is_live:
                await self._draw(tasks)
            await asyncio.gather(*tasks)
        finally:
            await cancel_all(tasks)

    def _count_refused(self) -> int:
        """The inbound connections that were refused for any reason, up to now."""
        counted = [each.statistics() for each in self._listeners]
        names = ("connections_refused", "connections_gated", "handshakes_refused")
        return sum(each[name] for each in counted for name in names)

    async def _draw(self, tasks: set[asyncio.Task[None]]) -> None:
        console = Console()

        def table() -> RenderableType:
            return self._table.table(console.width)

        with Live(console=console, get_renderable=table, auto_refresh=False) as live:
            while not any(task.done() for task in tasks):
                fit(console)
                live.refresh()
                await asyncio.wait(tasks, timeout=_DRAW_INTERVAL)

    async def _serve(self, connection: Connection) -> None:
        number = self._table.opened(connection)
        addresses = reached_at(self._listeners)
        await connection.serve(handlers(connection, self._public_key, addresses, self._served))
        self._table.closed(number, await connection.closed())
