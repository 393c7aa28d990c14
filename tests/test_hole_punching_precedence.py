"""An exchange of addresses precedes the other streams that a peer opens over a relay. Real hosts, and a relay
of py-libp2p."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from trio.testing import MockClock, wait_all_tasks_blocked

from libp2p_quic._addr import QUICAddress
from libp2p_quic._hole_punching._exchange import proposal
from libp2p_quic._hole_punching._precedence import Precedence
from testkit.census import PATIENCE, eventually
from testkit.circuit import CONNECT, circuit, opened, relayed, upgrades_of
from testkit.host import ECHO


async def waits(precedence: Precedence, connection: Any) -> bool:
    """Whether a stream of the connection waits now."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(precedence.give, connection)
        await wait_all_tasks_blocked()
        is_waiting = bool(nursery.child_tasks)
        nursery.cancel_scope.cancel()
    return is_waiting


class Connection:
    """Weakly referenced, and equal to no other."""


async def test_streams_wait_until_the_exchange_ends_or_for_ten_milliseconds(mock_clock: MockClock) -> None:
    precedence = Precedence()
    one: Any = Connection()
    other: Any = Connection()
    assert not await waits(precedence, one)
    precedence.take(one)
    assert await waits(precedence, one)
    assert not await waits(precedence, other)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(precedence.give, one)
        await wait_all_tasks_blocked()
        precedence.end(one)
    assert not await waits(precedence, one)
    precedence.take(one)
    mock_clock.jump(0.009)
    assert await waits(precedence, one)
    mock_clock.jump(0.002)
    assert not await waits(precedence, one)
    precedence.end(other)


async def test_other_streams_of_the_relayed_connection_wait_for_the_upgrade(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._precedence._LONGEST", 10 * PATIENCE)
    async with circuit("asking") as (asking, asked, dial):
        served = trio.Event()

        async def serve(stream: INetStream) -> None:
            served.set()
            await stream.close()

        asking.set_stream_handler(ECHO, serve)
        await dial()
        known = relayed(asking, asked)
        with trio.fail_after(PATIENCE):
            exchange = await opened(asked, asking, proposal(DCUTR) + CONNECT)
            # Its answer: the exchange has begun.
            assert await exchange.read(1)
            async with trio.open_nursery() as nursery:
                before = len(known.get_streams())

                async def call() -> None:
                    await asked.new_stream(asking.get_id(), [ECHO])

                nursery.start_soon(call)
                assert await eventually(lambda: len(known.get_streams()) > before)
                await wait_all_tasks_blocked(0.05)
                assert not served.is_set()
                # A direct connection ends it.
                addresses = [QUICAddress.parse(each) for each in asked.get_addrs()]
                await upgrades_of(asking)._dial(asked.get_id(), addresses)
                await served.wait()
                nursery.cancel_scope.cancel()
        assert not known.is_closed
