"""The transport of a lean consensus client (leanSpec's names) on `libp2p_quic.asyncio`.

docs/howto/lean-clients.md maps each call. The client's own code keeps its imports and replaces this
module: connections, streams, and the buffered reader for messages with a length prefix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from libp2p_quic import Identity
from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Stream

MAX_MESSAGE = 10 * 1024 * 1024
REQUEST_TIMEOUT = 10.0


@dataclass
class QuicStream:
    stream: Stream

    @property
    def stream_id(self) -> int:
        return self.stream.id

    @property
    def protocol_id(self) -> str:
        return self.stream.protocol or ""

    async def read(self, n: int = -1) -> bytes:
        """What has arrived, at most ``n`` bytes; b"" at the end."""
        return await self.stream.read(n)

    async def write(self, data: bytes) -> None:
        await self.stream.write(data)

    async def finish_write(self) -> None:
        self.stream.finish()

    async def close(self) -> None:
        self.stream.close()

    async def reset(self, error_code: int = 0) -> None:
        self.stream.reset(error_code)


@dataclass
class QuicStreamAdapter:
    quic: QuicStream

    async def read_message(self, limit: int = MAX_MESSAGE) -> bytes:
        length = shift = 0
        while True:
            (byte,) = await self.quic.stream.read_exactly(1)
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 28:
                raise ValueError("the length prefix is longer than 4 bytes")
        if length > limit:
            raise ValueError(f"the peer announced {length} bytes, allowed are {limit}")
        return await self.quic.stream.read_exactly(length)

    async def write_message(self, data: bytes) -> None:
        prefix, length = bytearray(), len(data)
        while length > 0x7F:
            prefix.append(length & 0x7F | 0x80)
            length >>= 7
        prefix.append(length)
        await self.quic.stream.write(bytes(prefix) + data)


@dataclass
class QuicConnection:
    """A connection to a verified peer. ``protocols`` are those that inbound streams may use."""

    connection: Connection
    protocols: tuple[str, ...]

    @property
    def peer_id(self) -> str:
        return str(self.connection.peer_id)

    @property
    def remote_address(self) -> str:
        return self.connection.remote_address

    async def open_stream(self, protocol: str) -> QuicStream:
        return QuicStream(await self.connection.open_stream(protocol))

    async def accept_stream(self) -> QuicStream:
        """Raises ConnectionClosed when the connection is over, instead of waiting for ever."""
        return QuicStream(await self.connection.accept_stream(self.protocols))

    async def request(self, protocol: str, data: bytes) -> bytes:
        """One request and its response, within REQUEST_TIMEOUT."""

        async def talk() -> bytes:
            async with (await self.open_stream(protocol)).stream as stream:
                messages = QuicStreamAdapter(QuicStream(stream))
                await messages.write_message(data)
                stream.finish()
                return await messages.read_message()

        return await asyncio.wait_for(talk(), REQUEST_TIMEOUT)

    async def close(self) -> None:
        self.connection.close()


@dataclass
class QuicConnectionManager:
    endpoint: Endpoint
    protocols: tuple[str, ...]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    def create(cls, secp256k1_secret: bytes, protocols: tuple[str, ...]) -> QuicConnectionManager:
        config = EndpointConfig(idle_timeout=60, max_concurrent_streams=4096)
        return cls(Endpoint(Identity.from_secret("secp256k1", secp256k1_secret), config), protocols)

    async def connect(self, multiaddr: str) -> QuicConnection:
        return QuicConnection(await self.endpoint.connect(multiaddr), self.protocols)

    async def listen(self, multiaddr: str, on_connection: Callable[[QuicConnection], Awaitable[None]]) -> str:
        """Returns the bound address, and calls ``on_connection`` in a task for each connection."""
        listener = await self.endpoint.listen(multiaddr)

        async def accept() -> None:
            async for connection in listener:
                self._start(on_connection(QuicConnection(connection, self.protocols)))

        self._start(accept())
        return f"{listener.address}/p2p/{self.endpoint.peer_id}"

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await self.endpoint.close()
