"""py-libp2p's own QUIC transport, on aioquic, in the far process, in both directions.

The tests use only what that transport supports: small writes, and a finish in another packet than the last
bytes.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.ping import PingService

from testkit.census import eventually
from testkit.far import far_host
from testkit.near import IP4, addresses, connection, inbound, near_host, new_stream, swarm
from testkit.payload import BLOCK, MIB, echoed_back, payload, sha256

ECHO = TProtocol("/test/echo")


async def test_we_dial_the_stock_transport() -> None:
    data = payload(21, MIB)
    async with far_host(transport="stock") as far, near_host() as near:
        await near.connect(far.info)
        assert connection(near, far.peer_id).peer_id == far.peer_id
        assert len(await PingService(near).ping(far.peer_id, 5)) == 5
        stream = await new_stream(near, far.peer_id, ECHO)
        with trio.fail_after(40):
            assert await echoed_back(stream, data) == sha256(data)
        await stream.close()


async def test_the_stock_transport_dials_us() -> None:
    async with far_host(transport="stock") as far, near_host(IP4) as near:

        async def echo(stream: INetStream) -> None:
            left = MIB
            while left:
                data = await stream.read(BLOCK)
                await stream.write(data)
                left -= len(data)

        near.set_stream_handler(ECHO, echo)
        await far.do("connect", address=addresses(near)[0])
        assert (await inbound(near, far.peer_id)).peer_id == far.peer_id
        assert not connection(near, far.peer_id).is_initiator
        assert await far.do("ping", peer=str(near.get_id()), count=5) == 5
        # The listener can open a stream, too.
        assert len(await PingService(near).ping(far.peer_id, 2)) == 2
        stream = await far.do("open", peer=str(near.get_id()), protocol=ECHO)
        heard = await far.do("echo_back", stream=stream, seed=22, size=MIB, within=40)
        assert heard == sha256(payload(22, MIB))


@pytest.mark.parametrize("suffix", ["quic-v1", "quic"])
async def test_both_names_of_the_protocol_reach_the_stock_listener(suffix: str) -> None:
    async with far_host(f"/ip4/127.0.0.1/udp/0/{suffix}", transport="stock") as far, near_host() as near:
        await near.connect(far.info)
        assert await PingService(near).ping(far.peer_id, 1)


@pytest.mark.parametrize("suffix", ["quic-v1", "quic"])
async def test_the_stock_transport_reaches_us_by_both_names_of_the_protocol(suffix: str) -> None:
    """For /quic it sends draft 29's version number, and version 1's keys."""
    async with far_host(transport="stock") as far, near_host(IP4.replace("quic-v1", suffix)) as near:
        (address,) = addresses(near)
        assert address.split("/")[5] == suffix
        await far.do("connect", address=address)
        assert await far.do("ping", peer=str(near.get_id()), count=3) == 3


async def test_draft_29_is_refused_where_it_is_turned_off() -> None:
    config = {"enable_draft29": False}
    async with far_host(transport="stock") as far, near_host(IP4, config=config) as near:
        address = addresses(near)[0].replace("/quic-v1/", "/quic/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(far.do, "connect", address=address))
            # aioquic's error for a Version Negotiation packet without its version.
            refused = "Could not find a common protocol version"
            assert await eventually(lambda: refused in far.complaints())
            nursery.cancel_scope.cancel()
        assert not swarm(near).connections
