"""Resets a stream of a host in another process, from a peer that does nothing else."""

from __future__ import annotations

import asyncio

from libp2p_quic.asyncio import Connection, Endpoint, Identity

PING = "/ipfs/ping/1.0.0"


def reset_by_a_peer(address: str, protocol: str, data: bytes = b"half") -> None:
    """Open a stream of ``protocol``, write ``data``, and reset it with code 7."""

    async def main() -> None:
        async with Endpoint(Identity.generate()) as endpoint:
            connection = await endpoint.connect(address)
            stream = await connection.open_stream(protocol)
            await stream.write(data)
            # Each is answered after what was sent before has arrived.
            await ping(connection)
            stream.reset(7)
            await ping(connection)

    async def ping(connection: Connection) -> None:
        async with await connection.open_stream(PING) as stream:
            await stream.write(bytes(32))
            assert await stream.read_exactly(32) == bytes(32)

    asyncio.run(main())
