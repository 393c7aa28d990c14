"""UDP servers that a dial cannot succeed with, each in its own way. They run in the caller's asyncio loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import cast

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.quic.configuration import QuicConfiguration

from testkit.h3 import certify
from testkit.names import free_port

_DRAFT_29 = bytes.fromhex("ff00001d")


def address_of(port: int) -> str:
    return f"/ip4/127.0.0.1/udp/{port}/quic-v1"


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a socket that nothing reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        unread.bind(("127.0.0.1", 0))
        yield address_of(unread.getsockname()[1])


def dead_port() -> str:
    """An address at which nothing listens, and which no socket gets by asking for port 0."""
    return address_of(free_port())


class _OldServer(asyncio.DatagramProtocol):
    """Supports draft 29 only: answers with Version Negotiation (RFC 9000 section 17.2.1)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        destination, rest = data[6 : 6 + data[5]], data[6 + data[5] :]
        origin = rest[1 : 1 + rest[0]]
        ids = bytes([len(origin)]) + origin + bytes([len(destination)]) + destination
        self._transport.sendto(b"\x80" + bytes(4) + ids + _DRAFT_29, source)


class _Forwarder(asyncio.DatagramProtocol):
    """Passes datagrams on, and only the first ``most`` of the answers back."""

    def __init__(self, target: tuple[str, int], most: int) -> None:
        self._target = target
        self._left = most
        self._client: tuple[str, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        if source != self._target:
            self._client = source
            self._transport.sendto(data, self._target)
        elif self._left and self._client is not None:
            self._left -= 1
            self._transport.sendto(data, self._client)


@asynccontextmanager
async def _serving(protocol: asyncio.DatagramProtocol) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, ("127.0.0.1", 0))
    try:
        yield address_of(transport.get_extra_info("sockname")[1])
    finally:
        transport.close()


def old_server() -> AbstractAsyncContextManager[str]:
    """A server that supports draft 29 of QUIC only."""
    return _serving(_OldServer())


def one_answer_of(port: int) -> AbstractAsyncContextManager[str]:
    """A path to the listener on ``port`` that loses all its answers but the first."""
    return _serving(_Forwarder(("127.0.0.1", port), 1))


@asynccontextmanager
async def other_server(protocol: str) -> AsyncIterator[str]:
    """A QUIC server with that ALPN protocol, and a certificate that proves no libp2p identity."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[protocol])
    certify(configuration)
    async with aioquic_server(configuration) as address:
        yield address


@asynccontextmanager
async def aioquic_server(
    configuration: QuicConfiguration, create_protocol: Callable[..., QuicConnectionProtocol] | None = None
) -> AsyncIterator[str]:
    """A server of aioquic. Gives its address."""
    server = await serve(
        "127.0.0.1",
        0,
        configuration=configuration,
        create_protocol=create_protocol or QuicConnectionProtocol,
    )
    transport = server._transport
    assert transport is not None
    try:
        yield address_of(transport.get_extra_info("sockname")[1])
    finally:
        server.close()
