"""The protocols that listening commands serve: ping, echo, perf and identify."""

from __future__ import annotations

from collections.abc import Mapping

from libp2p_quic import __version__
from libp2p_quic._command.identify import IDENTIFY, answer_for
from libp2p_quic._command.perf_protocol import PERF, serve_perf
from libp2p_quic.asyncio.connection import Connection, Handler
from libp2p_quic.asyncio.stream import Stream

PING = "/ipfs/ping/1.0.0"
# That of py-libp2p's and js-libp2p's examples.
ECHO = "/echo/1.0.0"
PING_SIZE = 32

AGENT = f"libp2p-quic/{__version__}"


async def ping(stream: Stream) -> None:
    """Answer each 32 bytes with the same bytes (ping spec), until the peer finishes."""
    while data := await stream.read(PING_SIZE):
        await stream.write(data)


async def echo(stream: Stream) -> None:
    """Send everything back."""
    while data := await stream.read():
        await stream.write(data)


# What `listen` serves beside identify.
SERVED: dict[str, Handler] = {PING: ping, ECHO: echo, PERF: serve_perf}


def handlers(
    connection: Connection, public_key: bytes, addresses: list[str], served: Mapping[str, Handler]
) -> dict[str, Handler]:
    """The handlers of the streams of ``connection``, by protocol: ``served``, and identify."""

    async def identify(stream: Stream) -> None:
        await stream.write(answer_for(public_key, addresses, list(found), AGENT, connection.remote_address))

    found: dict[str, Handler] = {**served, IDENTIFY: identify}
    return found
