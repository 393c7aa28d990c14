"""Connections that fail to be established, are lost, and are established again.

Dials that leave nothing; peers that restart on either side; listeners that come back. Real
hosts, in separate processes where one of them is killed.
"""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICTransport
from testkit.census import eventually
from testkit.far import far_host
from testkit.linked import listening
from testkit.names import free_port
from testkit.near import (
    IP4,
    addresses,
    answers,
    connection,
    connections_of,
    gone,
    inbound,
    near_host,
    near_transport,
    new_stream,
    swarm,
    transport_of,
)
from testkit.payload import Drained, echoed, echoed_back, payload, sha256

ECHO = TProtocol("/test/echo")
PARK = "/test/park"
# Neither the idle timeout nor a keep-alive would detect the loss in time.
PATIENT: dict[str, Any] = {"idle_timeout": 60, "keep_alive_interval": 50}
SEED = bytes(range(32))

# Dials that fail


@pytest.fixture
async def silent() -> AsyncIterator[trio.socket.SocketType]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        await mute.bind(("127.0.0.1", 0))
        yield mute


async def falls_silent(sock: trio.socket.SocketType, within: float = 20) -> bool:
    """Whether no datagram arrives for 1.5 s: longer than the first retransmission timeout of a dial."""
    is_silent = False
    with trio.move_on_after(within):
        while not is_silent:
            with trio.move_on_after(1.5) as pause:
                await sock.recv(2048)
            is_silent = pause.cancelled_caught
    return is_silent


def quic_at(sock: trio.socket.SocketType) -> Multiaddr:
    return Multiaddr(f"/ip4/127.0.0.1/udp/{sock.getsockname()[1]}/quic-v1")


@pytest.mark.slow
async def test_dial_that_lost_to_another_transport_leaves_nothing(silent: trio.socket.SocketType) -> None:
    """Happy eyeballs: QUIC is dialed first and gets no answer, TCP connects, QUIC is canceled.

    Both hosts have processes of their own, since py-libp2p's TCP leaves sockets unclosed.
    """
    both = (IP4, "/ip4/127.0.0.1/tcp/0")
    one = {"max_connections_per_peer": 1}
    async with (
        far_host(*both, transport="installed") as listening,
        far_host(*both, transport="installed", config=one) as dialing,
    ):
        (tcp,) = (each for each in listening.addresses if "/tcp/" in each)
        quic = f"{quic_at(silent)}/p2p/{listening.peer}"
        before = await dialing.do("census")
        await dialing.do("connect", address=quic, others=[tcp.split("/p2p/")[0]])
        assert await dialing.do("ping", peer=listening.peer, count=1) == 1
        assert await silent.recv(2048)
        assert await falls_silent(silent)
        after = await dialing.do("census")
        assert len(after["threads"]) == len(before["threads"])
        # The TCP connection; a dial of ours leaves by the listening socket.
        assert len(after["descriptors"]) <= len(before["descriptors"]) + 1


@pytest.mark.slow
async def test_dial_that_took_too_long_leaves_nothing(silent: trio.socket.SocketType) -> None:
    async with near_host() as host:
        peer = ID.from_pubkey(create_new_key_pair().public_key)
        with trio.move_on_after(0.3) as scope:
            await host.connect(PeerInfo(peer, [quic_at(silent)]))
        assert scope.cancelled_caught
        assert not connections_of(transport_of(host))
        assert not swarm(host).connections
        assert await falls_silent(silent)


async def test_dial_canceled_at_any_moment_leaves_no_connection_on_either_side() -> None:
    async with far_host() as far, near_host() as host:
        for passes in range(40):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_after, scope, passes)
                    await transport_of(host).dial(far.info.addrs[0])
            for connection in connections_of(transport_of(host)):
                await connection.close()
        assert await eventually(lambda: not connections_of(transport_of(host)))
        with trio.fail_after(20):
            while await far.do("connections"):
                await trio.lowlevel.checkpoint()


