"""Gates, lookups and listeners of `libp2p_quic.asyncio` that are canceled or closed at an unlucky moment.

What a gate decides is in test_peer_gates.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest

from libp2p_quic.asyncio import DialError, Endpoint, EndpointConfig, Identity, PeerId
from testkit.asyncio_ends import LOOPBACK, ends
from testkit.loops import on_both, soon


async def canceled_task() -> NoReturn:
    """What a gate that awaits a shared task meets, if another one canceled that."""
    raise asyncio.CancelledError


async def deaf(_peer: PeerId, _address: str) -> bool:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # One cancellation may be the test's own end.
            if asyncio.current_task() in ENDING:
                raise


ENDING: set[asyncio.Task[Any] | None] = set()


def end_all() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        ENDING.add(task)
        task.cancel()


@on_both
async def test_a_gate_that_ends_canceled_denies() -> None:
    async def gate(_peer: PeerId, _address: str) -> bool:
        await canceled_task()

    async with ends(near=EndpointConfig(gate_peer=gate)) as both:
        with pytest.raises(DialError, match="gate_peer"):
            await soon(both.near.connect(both.address))


@on_both
async def test_a_gate_that_ignores_its_cancellation_is_not_waited_for() -> None:
    async with ends(near=EndpointConfig(gate_peer=deaf, gate_timeout=0.1)) as both:
        with pytest.raises(DialError, match="did not answer"):
            await soon(both.near.connect(both.address))
        end_all()


def test_a_dial_that_is_canceled_as_its_lookup_ends_is_canceled() -> None:
    """On asyncio's loop only, as uvloop's takes no attribute. The wait is the same code."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        async with ends() as both:
            port = int(both.listener.address.split("/")[4])

            async def look_up(*_: object, **__: object) -> list[object]:
                dial.cancel()
                return [(2, 2, 17, "", ("127.0.0.1", port))]

            loop.getaddrinfo = look_up
            dial = asyncio.ensure_future(both.near.connect(f"/dns4/some.test/udp/{port}/quic-v1"))
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(asyncio.shield(dial), 20)

    asyncio.run(main(), debug=True)


@on_both
async def test_closing_a_listener_closes_what_its_gate_admitted_and_nobody_took() -> None:
    admitted = asyncio.Event()

    async def gate(_peer: PeerId, _address: str) -> bool:
        admitted.set()
        return True

    async with ends(far=EndpointConfig(gate_peer=gate)) as both:
        dialed = await both.near.connect(both.address)
        await soon(admitted.wait())
        both.listener.close()
        ended = await soon(dialed.closed())
        assert (ended.by, ended.error_code, ended.reason) == ("peer", 0, "listener closed")
        assert both.far.statistics().refused_by_gate == 0


@on_both
async def test_closing_a_listener_while_its_gate_decides_is_no_denial() -> None:
    asked = asyncio.Event()

    async def gate(_peer: PeerId, _address: str) -> bool:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with ends(far=EndpointConfig(gate_peer=gate)) as both:
        dialed = await both.near.connect(both.address)
        await soon(asked.wait())
        both.listener.close()
        ended = await soon(dialed.closed())
        assert (ended.by, ended.error_code) == ("peer", 0)
        assert both.listener.gated == 0


@on_both
async def test_an_endpoint_forgets_a_closed_listener_and_keeps_its_count() -> None:
    def gate(*_: object) -> bool:
        return False

    async with (
        Endpoint(Identity.generate(), EndpointConfig(gate_peer=gate)) as far,
        Endpoint(Identity.generate()) as near,
    ):
        for _ in range(3):
            async with await far.listen(LOOPBACK) as listener:
                dialed = await near.connect(listener.address)
                assert (await soon(dialed.closed())).error_code == 0x1007
        assert far._listeners == []
        assert far.statistics().refused_by_gate == 3
