"""A py-libp2p host in the test's own process, made the way the README says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import MultiError
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import QUICConnection, QUICStream, QUICTransport, QUICTransportConfig
from testkit.census import PATIENCE, eventually

IP4 = "/ip4/127.0.0.1/udp/0/quic-v1"
IP6 = "/ip6/::1/udp/0/quic-v1"


def near_transport(**config: Any) -> QUICTransport:
    """A transport without a host, with a new key."""
    return QUICTransport(create_new_key_pair().private_key, QUICTransportConfig(**config))


@asynccontextmanager
async def near_host(
    *listen: str, config: dict[str, Any] | None = None, key_pair: KeyPair | None = None
) -> AsyncIterator[IHost]:
    """A running host that listens on these multiaddrs. Closing it may take at most 10 s."""
    key_pair = key_pair or create_new_key_pair()
    transport = QUICTransport(key_pair.private_key, QUICTransportConfig(**(config or {})))
    host = new_host(key_pair=key_pair, transports=[transport])
    async with host.run(listen_addrs=[Multiaddr(each) for each in listen]):
        await stop_auto_connector(host)
        yield host


async def stop_auto_connector(host: IHost) -> None:
    """Keep the swarm from dialing peers by itself.

    Every 10 s it dials known peers until it has hundreds of connections. A tick while a connection is being
    removed dials a peer that a test has just disconnected.
    """
    await swarm(host).auto_connector.stop()


async def answers(address: Multiaddr | str, peer: ID) -> bool:
    """Whether a new transport that dials ``address`` connects to that peer."""
    dialer = near_transport()
    dialed = await dialer.dial(Multiaddr(str(address)))
    await dialer.close()
    return dialed.peer_id == peer


def with_another_peer(address: Multiaddr) -> Multiaddr:
    """``address`` with /p2p of a peer that does not exist."""
    other = ID.from_pubkey(create_new_key_pair().public_key)
    return Multiaddr(f"{str(address).partition('/p2p/')[0]}/p2p/{other}")


def quic(*addresses: str) -> list[Multiaddr]:
    """The multiaddrs of addresses that are written "11.0.3.2|4001"."""
    return [
        Multiaddr(f"/ip{6 if ':' in each else 4}/{each}/quic-v1".replace("|", "/udp/")) for each in addresses
    ]


@asynccontextmanager
async def connected_hosts() -> AsyncIterator[tuple[IHost, IHost]]:
    """Two hosts, the first of which is connected to the second."""
    async with near_host(IP4) as near, near_host(IP4) as far:
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        await inbound(far, near.get_id())
        yield near, far


def swarm(host: IHost) -> Swarm:
    return cast(Swarm, host.get_network())


@contextmanager
def installed() -> Iterator[None]:
    """`libp2p_quic.install()`, undone at the end."""
    try:
        # Its warning is an error in tests, raised when the names are replaced already.
        libp2p_quic.install()
        yield
    finally:
        libp2p_quic.uninstall()


async def new_stream(host: IHost, peer: ID, protocol: str) -> NetStream:
    """`IHost.new_stream`, whose type does not say that the stream can be half-closed."""
    return cast(NetStream, await host.new_stream(peer, [TProtocol(protocol)]))


def connection(host: IHost, peer: ID) -> QUICConnection:
    """The one connection to that peer."""
    (only,) = swarm(host).get_connections(peer)
    assert isinstance(only.muxed_conn, QUICConnection)
    return only.muxed_conn


async def inbound(host: IHost, peer: ID) -> QUICConnection:
    """The one connection from that peer, once the swarm has added it.

    The dialer may return from its dial before that.
    """
    assert await eventually(lambda: bool(swarm(host).get_connections(peer))), "no inbound connection"
    return connection(host, peer)


def transport_of(host: IHost) -> QUICTransport:
    """Our transport among those of the host."""
    found = swarm(host).transport_manager.get_transports()
    (ours,) = (each for each in found if isinstance(each, QUICTransport))
    return ours


def connections_of(transport: QUICTransport) -> list[QUICConnection]:
    """The connections whose tasks have not ended."""
    endpoint = transport._endpoint
    return cast(list[QUICConnection], list(endpoint.connections)) if endpoint is not None else []


def muxed(stream: Any) -> QUICStream:
    """Our stream inside py-libp2p's."""
    assert isinstance(stream.muxed_stream, QUICStream)
    return stream.muxed_stream


def addresses(host: IHost) -> Sequence[str]:
    return [str(address) for address in host.get_addrs()]


def reasons(error: BaseException | None) -> Iterator[BaseException]:
    """An error and everything it was raised from, through py-libp2p's lists of errors too."""
    if error is not None:
        yield error
        if isinstance(error, MultiError):
            for each in error.errors:
                yield from reasons(each)
        yield from reasons(error.__cause__)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group of any class: Python 3.10 has no group of its own."""
    group: Sequence[BaseException] | None = getattr(error, "exceptions", None)
    if group is None:
        yield error
    for each in group or ():
        yield from leaves(each)


async def gone(host: IHost, peer: ID, within: float = PATIENCE) -> None:
    """Wait until the swarm has no connection to that peer."""
    assert await eventually(lambda: not swarm(host).get_connections(peer), within), "still connected"
