"""`libp2p-quic listen`: serves ping, echo and perf to any libp2p, and shows who is connected."""

from __future__ import annotations

import asyncio
import io

import click
import segno
from rich.console import Console
from rich.live import Live

from libp2p_quic._command.connection_table import ConnectionTable
from libp2p_quic._command.explanation import Explanation, of_address
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.options import identity_of, json_option, key_option
from libp2p_quic._command.output import NoConnectionError, Output, UnusableArgumentError
from libp2p_quic._command.own_address import dialable
from libp2p_quic._command.services import handlers
from libp2p_quic._exception_types import InvalidAddressError, InvalidPeerIdError, ListenError
from libp2p_quic._identity import Identity
from libp2p_quic._peer_id import PeerId
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection, cancel_all
from libp2p_quic.asyncio.endpoint import Endpoint
from libp2p_quic.asyncio.listener import Listener

_DEFAULT_ADDRESS = "/ip4/0.0.0.0/udp/0/quic-v1"
# How often the live table is drawn. Seconds.
_DRAW_INTERVAL = 0.5


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic listen
  libp2p-quic listen --key node.key /ip4/0.0.0.0/udp/4001/quic-v1 /ip6/::/udp/4001/quic-v1
  libp2p-quic listen --json | jq .address
"""
)
@click.argument("addresses", metavar="[ADDR]...", nargs=-1)
@key_option
@click.option("--allow", metavar="PEER", multiple=True, help="Admit this peer id only. May be repeated.")
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Refuse more than these.",
)
@click.option(
    "--qr/--no-qr", default=True, show_default=True, help="In a terminal, show a QR code of the address."
)
@json_option
def listen(
    addresses: tuple[str, ...],
    key_file: str | None,
    allow: tuple[str, ...],
    max_connections: int,
    qr: bool,
    is_json: bool,
) -> None:
    """Serve ping, echo and perf (/perf/1.0.0) on each ADDR until Ctrl-C, for any libp2p.

    Default: a port that the system chooses, on all IPv4 addresses. Prints the addresses to dial, then
    connections as they come and go: a table in a terminal, lines in a pipe.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)
    config = EndpointConfig(max_connections=max_connections, gate_peer=_gate(allow, output))

    async def command(interruption: Interruption) -> None:
        async with Endpoint(identity, config) as endpoint:
            server = _Server(identity, output)
            for address in addresses or (_DEFAULT_ADDRESS,):
                server.listeners.append(await _listener(endpoint, address, output))
            _announce(server, qr, output)
            await interruption.measured(server.run())

    run(command)


def _gate(allow: tuple[str, ...], output: Output) -> _PeerGate | None:
    try:
        admitted = frozenset(PeerId.parse(each) for each in allow)
    except InvalidPeerIdError as error:
        why = Explanation("peer_id", str(error), "libp2p-quic identity show prints the peer id of a key")
        raise UnusableArgumentError(why, output.is_json) from None
    return _PeerGate(admitted) if admitted else None


class _PeerGate:
    """Admits certain peers only."""

    def __init__(self, admitted: frozenset[PeerId]) -> None:
        self._admitted = admitted

    def __call__(self, peer_id: PeerId, address: str) -> bool:
        return peer_id in self._admitted


async def _listener(endpoint: Endpoint, address: str, output: Output) -> Listener:
    try:
        return await endpoint.listen(address)
    except InvalidAddressError as error:
        raise UnusableArgumentError(of_address(address, error), output.is_json) from None
    except ListenError as error:
        step = "give another port, or 0 for a free one; ss -lunp shows who has it"
        raise NoConnectionError(Explanation("listen", str(error), step), output.is_json) from None


def _announce(server: _Server, qr: bool, output: Output) -> None:
    peer = server.identity.peer_id
    found = [f"{each}/p2p/{peer}" for each in server.addresses()]
    for each in found:
        output.text(each)
        output.event("listening", address=each, peer_id=str(peer))
    if qr and output.is_live:
        drawn = io.StringIO()
        segno.make(found[-1], error="l").terminal(drawn, compact=True, border=2)
        output.note(drawn.getvalue())


class _Server:
    """Serves every connection of its listeners, and shows them."""

    def __init__(self, identity: Identity, output: Output) -> None:
        self.identity = identity
        self.listeners: list[Listener] = []
        self._output = output
        self._table = ConnectionTable(output)

    def addresses(self) -> list[str]:
        """The addresses to dial, without the peer id."""
        return [found for each in self.listeners for found in dialable(each.address)]

    async def run(self) -> None:
        """Serve until canceled."""
        tasks = {asyncio.create_task(self._accept(each)) for each in self.listeners}
        try:
            if self._output.is_live:
                await self._draw(tasks)
            else:
                await asyncio.gather(*tasks)
        finally:
            await cancel_all(tasks)

    async def _draw(self, tasks: set[asyncio.Task[None]]) -> None:
        with Live(console=Console(), get_renderable=self._table.table, auto_refresh=False) as live:
            while not any(task.done() for task in tasks):
                live.refresh()
                await asyncio.wait(tasks, timeout=_DRAW_INTERVAL)

    async def _accept(self, listener: Listener) -> None:
        serving: set[asyncio.Task[None]] = set()
        try:
            async for connection in listener:
                task = asyncio.create_task(self._serve(connection))
                serving.add(task)
                task.add_done_callback(serving.discard)
                del connection, task
        finally:
            await cancel_all(serving)

    async def _serve(self, connection: Connection) -> None:
        number = self._table.opened(connection)
        await connection.serve(handlers(connection, self.identity.public_key, self.addresses()))
        self._table.closed(number, await connection.closed())
