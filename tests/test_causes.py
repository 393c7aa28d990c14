"""Users catch errors by class: ours are found among the causes of py-libp2p's.

Real hosts; each failure is one that `docs/errors.md` lists.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import MultiError
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.exceptions import StreamReset as NetStreamReset
from libp2p.network.stream.net_stream import NetStream, StreamState
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import (
    ConnectionClosed,
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
from testkit.census import eventually
from testkit.far import far_host
from testkit.near import IP4, connection, near_host, new_stream, swarm

NOBODY = ID.from_pubkey(create_new_key_pair().public_key)


async def failure_of(host: IHost, peer: ID, *addresses: str) -> SwarmException:
    with pytest.raises(SwarmException) as caught:
        await host.connect(PeerInfo(peer, [Multiaddr(each) for each in addresses]))
    return caught.value


@asynccontextmanager
async def listener(**config: object) -> AsyncIterator[IHost]:
    async with near_host(IP4, config=config) as host:
        yield host


def has_no_repetition(text: str) -> None:
    """No phrase is repeated, and no errno is shown."""
    assert not re.search(r"\b(\w[\w ]*): \1\b", text), text
    assert "os error" not in text


async def test_another_peer_answers() -> None:
    async with listener() as other, near_host() as host:
        error = await failure_of(host, NOBODY, str(other.get_addrs()[0]).split("/p2p/")[0])
        (cause,) = causes(error)
        assert isinstance(cause, PeerIdMismatchError)
        assert str(NOBODY) in explain(error)
        assert str(other.get_id()) in explain(error)
        has_no_repetition(explain(error))


async def test_nobody_answers() -> None:
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/udp/{silent.getsockname()[1]}/quic-v1"
        async with near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 0.3}) as host:
            error = await failure_of(host, NOBODY, address)
    assert {type(each) for each in causes(error)} == {HandshakeTimeoutError}
    assert address in explain(error)
    has_no_repetition(explain(error))


async def test_the_listener_refuses() -> None:
    async with listener() as other, near_host() as host:
        (transport,) = other.get_network().transport_manager.get_transports()  # type: ignore[attr-defined]
        transport.deny_addresses(["127.0.0.1"])
        error = await failure_of(host, other.get_id(), str(other.get_addrs()[0]))
        assert {type(each) for each in causes(error)} == {HandshakeRefusedError}
        has_no_repetition(explain(error))


async def test_our_own_gate_denies() -> None:
    async with listener() as other, near_host(config={"gate_peer": lambda _peer, _maddr: False}) as host:
        error = await failure_of(host, other.get_id(), str(other.get_addrs()[0]))
        assert {type(each) for each in causes(error)} == {DialError}
        assert "gate_peer" in explain(error)
        has_no_repetition(explain(error))


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
    has_no_repetition(explain(error))


@asynccontextmanager
async def ended(by: str) -> AsyncIterator[NetStream]:
    """A host's stream that py-libp2p has reset, as the peer or this program closed the connection."""
    async with far_host() as far, near_host() as host:
        await host.connect(far.info)
        stream = await new_stream(host, far.peer_id, "/test/park")
        if by == "peer":
            await far.do("arrived")
            await far.do("disconnect", peer=str(host.get_id()))
        else:
            await connection(host, far.peer_id).close()
        assert await eventually(lambda: stream._state is StreamState.RESET)
        yield stream


@pytest.mark.parametrize("by", ["peer", "local"])
async def test_a_stream_that_py_libp2p_reset_with_its_connection(by: str) -> None:
    async with ended(by) as stream:
        with pytest.raises(NetStreamReset, match="is reset") as written:
            await stream.write(b"more")
        with pytest.raises(NetStreamReset, match="is reset") as read:
            await stream.read(1)
    # The host has ended by now.
    for error in (written.value, read.value):
        (cause,) = causes(error)
        assert isinstance(cause, ConnectionClosed)
        assert (cause.by, cause.kind, cause.error_code) == (by, "closed", 0)
        assert explain(error) == str(cause)
        assert f"closed by {'the peer' if by == 'peer' else 'us'}" in explain(error)


async def test_the_end_that_a_wrapped_error_began_with() -> None:
    async with ended("peer") as stream:
        with pytest.raises(ValueError, match="no answer") as caught:
            try:
                await stream.write(b"more")
            except NetStreamReset as error:
                raise ValueError("no answer") from error
    assert "closed by the peer" in explain(caught.value)


async def test_a_stream_that_this_program_reset_on_an_open_connection() -> None:
    async with far_host() as far, near_host() as host:
        await host.connect(far.info)
        stream = await new_stream(host, far.peer_id, "/test/park")
        await stream.reset()
        with pytest.raises(NetStreamReset) as caught:
            await stream.write(b"more")
        assert causes(caught.value) == []
        assert explain(caught.value) == "Cannot write to stream; stream is reset"


def test_an_error_of_another_library_is_explained_unchanged() -> None:
    assert causes(ValueError("no")) == []
    assert explain(ValueError("no")) == "no"
    assert explain(KeyboardInterrupt()) == "KeyboardInterrupt"


