"""Several trio runs in one process: in sequence, in several threads, and with failures.

A run that ends with open connections leaves no descriptor, thread or memory, and the peers see the close at
once. These tests start their own runs, so none is async.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from multiaddr import Multiaddr

from libp2p_quic import HandshakeRefusedError, QUICConnection, QUICTransport
from libp2p_quic._engine_errors import ConnectionLostError
from testkit.census import Census, census, left_since
from testkit.engine import Pair, pair
from testkit.near import IP4, near_host, near_transport, new_stream, swarm
from testkit.payload import Drained, echoed, payload, sha256

ECHO = TProtocol("/test/echo")


async def echo(stream: INetStream) -> None:
    data = bytearray()
    while len(data) < 100_000:
        data += await stream.read(65_536)
    await stream.write(bytes(data))
    await stream.close()


async def talk(seed: int) -> Drained:
    """Two hosts in this run, and an echo between them."""
    async with near_host(IP4) as listening, near_host() as dialing:
        listening.set_stream_handler(ECHO, echo)
        dialing.get_peerstore().add_addrs(listening.get_id(), listening.get_addrs(), 60)
        stream = await new_stream(dialing, listening.get_id(), ECHO)
        return await echoed(stream, payload(seed, 100_000))


def expected(seed: int) -> Drained:
    return Drained(100_000, sha256(payload(seed, 100_000)), "StreamEOF")


@pytest.fixture
def before() -> Census:
    """Counted after one run of trio and the engine, with everything that they keep permanently."""
    trio.run(talk, 0)
    return census()


def test_runs_one_after_another_leave_nothing(before: Census) -> None:
    for seed in range(3):
        assert trio.run(talk, seed) == expected(seed)
    assert left_since(before) == {}


def test_runs_in_several_threads_are_independent(before: Census) -> None:
    results: dict[int, Drained] = {}

    def run(seed: int) -> None:
        results[seed] = trio.run(talk, seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {seed: expected(seed) for seed in range(4)}
    assert left_since(before) == {}


def test_one_transport_serves_one_run_after_another() -> None:
    transport = near_transport()

    async def listen_and_dial() -> None:
        accepted: list[QUICConnection] = []

        async def handler(connection: QUICConnection) -> None:
            accepted.append(connection)

        listener = transport.create_listener(handler)
        await listener.listen(Multiaddr(IP4))
        other = near_transport()
        connection = await other.dial(listener.get_addrs()[0])
        assert connection.peer_id == transport._peer_id
        await other.close()

    trio.run(listen_and_dial)
    trio.run(listen_and_dial)


class Stopped(Exception):
    """The program that used the transport failed."""


async def dial_and_return(transport: QUICTransport, address: Multiaddr) -> None:
    connection = await transport.dial(address)
    stream = await connection.open_stream()
    await stream.write(b"unfinished")


async def dial_and_fail(transport: QUICTransport, address: Multiaddr) -> None:
    await dial_and_return(transport, address)
    raise Stopped


async def dial_and_leave_a_reader(transport: QUICTransport, address: Multiaddr) -> None:
    connection = await transport.dial(address)
    stream = await connection.open_stream()
    await stream.write(b"unfinished")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.read)
        nursery.start_soon(connection.accept_stream)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def dial_in_a_system_task(transport: QUICTransport, address: Multiaddr) -> None:
    """Its handshake is in progress when the run ends."""
    trio.lowlevel.spawn_system_task(transport.dial, address)
    await trio.lowlevel.checkpoint()


def test_a_deny_list_that_is_replaced_between_two_runs_holds_in_the_next() -> None:
    transport = near_transport()

    async def ignore(_: object) -> None:
        return

    async def listen_and_meet() -> None:
        listener = transport.create_listener(ignore)
        await listener.listen(Multiaddr(IP4))
        dialer = near_transport()
        try:
            await dialer.dial(listener.get_addrs()[0])
        finally:
            await dialer.close()
            await listener.close()

    trio.run(listen_and_meet)
    transport.deny_addresses(["127.0.0.0/8"])
    with pytest.raises(HandshakeRefusedError):
        trio.run(listen_and_meet)
    transport.deny_addresses([])
    trio.run(listen_and_meet)


@pytest.mark.parametrize("program", [dial_and_return, dial_and_fail, dial_and_leave_a_reader])
def test_run_that_ends_with_a_connection_open_closes_it(
    program: Callable[[QUICTransport, Multiaddr], Awaitable[None]],
) -> None:
    with pair() as outside:
        host, port = outside.listener.local_address
        address = Multiaddr(f"/ip4/{host}/udp/{port}/quic-v1")
        # Once, so that permanent objects exist.
        run_and_receive(outside, dial_and_return, address)
        before = census()
        lost = run_and_receive(outside, program, address)
        # The peer receives a CONNECTION_CLOSE, and does not wait for its idle timeout.
        assert (lost.by, lost.kind) == ("peer", "closed")
        assert left_since(before) == {}


def run_and_receive(
    outside: Pair,
    program: Callable[[QUICTransport, Multiaddr], Awaitable[None]],
    address: Multiaddr,
) -> ConnectionLostError:
    """Run it; returns what the peer outside of the run receives."""
    transport = near_transport()
    try:
        trio.run(program, transport, address)
    except Stopped:
        assert program is dial_and_fail
    accepted = outside.take(outside.listener.accept_nowait, outside.listener.acceptable)
    return outside.take(accepted.closed_nowait, accepted.closed)


def test_run_that_ends_in_the_middle_of_a_dial_leaves_nothing(before: Census) -> None:
    with pair() as outside:
        host, port = outside.listener.local_address
        there = census()
        trio.run(dial_in_a_system_task, near_transport(), Multiaddr(f"/ip4/{host}/udp/{port}/quic-v1"))
        assert left_since(there) == {}
    # It refers to the ready queue.
    del outside
    assert left_since(before) == {}


@pytest.mark.parametrize("error", [Stopped, KeyboardInterrupt])
def test_hosts_whose_run_fails_leave_nothing(before: Census, error: type[BaseException]) -> None:
    async def fail() -> None:
        async with near_host(IP4) as listening, near_host() as dialing:
            dialing.get_peerstore().add_addrs(listening.get_id(), listening.get_addrs(), 60)
            stream = await new_stream(dialing, listening.get_id(), TProtocol("/ipfs/ping/1.0.0"))
            await stream.write(bytes(32))
            assert swarm(listening).connections
            raise error

    def ran_into() -> type[BaseException]:
        with pytest.raises(BaseException) as failed:  # noqa: PT011 - trio wraps it in groups
            trio.run(fail)
        found = failed.value
        # A group; by its attribute, since Python 3.10 has no such class.
        while hasattr(found, "exceptions"):
            (found,) = found.exceptions
        return type(found)

    # In a function of its own: the traceback refers to hosts, transports and their ready queue.
    assert ran_into() is error
    assert left_since(before) == {}
