"""What a user catches: our errors are found under those that py-libp2p makes of them.

Real hosts; each failure is one that `docs/errors.md` lists.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import (
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    HostKeyError,
    PeerIdMismatchError,
    QUICTransport,
    StreamLost,
    StreamReset,
    causes,
    explain,
)
from peers.far import far_host
from peers.near import IP4, connection, near_host, new_stream

NOBODY = ID.from_pubkey(create_new_key_pair().public_key)


async def failure_of(host: IHost, peer: ID, *addresses: str) -> SwarmException:
    with pytest.raises(SwarmException) as caught:
        await host.connect(PeerInfo(peer, [Multiaddr(each) for each in addresses]))
    return caught.value


@asynccontextmanager
async def listener(**config: object) -> AsyncIterator[IHost]:
    async with near_host(IP4, config=config) as host:
        yield host


def no_stutter(text: str) -> None:
    """No words that come twice in a row, and no number of the system."""
    assert not re.search(r"\b(\w[\w ]*): \1\b", text), text
    assert "os error" not in text


async def test_another_peer_answers() -> None:
    async with listener() as other, near_host() as host:
        error = await failure_of(host, NOBODY, str(other.get_addrs()[0]).split("/p2p/")[0])
        (cause,) = causes(error)
        assert isinstance(cause, PeerIdMismatchError)
        assert str(NOBODY) in explain(error)
        assert str(other.get_id()) in explain(error)
        no_stutter(explain(error))


async def test_nobody_answers() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/udp/{silent.getsockname()[1]}/quic-v1"
        async with near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 0.3}) as host:
            error = await failure_of(host, NOBODY, address)
    assert {type(each) for each in causes(error)} == {HandshakeTimeoutError}
    assert address in explain(error)
    no_stutter(explain(error))


async def test_the_listener_refuses() -> None:
    async with listener() as other, near_host() as host:
        (transport,) = other.get_network().transport_manager.get_transports()  # type: ignore[attr-defined]
        transport.deny_addresses(["127.0.0.1"])
        error = await failure_of(host, other.get_id(), str(other.get_addrs()[0]))
        assert {type(each) for each in causes(error)} == {HandshakeRefusedError}
        no_stutter(explain(error))


async def test_our_own_gate_denies() -> None:
    async with listener() as other, near_host(config={"gate_peer": lambda _peer, _maddr: False}) as host:
        error = await failure_of(host, other.get_id(), str(other.get_addrs()[0]))
        assert {type(each) for each in causes(error)} == {DialError}
        assert "gate_peer" in explain(error)
        no_stutter(explain(error))


async def test_a_host_with_another_key() -> None:
    keys, others = create_new_key_pair(), create_new_key_pair()
    host = new_host(key_pair=keys, transports=[QUICTransport(others.private_key)])
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - trio wraps it in groups
        async with host.run(listen_addrs=[Multiaddr(IP4)]):
            pytest.fail("it runs")
    (cause,) = causes(caught.value)
    assert isinstance(cause, HostKeyError)
    assert explain(caught.value) == str(cause)


async def test_a_stream_whose_peer_is_gone() -> None:
    caught: list[StreamError] = []

    async def read(stream: NetStream) -> None:
        try:
            await stream.read(1)
        except StreamError as error:
            caught.append(error)

    async with far_host() as far, near_host() as host:
        await host.connect(far.info)
        stream = await new_stream(host, far.peer_id, "/test/park")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, stream)
            await trio.testing.wait_all_tasks_blocked()
            await connection(host, far.peer_id).close()
    (error,) = caught
    assert {type(each) for each in causes(error)} <= {StreamLost, StreamReset}
    assert causes(error)
    no_stutter(explain(error))


def test_what_is_not_ours_is_told_as_it_is() -> None:
    assert causes(ValueError("no")) == []
    assert explain(ValueError("no")) == "no"
    assert explain(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_an_error_of_ours_explains_itself() -> None:
    error = DialError("failed to dial nowhere")
    assert causes(error) == [error]
    assert explain(error) == "failed to dial nowhere"


def test_circles_of_causes_end() -> None:
    one, two = DialError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert causes(two) == [one]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(libp2p_quic, name) for name in libp2p_quic.__all__)