async def test_a_protocol_that_the_peer_does_not_serve_is_named() -> None:
    async with listener() as other, near_host() as host:
        await host.connect(PeerInfo(other.get_id(), other.get_addrs()))
        with pytest.raises(StreamFailure) as caught:
            await host.new_stream(other.get_id(), [TProtocol("/nope/1")])
    assert "protocols not supported: tried ['/nope/1']" in explain(caught.value)
    assert "failed to open a stream" not in explain(caught.value)


async def test_a_peer_without_an_address_of_quic() -> None:
    async with near_host() as host:
        error = await failure_of(host, NOBODY, "/ip4/127.0.0.1/tcp/9")
    assert explain(error).startswith("No supported transport found for peer")
    assert "no address has /quic-v1" in explain(error)


async def test_a_stream_to_a_peer_without_an_address() -> None:
    async with near_host() as host:
        with pytest.raises(SwarmException) as caught:
            await host.new_stream(NOBODY, [TProtocol("/nope/1")])
    assert "peer ID not found" in explain(caught.value)
    assert "this host knows no address of the peer" in explain(caught.value)


async def test_a_peer_whose_addresses_have_expired() -> None:
    async with near_host() as host:
        store: Any = host.get_peerstore()
        store.add_addrs(NOBODY, [Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1")], 1)
        store.peer_data_map[NOBODY].last_identified = 0
        with pytest.raises(SwarmException) as caught:
            await host.new_stream(NOBODY, [TProtocol("/nope/1")])
    assert "peer ID is expired" in explain(caught.value)
    assert "this host knows no address of the peer" in explain(caught.value)


@pytest.mark.parametrize(
    "text",
    ["Maximum connections limit reached", "Connection denied by resource manager", "Stream limit exceeded"],
)
def test_a_limit_of_this_host_is_told_from_one_of_the_peer(text: str) -> None:
    assert f'SwarmException("{text}")' in Path(inspect.getfile(Swarm)).read_text()
    assert "this host, not" in explain(SwarmException(text))


async def test_a_second_dial_that_the_swarm_refuses() -> None:
    async with near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 0.2}) as host:
        first = await failure_of(host, NOBODY, "/ip4/127.0.0.1/udp/9/quic-v1")
        second = await failure_of(host, NOBODY, "/ip4/127.0.0.1/udp/9/quic-v1")
    assert "no handshake in time" in explain(first)
    assert "unblock_peer(peer_id)" in explain(second)


async def test_a_host_that_was_never_run() -> None:
    keys = create_new_key_pair()
    host = new_host(key_pair=keys, transports=[QUICTransport(keys.private_key)])
    async with listener() as other:
        error = await failure_of(host, other.get_id(), str(other.get_addrs()[0]))
    assert explain(error).endswith(": is host.run() active?")


async def failed_together(*others: Exception) -> BaseException:
    """The group of a nursery in which a dial failed, and whose other tasks raised when it canceled them."""

    async def fail(error: Exception) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    async def fail_in_a_nursery(errors: Sequence[Exception]) -> None:
        async with trio.open_nursery() as nursery:
            for each in errors:
                nursery.start_soon(fail, each)

    async with near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 0.2}) as host:
        swarm(host).retry_config.max_retries = 0
        with pytest.raises(BaseException) as caught:  # noqa: PT011 - trio wraps it in groups
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_in_a_nursery, others)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(
                    host.connect, PeerInfo(NOBODY, [Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1")])
                )
    assert {type(each) for each in causes(caught.value)} == {HandshakeTimeoutError}
    return caught.value


async def test_errors_of_the_program_beside_a_dial_are_told() -> None:
    error = await failed_together(ValueError("no\nnumber"), AssertionError(), ValueError("no\nnumber"))
    dial, *others = explain(error).rsplit("; ", 2)
    assert dial == str(causes(error)[0])
    assert sorted(others) == ["AssertionError", "ValueError: no number"]
    later = RuntimeError("the program failed")
    later.__cause__ = error
    assert explain(later) == explain(error)


async def test_errors_of_the_program_beside_a_dial_are_bounded() -> None:
    text = explain(await failed_together(*(KeyError(f"{each}" * 900) for each in range(9))))
    assert text.startswith("failed to dial ")
    assert text.count("KeyError: ") == 5
    assert text.endswith("…; and 4 more")
    assert len(text) < 1600


def test_the_deepest_cause_of_another_library_is_told() -> None:
    first, second = SwarmException("one"), SwarmException("Connection closed while starting")
    first.__cause__ = OSError("no route")
    # An error without a text tells nothing.
    second.__cause__ = trio.ClosedResourceError()
    error = SwarmException("unable to connect")
    error.__cause__ = MultiError([first, second, first])
    assert explain(error) == "no route; Connection closed while starting: is host.run() active?"
    first.__cause__.__cause__ = error
    assert "no route" in explain(error)


def test_an_error_of_ours_explains_itself() -> None:
    error = DialError("failed to dial nowhere")
    assert causes(error) == [error]
    assert explain(error) == "failed to dial nowhere"


def test_a_cycle_of_causes_ends() -> None:
    one, two = DialError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert causes(two) == [one]


def test_every_public_name_is_there() -> None:
    assert all(hasattr(libp2p_quic, name) for name in libp2p_quic.__all__)