async def cancel_after(scope: trio.CancelScope, passes: int) -> None:
    for _ in range(passes):
        await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_peer_that_restarts_on_its_port_is_a_lost_connection_at_once() -> None:
    """It has the same identity, so it can send a stateless reset: RFC 9000 section 10.3."""
    address = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"
    async with near_host(config=PATIENT) as near:
        async with far_host(address, seed=SEED, config=PATIENT) as far:
            await near.connect(far.info)
            stream = await new_stream(near, far.peer_id, PARK)
            await stream.write(b"before the restart")
            await far.do("arrived")
            await far.kill()
        async with far_host(address, seed=SEED, config=PATIENT) as far:
            first = connection(near, far.peer_id)
            began = trio.current_time()
            await stream.write(b"after the restart")
            with pytest.raises((StreamReset, StreamEOF)) as lost:
                await stream.read(1)
            assert isinstance(lost.value, StreamReset)
            # Long before the idle timeout, which is a minute.
            assert trio.current_time() - began < 30
            assert await eventually(lambda: not swarm(near).get_connections(far.peer_id))
            await near.connect(far.info)
            assert connection(near, far.peer_id) is not first
            assert await PingService(near).ping(far.peer_id, 1)


async def test_a_dialer_that_restarts_is_accepted_again() -> None:
    """It has the same identity and does not close its former connection."""
    async with near_host(IP4) as near:
        for _ in range(3):
            async with far_host(seed=SEED) as far:
                await far.do("connect", address=addresses(near)[0])
                assert await far.do("ping", peer=str(near.get_id()), count=1) == 1
                await far.leave()
            await gone(near, far.peer_id)


async def test_a_killed_dialer_can_connect_again_after_its_restart() -> None:
    """The lost connection still exists when the same peer dials again."""
    async with near_host(IP4, config=PATIENT) as near:
        async with far_host(seed=SEED, config=PATIENT) as far:
            await far.do("connect", address=addresses(near)[0])
            await inbound(near, far.peer_id)
            await far.kill()
        async with far_host(seed=SEED, config=PATIENT) as far:
            await far.do("connect", address=addresses(near)[0])
            assert await far.do("ping", peer=str(near.get_id()), count=1) == 1


async def test_a_new_stream_reconnects_by_itself() -> None:
    """The host knows the address, so it needs no new `connect` after the peer's restart."""
    data = payload(8, 100_000)
    address = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"
    async with near_host() as near:
        async with far_host(address, seed=SEED) as far:
            await near.connect(far.info)
            await far.leave()
        await gone(near, far.peer_id)
        async with far_host(address, seed=SEED) as far:
            stream = await new_stream(near, far.peer_id, ECHO)
            assert await echoed(stream, data) == Drained(len(data), sha256(data), "StreamEOF")


async def test_a_reader_that_sees_the_loss_reconnects_at_once() -> None:
    """Also while another stream, which the peer finished, is still unread."""
    parked: list[NetStream] = []

    async def park(stream: INetStream) -> None:
        assert isinstance(stream, NetStream)
        parked.append(stream)
        await stream.write(b"all of it")
        if len(parked) == 1:
            await stream.close_write()
        await trio.sleep_forever()

    async with near_host(IP4) as other, near_host() as host:
        other.set_stream_handler(TProtocol(PARK), park)
        peer, info = other.get_id(), PeerInfo(other.get_id(), list(other.get_addrs()))
        await host.connect(info)
        lost = connection(host, peer)
        finished, *cut = [await new_stream(host, peer, PARK) for _ in range(10)]
        for each in cut:
            assert await each.read(100) == b"all of it"
        reconnected: list[QUICConnection] = []

        async def reader(stream: NetStream) -> None:
            with pytest.raises(StreamReset):
                await stream.read(100)
            assert not any(each.muxed_conn is lost for each in swarm(host).get_connections(peer))
            await host.connect(info)
            reconnected.append(connection(host, peer))

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for each in cut:
                    nursery.start_soon(reader, each)
                await trio.testing.wait_all_tasks_blocked()
                ended = await inbound(other, host.get_id())
                ended._endpoint.close_connection(ended._engine)
            assert await finished.read(100) == b"all of it"
        assert len(reconnected) == len(cut)
        assert lost not in reconnected


async def test_a_connection_that_is_closed_here_can_be_established_again() -> None:
    async with far_host() as far, near_host() as near:
        seen = set()
        for _ in range(5):
            await near.connect(far.info)
            seen.add(connection(near, far.peer_id))
            assert await PingService(near).ping(far.peer_id, 1)
            await near.disconnect(far.peer_id)
            await gone(near, far.peer_id)
        assert len(seen) == 5


