"""Two transports in one process, without hosts, and the connection between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import trio
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICStream, QUICTransport
from testkit.near import IP4, near_transport

_transports: WeakKeyDictionary[QUICListener, QUICTransport] = WeakKeyDictionary()


def transport_behind(listener: QUICListener) -> QUICTransport:
    """The transport that made a listener of `listening`."""
    return _transports[listener]


@dataclass
class Linked:
    """Both ends of a connection, and their transports."""

    dialer: QUICTransport
    listener: QUICListener
    dialed: QUICConnection
    accepted: QUICConnection
    kept: list[tuple[QUICStream, QUICStream]] = field(default_factory=list)

    async def stream(self) -> tuple[QUICStream, QUICStream]:
        """The dialer's end and the listener's, after one byte was transferred."""
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
    _transports[listener] = transport
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
