"""Two transports in one process, without hosts, and the connection between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICStream, QUICTransport
from peers.near import IP4, near_transport


@dataclass
class Linked:
    """A connection with both its ends, and what made them."""

    dialer: QUICTransport
    listener: QUICListener
    dialed: QUICConnection
    accepted: QUICConnection
    kept: list[tuple[QUICStream, QUICStream]] = field(default_factory=list)

    async def stream(self) -> tuple[QUICStream, QUICStream]:
        """The dialer's end and the listener's; one byte has gone through."""
        ours = await self.dialed.open_stream()
        await ours.write(b".")
        theirs = await self.accepted.accept_stream()
        assert await theirs.read(1) == b"."
        return ours, theirs


@asynccontextmanager
async def listening(
    listen: str = IP4,
    **config: Any,
) -> AsyncIterator[tuple[QUICListener, trio.MemoryReceiveChannel[QUICConnection]]]:
    """A listener and the connections that it accepts."""
    transport = near_transport(**config)
    arrived, connections = trio.open_memory_channel[QUICConnection](10)
    listener = transport.create_listener(arrived.send)
    await listener.listen(Multiaddr(listen))
    try:
        yield listener, connections
    finally:
        with trio.CancelScope(shield=True):
            await transport.close()


@asynccontextmanager
async def linked(
    near: dict[str, Any] | None = None, far: dict[str, Any] | None = None
) -> AsyncIterator[Linked]:
    async with listening(**(far or {})) as (listener, connections):
        dialer = near_transport(**(near or {}))
        try:
            dialed = await dialer.dial(listener.get_addrs()[0])
            yield Linked(dialer, listener, dialed, await connections.receive())
        finally:
            with trio.CancelScope(shield=True):
                await dialer.close()
