"""The two levels of a Python program: the transport itself, or a host above it.

Both levels offer one interface, `Node`, so that the measures are the same code for both and for both
transports.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import trio
from libp2p import new_host
from libp2p.abc import IHost, ITransport
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.transport.quic import transport as stock
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import QUICError
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, QUICTransportConfig, install

LISTEN = Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")
WEB = ("off", "only", "beside")
"""Whether a node listens on WebTransport, and is dialed by it, or listens on it beside QUIC on one port."""
ENDS = (BaseLibp2pError, QUICError, OSError, EOFError)
"""The errors after the other side has ended."""
PROTOCOL = TProtocol("/libp2p-quic/bench/1.0.0")


class Stream(Protocol):
    """The common interface of py-libp2p's muxed streams and the host's streams."""

    async def read(self, n: int | None = None) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close_write(self) -> None: ...
    async def close(self) -> None: ...


Handler = Callable[[Stream], Awaitable[None]]


class Connection(Protocol):
    async def open(self) -> Stream: ...
    async def close(self) -> None: ...


class Node(Protocol):
    """A node that listens, or one that dials."""

    async def listen(self, handler: Handler) -> str: ...
    async def dial(self, address: str) -> Connection: ...


def make_transport(is_stock: bool, has_defaults: bool, key_pair: KeyPair) -> ITransport:
    if not is_stock:
        # All connections of a measure have one source address.
        ours = QUICTransportConfig(
            MAX_INCOMING_STREAMS=256, max_connections=100_000, max_connections_per_address=None
        )
        return QUICTransport(key_pair.private_key, ours)
    if has_defaults:
        return stock.QUICTransport(key_pair.private_key)
    config = StockConfig(
        max_datagram_size=1452,
        STREAM_FLOW_CONTROL_WINDOW=10_000_000,
        CONNECTION_FLOW_CONTROL_WINDOW=15_000_000,
        MAX_STREAM_RECEIVE_BUFFER=20_000_000,
        STREAM_SEND_BUFFER_HIGH_WATERMARK=10_000_000,
    )
    return stock.QUICTransport(key_pair.private_key, config)


class _Muxed:
    """A connection of the transport, without a host."""

    def __init__(self, muxed: Any) -> None:
        self._muxed = muxed

    async def open(self) -> Stream:
        return cast(Stream, await self._muxed.open_stream())

    async def close(self) -> None:
        await self._muxed.close()


class _TransportNode:
    def __init__(self, transport: ITransport, peer: ID, web: str) -> None:
        self._transport = transport
        self._peer = peer
        self._web = web

    async def listen(self, handler: Handler) -> str:
        async def serve(connection: Any) -> None:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        stream = await connection.accept_stream()
                    except ENDS:
                        # The dialer closed it, as is expected.
                        return
                    nursery.start_soon(handler, stream)

        async def listen(address: str) -> Multiaddr:
            listener = self._transport.create_listener(cast(Any, serve))
            await listener.listen(Multiaddr(address))
            return listener.get_addrs()[0]

        address = await listen(f"{LISTEN}/webtransport" if self._web == "only" else str(LISTEN))
        if self._web == "beside":
            await listen(f"{address}/webtransport")
        # Addresses of WebTransport have it.
        return str(address) if self._web == "only" else f"{address}/p2p/{self._peer}"

    async def dial(self, address: str) -> Connection:
        return _Muxed(await self._transport.dial(Multiaddr(address)))


class _Hosted:
    """A host's connection to one peer."""

    def __init__(self, host: IHost, peer: ID) -> None:
        self._host = host
        self._peer = peer

    async def open(self) -> Stream:
        return cast(Stream, await self._host.new_stream(self._peer, [PROTOCOL]))

    async def close(self) -> None:
        await self._host.disconnect(self._peer)


class _HostNode:
    def __init__(self, host: IHost) -> None:
        self._host = host

    async def listen(self, handler: Handler) -> str:
        self._host.set_stream_handler(PROTOCOL, cast(Any, handler))
        return str(self._host.get_addrs()[0])

    async def dial(self, address: str) -> Connection:
        info = info_from_p2p_addr(Multiaddr(address))
        await self._host.connect(info)
        return _Hosted(self._host, info.peer_id)


@asynccontextmanager
async def running(
    is_hosted: bool, is_stock: bool, has_defaults: bool, is_listener: bool, web: str = "off"
) -> AsyncIterator[Node]:
    """A node; its tasks are canceled at the end of the block. ``web`` is one of `WEB`, without a host."""
    key_pair = create_new_key_pair()
    transport = make_transport(is_stock, has_defaults, key_pair)
    if is_hosted:
        if not is_stock:
            # As the README has users do.
            install()
        host = new_host(key_pair=key_pair, transports=[transport])
        async with host.run(listen_addrs=[LISTEN] if is_listener else []):
            yield _HostNode(host)
        return
    async with trio.open_nursery() as nursery:
        cast(Any, transport).set_background_nursery(nursery)
        yield _TransportNode(transport, ID.from_pubkey(key_pair.public_key), web)
        await cast(Any, transport).close()
        nursery.cancel_scope.cancel()
