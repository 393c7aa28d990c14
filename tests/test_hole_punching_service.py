"""py-libp2p's own DCUtR service on a host that punches holes: made before or after, it leaves upgrades to
this package, and gets them back with the undo.
"""

from __future__ import annotations

import gc
from typing import cast

import pytest
from libp2p.abc import IHost, INetStream
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.tools.anyio_service import background_trio_service

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching._exchange import begin_exchange
from libp2p_quic._hole_punching._service import _stock
from testkit.census import eventually
from testkit.circuit import circuit, upgrades_of
from testkit.near import IP4, near_host, swarm


class Noting(DCUtRProtocol):
    """Notes what came of each upgrade that it is asked for."""

    def __init__(self, host: IHost) -> None:
        super().__init__(host)
        self.begun: list[bool] = []

    async def initiate_hole_punch(self, peer_id: ID) -> bool:
        begun = await super().initiate_hole_punch(peer_id)
        self.begun.append(begun)
        return begun


async def test_a_service_that_is_run_later_leaves_the_exchange_to_ours() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        (relayed,) = swarm(asking).get_connections(asked.get_id())

        async def asks() -> int:
            """Exchanges that ours has served, after one more."""
            await begin_exchange(await relayed.new_stream(), [])
            return sum(each["asked"] for each in upgrades_of(asked)._counts.values())

        service = DCUtRProtocol(asked)
        async with background_trio_service(service):
            await service.event_started.wait()
            assert await asks() == 1
        # The service has removed the handler of the protocol.
        assert await asks() == 2


@pytest.mark.slow
async def test_a_service_begins_no_upgrade_by_itself() -> None:
    """It would do so every 2 s, also on the side that dialed."""
    async with circuit("asking") as (asking, asked, dial):
        exchanges: list[ID] = []

        async def refuse(stream: INetStream) -> None:
            exchanges.append(stream.muxed_conn.peer_id)
            await stream.reset()

        asked.set_stream_handler(DCUTR, refuse)
        await dial()
        service = Noting(asking)
        async with background_trio_service(service):
            assert await eventually(lambda: bool(service.begun))
            assert not any(service.begun)
            assert exchanges == []


async def test_a_program_begins_an_upgrade_of_ours_by_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    async with near_host(IP4) as host:
        enable_hole_punching(host)
        asked: list[ID] = []

        async def upgrade(peer_id: ID) -> bool:
            asked.append(peer_id)
            return True

        monkeypatch.setattr(upgrades_of(host), "upgrade", upgrade)
        assert await DCUtRProtocol(host).initiate_hole_punch(host.get_id())
        assert asked == [host.get_id()]


async def test_a_service_that_runs_already_is_replaced_until_the_undo() -> None:
    async with near_host(IP4) as host:
        handlers = host.get_mux().handlers
        service = DCUtRProtocol(host)
        async with background_trio_service(service):
            await service.event_started.wait()
            stock = handlers[DCUTR]
            enabled = enable_hole_punching(host)
            assert handlers[DCUTR] == upgrades_of(host).serve_stream
            enabled.undo()
            assert handlers[DCUTR] == stock
            enabled = enable_hole_punching(host)
        # The service removes the handler when it ends.
        assert await eventually(lambda: handlers.get(DCUTR) == upgrades_of(host).serve_stream)
        enabled.undo()
        assert DCUTR not in handlers


async def test_the_undo_gives_a_service_its_work_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Hosts of earlier tests that nobody undid.
    assert await eventually(lambda: gc.collect() >= 0 and DCUtRProtocol.run is _stock["run"])
    async with near_host(IP4) as host:
        enabled = enable_hole_punching(host)
        service = DCUtRProtocol(host)
        async with background_trio_service(service):
            await service.event_started.wait()
            handler = host.get_mux().handlers[DCUTR]
            enabled.undo()
            assert DCUtRProtocol.run is _stock["run"]
            assert host.get_mux().handlers[DCUTR] is handler
            handled: list[object] = []

            async def note(*stream: object) -> None:
                handled.append(stream)

            monkeypatch.setitem(_stock, "_handle_dcutr_stream", note)
            assert handler is not None
            await handler(cast(INetStream, None))
            assert handled == [(service, None)]
        assert DCUTR not in host.get_mux().handlers