async def test_losing_one_peer_leaves_the_others() -> None:
    async with far_host() as lost, far_host() as kept, near_host() as near:
        for far in (lost, kept):
            await near.connect(far.info)
        stream = await new_stream(near, kept.peer_id, ECHO)
        before, after = payload(9, 100_000), payload(10, 100_000)
        assert await echoed_back(stream, before) == sha256(before)
        await lost.kill()
        assert await echoed(stream, after) == Drained(len(after), sha256(after), "StreamEOF")
        assert len(swarm(near).get_connections(kept.peer_id)) == 1


async def ignore(accepted: QUICConnection) -> None:
    """A handler that does nothing."""


async def test_a_port_can_be_listened_on_again_at_once() -> None:
    transport = near_transport()
    address = Multiaddr(f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1")
    for _ in range(5):
        listener = transport.create_listener(ignore)
        await listener.listen(address)
        assert await answers(address, transport._peer_id)
        await listener.close()
    await transport.close()


async def test_a_transport_keeps_no_listener_that_is_closed_or_failed_to_listen() -> None:
    """A host that alternates between listening and not would keep each listener."""
    transport = near_transport()
    last: list[weakref.ref[QUICListener]] = []
    for canceled in (True, False):
        listener = transport.create_listener(ignore)
        with trio.CancelScope() as scope:
            if canceled:
                scope.cancel()
            await listener.listen(Multiaddr(IP4))
        assert listener.is_listening() is not canceled
        last.append(weakref.ref(listener))
        if not canceled:
            # Only the transport refers to it, and it listens.
            (address,) = listener.get_addrs()
            del listener
            gc.collect()
            assert await answers(address, transport._peer_id)
            (listener,) = transport._listeners
            await listener.close()
        del listener

    def is_forgotten() -> bool:
        gc.collect()
        return [each() for each in last] == [None, None]

    assert await eventually(is_forgotten, 10)
    await transport.close()


async def test_a_hundred_peers_that_come_and_go_at_once_leave_nothing() -> None:
    """Some close while the swarm still adds them."""
    async with near_host(IP4) as near:
        (address,) = near.get_addrs()
        dialers = [near_transport() for _ in range(100)]
        met: list[ID] = []

        async def dial(dialer: QUICTransport) -> None:
            met.append((await dialer.dial(address)).peer_id)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for dialer in dialers:
                    nursery.start_soon(dial, dialer)
        assert met == [near.get_id()] * 100
        async with trio.open_nursery() as nursery:
            for dialer in dialers:
                nursery.start_soon(dialer.close)
        assert await eventually(lambda: not swarm(near).connections)


async def test_a_waiting_listener_keeps_no_reference_to_the_last_connection() -> None:
    """Neither to its object nor to its unread bytes."""
    async with listening() as (listener, connections):
        dialer = near_transport()
        dialed = await dialer.dial(listener.get_addrs()[0])
        accepted = await connections.receive()
        engine = accepted._endpoint.engine
        stream = await dialed.open_stream()
        await stream.write(bytes(200_000))
        # The window has grown for them, beyond the initial one.
        assert await eventually(lambda: engine.census()["promised"] >= 200_000)
        await dialed.close()
        await dialer.close()
        last = weakref.ref(accepted)
        del accepted, stream, dialed

        def is_forgotten() -> bool:
            gc.collect()
            return last() is None and set(engine.census().values()) == {0}

        assert await eventually(is_forgotten), engine.census()
        assert listener.is_listening()


async def test_memory_is_kept_during_transfers_and_released_when_idle() -> None:
    async with listening() as (listener, connections):
        dialer = near_transport()
        dialed = await dialer.dial(listener.get_addrs()[0])
        accepted = await connections.receive()
        census = accepted._endpoint.engine.census
        stream = await dialed.open_stream()
        await stream.write(b"?")
        theirs = await accepted.accept_stream()
        assert await theirs.read(1) == b"?"
        most = 0
        for _ in range(30):
            await stream.write(bytes(100_000))
            left = 100_000
            while left:
                left -= len(await theirs.read(left))
            most = max(most, census()["kept"])
        assert most > 0
        assert await eventually(lambda: census()["kept"] == 0)
        await dialed.close()
        await dialer.close()
