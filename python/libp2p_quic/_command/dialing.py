"""The dial of a command, which tells a person what it waits for when there is no answer within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from libp2p_quic._command.output import Output
from libp2p_quic._dial_attempt import DialAttempt
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint

# Longer than a handshake on any path that works well, and short enough that nobody wonders. Seconds.
_PATIENCE = 1.0


async def dialed(
    endpoint: Endpoint, address: Address, output: Output, attempts: list[DialAttempt]
) -> Connection:
    """`Endpoint.connect`, whose ``attempts`` it fills in. Raises DialError."""
    limit = endpoint.config.handshake_timeout

    def tell() -> None:
        for line in waiting_lines(limit, address, attempts):
            output.note(line)

    timer = asyncio.get_running_loop().call_later(_PATIENCE, tell)
    try:
        return await endpoint.connect(str(address), attempts=attempts)
    finally:
        timer.cancel()


def waiting_lines(limit: float, address: Address, attempts: Sequence[DialAttempt]) -> list[str]:
    """What a dial without an answer has done so far, and how long it goes on. ``limit`` is in seconds."""
    if not attempts:
        return [f"waiting for the addresses of /{address.name_protocol}/{address.host}"]
    lines = []
    for each in attempts:
        if each.result == "waiting":
            # It says more than the count, which has each repetition.
            refused = "the port is unreachable: no program listens there, or a firewall rejects UDP"
            told = refused if each.is_port_unreachable else traffic(each)
            lines.append(f"waiting for {each.address.partition('/p2p/')[0]}: {told}")
    return [*lines, f"each address has {limit:g} s (--timeout); Ctrl-C ends"] if lines else []


def traffic(attempt: DialAttempt) -> str:
    """What an attempt sent and received."""
    facts = attempt.statistics()
    sent, received = (0, 0) if facts is None else (facts.datagrams_sent, facts.datagrams_received)
    return f"{sent} datagram{'s' * (sent != 1)} sent, {received or 'none'} came back"
