"""`libp2p-quic cat`: standard input and output of two terminals or programs, connected by one stream."""

from __future__ import annotations

import asyncio
import sys
import time

import click

from libp2p_quic._command.byte_exchange import CAT, ByteExchange, InputError
from libp2p_quic._command.connecting import connected, failure
from libp2p_quic._command.consent import Consent, consent_options
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.listening import PeerGate, announce, opened, peer_gate, serve_until
from libp2p_quic._command.options import address_of, identity_of, key_option, timeout_option
from libp2p_quic._command.output import INTERRUPTED, CommandFailedError, NoReaderError, Output, json_option
from libp2p_quic._command.quantity import duration, size
from libp2p_quic._exception_types import QUICError, StreamLost
from libp2p_quic._gate import GATED
from libp2p_quic._identity import Identity
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint
from libp2p_quic.asyncio.listener import Listener
from libp2p_quic.asyncio.stream import Stream

# The code of a connection that this program closes before both sides have finished.
_BROKEN_OFF = 1
# Peers that may wait for the person's answer.
_MOST_PEERS = 4


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic cat --listen > copy.tar
  tar c folder | libp2p-quic cat ADDR
  libp2p-quic cat --listen --from 12D3KooW... | tar x
"""
)
@click.argument("addresses", metavar="ADDR", nargs=-1)
@click.option(
    "-l",
    "--listen",
    "is_listening",
    is_flag=True,
    help="Wait for one peer, on each ADDR. Default: a port that the system chooses.",
)
@consent_options
@key_option
@timeout_option
@json_option
def cat(
    addresses: tuple[str, ...],
    is_listening: bool,
    admitted: tuple[str, ...],
    is_open: bool,
    key_file: str | None,
    timeout: float,
    is_json: bool,
) -> None:
    """Send standard input to ADDR, and print what comes back; one side runs with --listen.

    The listening side shows who connects, and asks; with --from only that peer may connect, without a
    question. Ends when both sides have finished; at a terminal, when the peer has. The rest of the output
    is on standard error, since standard output has the peer's bytes.
    """
    output = Output(is_json, is_beside_data=True)
    try:
        if not is_listening and len(addresses) != 1:
            raise click.UsageError("cat needs one ADDR, or --listen")
        identity = identity_of(key_file, output)
        if is_listening:
            consent = Consent(bool(admitted), is_open, output)
            gate = peer_gate(admitted, "--from", output)
            is_interrupted = run(lambda each: _listen(each, identity, gate, addresses, consent, output))
        else:
            address = address_of(addresses[0], is_json)

            async def command(interruption: Interruption) -> bool:
                async with connected(address, identity, timeout, output) as connection:
                    stream = await connection.open_stream(CAT)
                    # The listener learns of the stream before this side has anything to say.
                    await stream.negotiated()
                    return await _exchange(interruption, connection, stream, output)

            is_interrupted = run(command)
    except CommandFailedError as error:
        error.is_beside_data = True
        raise
    if is_interrupted:
        sys.exit(INTERRUPTED)


async def _listen(
    interruption: Interruption,
    identity: Identity,
    gate: PeerGate | None,
    addresses: tuple[str, ...],
    consent: Consent,
    output: Output,
) -> bool:
    config = EndpointConfig(
        max_connections=_MOST_PEERS, max_connections_per_address=_MOST_PEERS, gate_peer=gate
    )
    async with Endpoint(identity, config) as endpoint:
        listeners = await opened(endpoint, addresses, output)
        found = announce(endpoint, listeners, output)
        output.note(f"waiting for: libp2p-quic cat {found[-1]}")
        connection, stream = await _first(listeners, gate, consent, output)
        for each in listeners:
            each.close()
        return await _exchange(interruption, connection, stream, output)


async def _first(
    listeners: list[Listener], gate: PeerGate | None, consent: Consent, output: Output
) -> tuple[Connection, Stream]:
    """The first peer that has consent, and its stream."""
    found: asyncio.Future[tuple[Connection, Stream]] = asyncio.get_running_loop().create_future()
    turn = asyncio.Lock()

    async def welcome(connection: Connection) -> None:
        is_welcome = False
        try:
            stream = await connection.accept_stream([CAT])
            async with turn:
                if found.done() or consent.has_declined(connection.peer_id):
                    return
                is_welcome = await consent.given(connection, "a stream")
                if is_welcome:
                    found.set_result((connection, stream))
        except QUICError as error:
            output.note(f"no stream of {connection.peer_id}: {error}")
        finally:
            if not is_welcome:
                connection.close(GATED, "declined")

    return await serve_until(found, listeners, welcome, gate)


async def _exchange(
    interruption: Interruption, connection: Connection, stream: Stream, output: Output
) -> bool:
    """Run to the end. Returns whether it was interrupted."""
    peer = str(connection.peer_id)
    output.note(f"connected to {peer} at {connection.remote_address}")
    output.event("connected", peer_id=peer, address=connection.remote_address)
    began = time.monotonic()
    exchange = ByteExchange(stream)
    is_whole = False
    try:
        is_interrupted = await interruption.measured(exchange.run())
        if not is_interrupted:
            await _delivered(connection, stream)
            is_whole = True
    except QUICError as error:
        raise await failure(connection, error, output) from error
    except BrokenPipeError:
        raise NoReaderError from None
    except InputError as error:
        text, step = f"cannot read standard input: {error}", "give it a file or a pipe, or type at a terminal"
        raise CommandFailedError(Explanation("file", text, step), output.is_json) from error
    except OSError as error:
        text = f"cannot write what the peer sent: {error.strerror or error}"
        step = "check the disk and the file that standard output goes to"
        raise CommandFailedError(Explanation("output", text, step), output.is_json) from error
    finally:
        if not is_whole:
            stream.reset()
            connection.close(_BROKEN_OFF, "broken off")
        elapsed = time.monotonic() - began
        figures = f"{size(exchange.sent)} sent, {size(exchange.received)} received in {duration(elapsed)}"
        output.note(f"{figures}{'' if is_whole else ', broken off'}")
        counts = {"sent": exchange.sent, "received": exchange.received, "elapsed": elapsed}
        output.event("ended", complete=is_whole, **counts, **exchange.digests)
    return is_interrupted


async def _delivered(connection: Connection, stream: Stream) -> None:
    """Wait until the peer has everything. It may close before it acknowledges the end, which it does with
    code 0 only after it has read that."""
    try:
        await stream.finished()
    except StreamLost:
        closed = await connection.closed()
        if (closed.by, closed.error_code) != ("peer", 0):
            raise
