"""Peers that dial, write and close their connection before this host's swarm has added it.

The host is a real one with this transport, and the peers are programs on asyncio, whose first flight has
the proposal, the bytes and the end of a stream.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetConn, INetStream, INetwork
from libp2p.custom_types import TProtocol
from libp2p.network.stream import exceptions as net

from libp2p_quic import QUICConnection, QUICListener, StreamEOF, StreamLost
from libp2p_quic._host_events import Notifee
from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Identity
from testkit.census import PATIENCE, eventually
from testkit.linked import listening
from testkit.near import IP4, addresses, connections_of, muxed, near_host, swarm, transport_of

NOTE = "/test/note"
SIZE = 65_536
# Longer than a test waits for anything.
NEVER = 60.0


@dataclass
class Notes(Notifee):
    """What a host's handler of NOTE read, and what the swarm said about peers."""

    host: IHost
    whole: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    async def take(self, stream: INetStream) -> None:
        size = 0
        try:
            while True:
                size += len(await stream.read(10_000))
        except net.StreamEOF:
            self.whole.append(size)
        except net.StreamError:
            self.broken.append(size)
        await stream.close()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        self.events.append("connected")

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        self.events.append("disconnected")

    async def arrived(self, count: int) -> bool:
        return await eventually(lambda: len(self.whole) == count)

    async def leave_nothing(self) -> None:
        """Wait until the host holds nothing of its peers."""
        assert await eventually(lambda: not connections_of(transport_of(self.host)))
        assert swarm(self.host).get_total_connections() == 0
        assert swarm(self.host)._inbound_limiter.borrowed_tokens == 0


@asynccontextmanager
async def noting(**config: Any) -> AsyncIterator[Notes]:
    async with near_host(IP4, config=config) as host:
        notes = Notes(host)
        host.set_stream_handler(TProtocol(NOTE), notes.take)
        swarm(host).register_notifee(notes)
        yield notes


async def visit(address: str, use: Callable[[Connection], Awaitable[None]]) -> None:
    async with Endpoint(Identity.generate(), EndpointConfig(linger=PATIENCE)) as endpoint:
        connection = await endpoint.connect(address)
        await use(connection)
        connection.close()


async def leave_note(connection: Connection, count: int = 1) -> None:
    for _ in range(count):
        stream = await connection.open_stream(NOTE)
        await stream.write(bytes(SIZE))
        stream.finish()


def unseen(notes: Notes, use: Callable[[Connection], Awaitable[None]] = leave_note) -> None:
    """A whole visit, during which no task of the host runs: this blocks trio's thread."""
    peer = threading.Thread(target=lambda: asyncio.run(visit(addresses(notes.host)[0], use)))
    peer.start()
    peer.join()


class Gate:
    """A `gate_peer` that answers when it is told to."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.is_asked = trio.Event()
        self.may_answer = trio.Event()

    async def __call__(self, peer_id: object, maddr: object) -> bool:
        self.is_asked.set()
        await self.may_answer.wait()
        return self.answer


async def lost(notes: Notes) -> QUICConnection:
    """The host's connection, whose peer has gone, and whose keeper knows it."""
    (connection,) = connections_of(transport_of(notes.host))
    assert await eventually(lambda: connection._engine.closed_nowait() is not None)
    assert await eventually(lambda: len(connection._early) > 0)
    return connection


def statistics(notes: Notes) -> dict[str, int | bool]:
    (listener,) = swarm(notes.host).listeners.values()
    assert isinstance(listener, QUICListener)
    return listener.get_stats()


async def test_the_host_gets_all_that_the_peer_finished() -> None:
    async with noting() as notes:
        for round_ in range(1, 4):
            unseen(notes)
            assert await notes.arrived(round_)
            await notes.leave_nothing()
    assert notes.whole == 3 * [SIZE]
    assert notes.events == 3 * ["connected", "disconnected"]


async def test_every_finished_stream_arrives_and_no_other_is_taken_for_whole() -> None:
    async def use(connection: Connection) -> None:
        await leave_note(connection, 20)
        half = await connection.open_stream(NOTE)
        await half.write(bytes(SIZE))
        reset = await connection.open_stream(NOTE)
        await reset.write(bytes(SIZE))
        reset.reset()
        await leave_note(connection, 20)

    async with noting() as notes:
        unseen(notes, use)
        assert await notes.arrived(40)
        await notes.leave_nothing()
    assert notes.whole == 40 * [SIZE]


