"""Two endpoints of `libp2p_quic.asyncio` on loopback, and connections between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Identity, Listener, Stream

LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"


@dataclass
class Ends:
    """A dialing endpoint, and a listening one with its listener."""

    near: Endpoint
    far: Endpoint
    listener: Listener

    @property
    def address(self) -> str:
        """The address to dial, with the peer id."""
        return f"{self.listener.address}/p2p/{self.far.peer_id}"

    async def connected(self) -> tuple[Connection, Connection]:
        near = await self.near.connect(self.address)
        return near, await self.listener.accept()

    async def streams(self) -> tuple[Stream, Stream]:
        """Both ends of a raw stream, on a connection of its own."""
        near, far = await self.connected()
        return await raw_streams(near, far)


async def raw_streams(near: Connection, far: Connection) -> tuple[Stream, Stream]:
    ours = await near.open_stream()
    await ours.write(b".")
    theirs = await far.accept_stream()
    assert await theirs.read_exactly(1) == b"."
    return ours, theirs


@asynccontextmanager
async def ends(near: EndpointConfig | None = None, far: EndpointConfig | None = None) -> AsyncIterator[Ends]:
    async with (
        Endpoint(Identity.generate(), near) as dialing,
        Endpoint(Identity.generate(), far) as listening,
    ):
        yield Ends(dialing, listening, await listening.listen(LOOPBACK))
