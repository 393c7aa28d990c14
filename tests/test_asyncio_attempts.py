"""What `attempts` of a dial of `libp2p_quic.asyncio` tells of each address, in agreement with the error."""

from __future__ import annotations

import asyncio
import re

import pytest

from libp2p_quic.asyncio import (
    ConnectionStatistics,
    DialAttempt,
    EndpointConfig,
    HandshakeTimeoutError,
    PeerIdMismatchError,
    UnreachableError,
)
from testkit.asyncio_ends import ends
from testkit.loops import on_both, passes, soon
from testkit.names import free_port
from testkit.unwilling import black_hole


@on_both
async def test_attempts_tell_what_became_of_each_address() -> None:
    """The name has an address at which nothing listens, beside the listener's."""
    async with ends() as both:
        attempts: list[DialAttempt] = []
        port = both.listener.address.split("/")[4]
        connection = await both.near.connect(f"/dns/localhost/udp/{port}/quic-v1", attempts=attempts)
        found = {each.address: each for each in attempts}
        reached = found[both.listener.address]
        assert (reached.result, reached.error) == ("connected", None)
        assert reached.ended is not None
        assert 0 <= reached.began < reached.ended
        assert counted(reached).datagrams_received > 0
        # Every attempt is over, and none keeps a connection.
        assert {each.result for each in attempts} <= {"connected", "failed", "abandoned"}
        far = await both.listener.accept()
        del connection
        assert (await far.closed()).by == "peer"


def counted(attempt: DialAttempt) -> ConnectionStatistics:
    found = attempt.statistics()
    assert found is not None
    return found


@on_both
async def test_attempts_tell_what_a_waiting_dial_has_sent() -> None:
    async with ends(near=EndpointConfig(handshake_timeout=300)) as both:
        attempts: list[DialAttempt] = []
        with black_hole() as address:
            dialing = asyncio.ensure_future(both.near.connect(address, attempts=attempts))

            async def has_sent() -> None:
                while not attempts or not counted(attempts[0]).datagrams_sent:
                    await passes(1)

            await soon(has_sent())
            assert (attempts[0].result, attempts[0].ended) == ("waiting", None)
            dialing.cancel()
            await asyncio.wait([dialing])
        assert attempts[0].result == "abandoned"
        assert counted(attempts[0]).datagrams_received == 0
        failed: list[DialAttempt] = []
        with pytest.raises(PeerIdMismatchError):
            await both.near.connect(f"{both.listener.address}/p2p/{both.near.peer_id}", attempts=failed)
        assert isinstance(failed[0].error, PeerIdMismatchError)
        assert failed[0].result == "failed"
        unroutable: list[DialAttempt] = []
        with pytest.raises(UnreachableError):
            await both.near.connect("/ip4/224.0.0.1/udp/9/quic-v1", attempts=unroutable)
        assert unroutable[0].result == "failed"


SENT = (
    r"\((\d+) datagrams sent, 0 received\); port unreachable: nothing listens there, or a firewall rejects it"
)


@on_both
async def test_the_statistics_of_an_attempt_agree_with_its_error() -> None:
    """At a closed port, where the engine makes an attempt each 0.8 s and sends refused datagrams again."""
    attempts: list[DialAttempt] = []
    async with ends(near=EndpointConfig(handshake_timeout=1.5)) as both:
        with pytest.raises(HandshakeTimeoutError) as caught:
            await both.near.connect(f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1", attempts=attempts)
    told = re.search(SENT, str(caught.value))
    assert told
    assert counted(attempts[0]).datagrams_sent == int(told[1])
    assert counted(attempts[0]).datagrams_received == 0


@on_both
async def test_the_statistics_of_a_canceled_attempt_agree_with_its_error() -> None:
    address, attempts = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1", list[DialAttempt]()
    async with ends(near=EndpointConfig(handshake_timeout=300)) as both:
        dialing = asyncio.ensure_future(both.near.connect(address, attempts=attempts))

        async def has_sent() -> None:
            while not attempts or counted(attempts[0]).datagrams_sent < 10:
                await passes(1)

        await soon(has_sent())
        before = counted(attempts[0]).datagrams_sent
        dialing.cancel()
        await asyncio.wait([dialing])
        told = re.search(SENT, str(both.near.last_failure(address)))
    assert told
    # The engine sends on until the dial is canceled, and the text was made between these two counts.
    assert before <= int(told[1]) <= counted(attempts[0]).datagrams_sent
