"""`libp2p-quic listen`: serves ping, echo and perf to any libp2p, and shows who is connected."""

from __future__ import annotations

import io
import shutil

import click
import segno

from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.listening import addresses_argument, announce, opened, peer_gate
from libp2p_quic._command.options import identity_of, key_option
from libp2p_quic._command.output import Output, json_option
from libp2p_quic._command.server import Server
from libp2p_quic._command.services import SERVED
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.endpoint import Endpoint

# The engine's largest limit.
_MOST_CONNECTIONS = 2**32 - 1


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic listen
  libp2p-quic listen --key node.key /ip4/0.0.0.0/udp/4001/quic-v1 /ip6/::/udp/4001/quic-v1
  libp2p-quic listen --json | jq -r 'select(.event == "listening").address'
"""
)
@addresses_argument
@key_option
@click.option("--allow", metavar="PEER", multiple=True, help="Admit this peer id only. May be repeated.")
@click.option(
    "--max-connections",
    type=click.IntRange(1, _MOST_CONNECTIONS),
    default=4096,
    show_default=True,
    metavar="N",
    help="Refuse more than these.",
)
@click.option(
    "--qr/--no-qr",
    default=True,
    show_default=True,
    help="In a terminal that is wide enough, show a QR code of the address.",
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
    connections as they come and go, and refused peers: a table in a terminal, lines in a pipe.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)
    gate = peer_gate(allow, "--allow", output)
    config = EndpointConfig(max_connections=max_connections, gate_peer=gate)

    async def command(interruption: Interruption) -> None:
        async with Endpoint(identity, config) as endpoint:
            listeners = await opened(endpoint, addresses, output)
            found = announce(endpoint, listeners, output)
            if qr and output.is_live:
                drawn = _drawn(found[-1])
                if drawn.index("\n") <= shutil.get_terminal_size().columns:
                    output.note(drawn)
            server = Server(listeners, identity.public_key, output, SERVED, gate)
            await interruption.measured(server.run())

    run(command)


def _drawn(address: str) -> str:
    """A QR code in the characters of a terminal."""
    drawn = io.StringIO()
    segno.make(address, error="l").terminal(drawn, compact=True, border=2)
    return drawn.getvalue()
