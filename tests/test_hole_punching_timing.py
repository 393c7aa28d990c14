"""When the side that begins an upgrade punches and dials: half a round trip after SYNC, in the first two
attempts as the server and in the third as the client. Seen from the address that it punches to, which is a
socket of the test. The messages of the exchange are in test_hole_punching_exchange.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.relay.circuit_v2.dcutr import read_dcutr_msg
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.utils import write_delimited_msg

from testkit.census import eventually
from testkit.circuit import circuit
from testkit.near import quic

# How long the peer takes to answer CONNECT. Long, so that a quarter of it is more than a busy machine's
# delays. Seconds.
ROUND_TRIP = 1.0
QUARTER = ROUND_TRIP / 4
# In place of 5 s. Longer than a round trip, so that the server dials before its attempt ends. Seconds.
LIMIT = 1.5 * ROUND_TRIP


@dataclass
class Arrivals:
    """When which datagrams came to the address that is punched to."""

    punches: list[float] = field(default_factory=list)
    dials: list[float] = field(default_factory=list)

    async def watch(self, at: trio.socket.SocketType) -> None:
        while True:
            datagram = await at.recv(2048)
            # QUIC's long headers have the fixed bit (RFC 9000 section 17.2); punches do not.
            kind = self.dials if datagram[0] & 0x40 else self.punches
            kind.append(trio.current_time())


def first_after(times: list[float], when: float, least: float = 0.0) -> float:
    """Seconds from ``when`` to the first of the times that is ``least`` seconds later."""
    return next(each for each in times if each > when + least) - when


@pytest.mark.slow
async def test_each_attempt_begins_half_a_round_trip_after_sync_and_the_third_one_dials(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "libp2p_quic.hole_punching")
    upgrade = "libp2p_quic._hole_punching._upgrade"
    monkeypatch.setattr(f"{upgrade}.LIMIT", LIMIT)
    synced: list[float] = []
    arrivals = Arrivals()

    async def answer(stream: INetStream) -> None:
        await read_dcutr_msg(stream, HolePunch)
        await trio.sleep(ROUND_TRIP)  # scenario: the round trip through the relay is long
        await write_delimited_msg(stream, HolePunch(type=HolePunch.CONNECT))
        await read_dcutr_msg(stream, HolePunch)
        synced.append(trio.current_time())
        with suppress(BaseLibp2pError):
            await stream.close()

    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as punched:
        await punched.bind(("127.0.0.1", 0))
        address = punched.getsockname()
        # An exchange allows no loopback address.
        monkeypatch.setattr(f"{upgrade}.usable_addresses", lambda *_: [address])
        async with circuit("asked") as (asking, asked, dial), trio.open_nursery() as nursery:
            nursery.start_soon(arrivals.watch, punched)
            # A public address, without which there is no exchange.
            cast(Any, asked)._addrs_factory = lambda _: quic("11.0.2.2|4001")
            asking.set_stream_handler(DCUTR, answer)
            await dial()
            assert await eventually(lambda: "it stays relayed" in caplog.text, 60)
            nursery.cancel_scope.cancel()

    first, second, third = synced
    for sync in (first, second):
        assert QUARTER < first_after(arrivals.punches, sync) < 3 * QUARTER
    # Its punch had a round trip to let the peer in.
    assert 5 * QUARTER < first_after(arrivals.dials, first) < 7 * QUARTER
    assert not [each for each in arrivals.punches if each > third]
    # The dial of the second attempt ends with the exchange of the third.
    assert first_after(arrivals.dials, third, QUARTER) < 3 * QUARTER