@pytest.mark.slow
async def test_the_bytes_arrive_at_whatever_step_the_peer_closes() -> None:
    """The peer runs beside the host, so its end meets each step of the swarm."""
    async with noting() as notes:
        for round_ in range(1, 31):
            dial = partial(visit, addresses(notes.host)[0], partial(leave_note, count=round_ % 4 + 1))
            await trio.to_thread.run_sync(lambda dial=dial: asyncio.run(dial()))
            assert await notes.arrived(sum(each % 4 + 1 for each in range(1, round_ + 1)))
        await notes.leave_nothing()
    assert set(notes.whole) == {SIZE}
    assert not notes.broken


async def test_a_stream_that_arrives_with_the_end_of_a_known_connection_is_accepted() -> None:
    """The accepting task and the keeper wake in one pass, in any order."""
    is_listed, is_over = threading.Event(), threading.Event()

    async def use(connection: Connection) -> None:
        await asyncio.to_thread(is_listed.wait, PATIENCE)
        await leave_note(connection)

    async with noting() as notes:
        for round_ in range(1, 21):
            is_listed.clear()
            is_over.clear()

            def dial() -> None:
                asyncio.run(visit(addresses(notes.host)[0], use))
                is_over.set()

            peer = threading.Thread(target=dial)
            peer.start()
            assert await eventually(lambda: swarm(notes.host).get_total_connections() == 1)
            is_listed.set()
            # Blocks trio's thread: the host sees the stream and the end together.
            assert is_over.wait(PATIENCE)
            peer.join()
            assert await notes.arrived(round_)
            await notes.leave_nothing()
    assert not notes.broken


async def test_a_peer_that_finished_nothing_is_not_added() -> None:
    async def use(connection: Connection) -> None:
        stream = await connection.open_stream(NOTE)
        await stream.write(bytes(SIZE))

    async with noting(CONNECTION_CLOSE_TIMEOUT=NEVER) as notes:
        unseen(notes, use)
        assert await eventually(lambda: len(connections_of(transport_of(notes.host))) == 1)
        await notes.leave_nothing()
    # py-libp2p 0.8.1 announces the end of a connection that it has not announced.
    assert "connected" not in notes.events
    assert (notes.whole, notes.broken) == ([], [])


async def test_a_handler_cannot_answer_a_peer_that_has_gone() -> None:
    """Only the negotiation's answers are dropped: a write of the protocol itself fails."""
    async with noting() as notes:
        failures: list[Exception] = []

        async def answer(stream: INetStream) -> None:
            with pytest.raises(StreamLost) as caught:
                await muxed(stream).write(b"thanks")
            failures.append(caught.value)
            await notes.take(stream)

        notes.host.set_stream_handler(TProtocol(NOTE), answer)
        unseen(notes)
        assert await notes.arrived(1)
        await notes.leave_nothing()
    assert len(failures) == 1


# What happens to the connection meanwhile


@pytest.mark.parametrize("admits", [True, False])
async def test_a_gate_decides_after_the_peer_has_gone(admits: bool) -> None:
    gate = Gate(admits)
    async with noting(gate_peer=gate, gate_timeout=NEVER, CONNECTION_CLOSE_TIMEOUT=NEVER) as notes:
        unseen(notes)
        await gate.is_asked.wait()
        connection = await lost(notes)
        assert not connection.is_closed
        gate.may_answer.set()
        if admits:
            assert await notes.arrived(1)
        await notes.leave_nothing()
        assert statistics(notes)["connections_gated"] == (not admits)
    assert notes.whole == ([SIZE] if admits else [])


async def test_a_connection_counts_as_open_for_a_bounded_time() -> None:
    gate = Gate(True)
    async with noting(gate_peer=gate, gate_timeout=NEVER, CONNECTION_CLOSE_TIMEOUT=0.2) as notes:
        unseen(notes)
        await gate.is_asked.wait()
        connection = await lost(notes)
        assert await eventually(lambda: connection.is_closed)
        gate.may_answer.set()
        await notes.leave_nothing()
    assert notes.whole == []


