"""The connection of a command: dials, answers what the peer asks, and explains a failed dial or a connection
that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from libp2p_quic._command.dialing import dialed
from libp2p_quic._command.explanation import of_close, of_dial, of_stream
from libp2p_quic._command.output import CommandFailedError, NoConnectionError, Output
from libp2p_quic._command.services import PING, handlers, ping
from libp2p_quic._exception_types import ConnectionClosed, DialError, QUICError, StreamLost
from libp2p_quic._identity import Identity
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection, cancel_all
from libp2p_quic.asyncio.endpoint import Endpoint


@asynccontextmanager
async def connected(
    address: Address, identity: Identity, timeout: float, output: Output
) -> AsyncIterator[Connection]:
    """A connection to ``address`` for the block. ``timeout`` is that of the handshake, in seconds.

    The peer's own pings and identify are answered: rust-libp2p 0.57 answers no more pings while nobody
    answers its streams. A failed dial, and an error of the package in the block, end the command with an
    explanation.
    """
    async with Endpoint(identity, EndpointConfig(handshake_timeout=timeout)) as endpoint:
        try:
            connection = await dialed(endpoint, address, output, [])
        except DialError as error:
            raise NoConnectionError(of_dial(error), output.is_json) from error
        async with connection:
            served = handlers(connection, identity.public_key, [], {PING: ping})
            answering = asyncio.create_task(connection.serve(served))
            try:
                yield connection
            except (QUICError, asyncio.IncompleteReadError) as error:
                raise await failure(connection, error, output) from error
            finally:
                await cancel_all({answering})


async def failure(connection: Connection, error: Exception, output: Output) -> CommandFailedError:
    """The end of a command whose operation failed with ``error`` on ``connection``."""
    if isinstance(error, StreamLost | ConnectionClosed) or connection.is_closed:
        return ended(await connection.closed(), output)
    return CommandFailedError(of_stream(error), output.is_json)


def ended(closed: ConnectionClosed, output: Output) -> CommandFailedError:
    """The end of a command whose connection is over. A listener's gate and limits refuse it after the
    handshake, and so does a listener that does not accept our certificate; that is no connection."""
    explanation = of_close(closed)
    is_refusal = closed.kind == "refused" or explanation.cause in ("gated", "limit")
    refused = closed.by == "peer" and is_refusal
    return (NoConnectionError if refused else CommandFailedError)(explanation, output.is_json)