async def test_this_program_closes_the_connection_meanwhile() -> None:
    gate = Gate(True)
    async with noting(gate_peer=gate, gate_timeout=NEVER, CONNECTION_CLOSE_TIMEOUT=NEVER) as notes:
        unseen(notes)
        await gate.is_asked.wait()
        connection = await lost(notes)
        with trio.fail_after(PATIENCE):
            await connection.close()
        assert connection.is_closed
        gate.may_answer.set()
        await notes.leave_nothing()
    assert "connected" not in notes.events
    assert notes.whole == []


async def test_the_listener_is_closed_meanwhile() -> None:
    gate = Gate(True)
    async with noting(gate_peer=gate, gate_timeout=NEVER) as notes:
        unseen(notes)
        await gate.is_asked.wait()
        await lost(notes)
        (listener,) = swarm(notes.host).listeners.values()
        await listener.close()
        gate.may_answer.set()
        # Accepted connections outlive their listener.
        assert await notes.arrived(1)
        await notes.leave_nothing()


async def test_the_host_is_closed_meanwhile() -> None:
    gate = Gate(True)
    with trio.fail_after(PATIENCE):
        async with noting(gate_peer=gate, gate_timeout=NEVER, CONNECTION_CLOSE_TIMEOUT=NEVER) as notes:
            unseen(notes)
            await gate.is_asked.wait()
            await lost(notes)
    assert (notes.events, notes.whole) == ([], [])


async def test_a_swarm_that_refuses_the_peer_drops_what_it_finished() -> None:
    async with noting(CONNECTION_CLOSE_TIMEOUT=NEVER) as notes:
        limiter = swarm(notes.host)._inbound_limiter
        taken = [object() for _ in range(int(limiter.available_tokens))]
        for each in taken:
            limiter.acquire_on_behalf_of_nowait(each)
        unseen(notes)
        assert await eventually(lambda: statistics(notes)["connections_refused_by_swarm"] == 1)
        assert await eventually(lambda: not connections_of(transport_of(notes.host)))
        for each in taken:
            limiter.release_on_behalf_of(each)
        await notes.leave_nothing()
    assert (notes.events, notes.whole) == ([], [])


DYING = """
import asyncio, sys
from libp2p_quic.asyncio import Endpoint, Identity

async def main():
    async with Endpoint(Identity.generate()) as endpoint:
        connection = await endpoint.connect(sys.argv[1])
        stream = await connection.open_stream(sys.argv[2])
        await stream.write(bytes(int(sys.argv[3])))
        stream.finish()
        await stream.finished()
        print("delivered", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_peer_that_falls_silent_loses_nothing_that_it_finished() -> None:
    gate = Gate(True)
    async with noting(gate_peer=gate, gate_timeout=NEVER, idle_timeout=1.0) as notes:
        arguments = [sys.executable, "-c", DYING, addresses(notes.host)[0], NOTE, str(SIZE)]
        peer = await trio.lowlevel.open_process(arguments, stdout=subprocess.PIPE)
        try:
            assert peer.stdout is not None
            assert (await peer.stdout.receive_some()).startswith(b"delivered")
        finally:
            peer.kill()
            await peer.wait()
        await gate.is_asked.wait()
        connection = await lost(notes)
        ended = connection._engine.closed_nowait()
        assert ended is not None
        assert ended.kind == "idle_timeout"
        gate.may_answer.set()
        assert await notes.arrived(1)
        await notes.leave_nothing()


async def test_a_connection_without_a_swarm_is_closed_at_once() -> None:
    """A program that accepts streams itself gets them after the end too, and nothing waits for it."""
    async with listening() as (listener, connections):
        address = f"{listener.get_addrs()[0]}"
        peer = threading.Thread(target=lambda: asyncio.run(visit(address, leave_note)))
        peer.start()
        peer.join()
        connection = await connections.receive()
        assert await eventually(lambda: connection.is_closed)
        stream = await connection.accept_stream()
        size = 0
        with pytest.raises(StreamEOF):
            while True:
                size += len(await stream.read())
        assert size > SIZE
