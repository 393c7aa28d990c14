"""A stream that was reset before its connection ended: `explain` does not name the end of the connection.

Real hosts. `tests/test_causes.py` has the streams that py-libp2p resets because their connection has ended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from libp2p.network.stream.exceptions import StreamReset as NetStreamReset
from libp2p.network.stream.net_stream import NetStream, StreamState

from libp2p_quic import ConnectionClosed, StreamReset, causes, explain
from testkit.census import eventually
from testkit.far import FarHost, far_host
from testkit.near import connection, near_host, new_stream


@asynccontextmanager
async def ended_after(by: str) -> AsyncIterator[tuple[NetStream, NetStream]]:
    """A stream that the peer or this program reset, and one that nobody did, after this program has closed
    their connection."""
    async with far_host() as far, near_host() as host:
        await host.connect(far.info)
        stream = await new_stream(host, far.peer_id, "/test/park")
        await reset(far, stream, by)
        other = await new_stream(host, far.peer_id, "/test/park")
        await connection(host, far.peer_id).close()
        assert await eventually(lambda: other._state is StreamState.RESET)
        yield stream, other


async def reset(far: FarHost, stream: NetStream, by: str) -> None:
    arrived = await far.do("arrived")
    if by == "local":
        await stream.reset()
        return
    await far.do("reset", stream=arrived, code=7)
    with pytest.raises(NetStreamReset) as caught:
        await stream.read(1)
    (cause,) = causes(caught.value)
    assert isinstance(cause, StreamReset)


async def refusals(stream: NetStream) -> list[NetStreamReset]:
    """The errors of a write and a read, which py-libp2p refuses."""
    with pytest.raises(NetStreamReset, match="is reset") as written:
        await stream.write(b"more")
    with pytest.raises(NetStreamReset, match="is reset") as read:
        await stream.read(1)
    return [written.value, read.value]


@pytest.mark.parametrize("by", ["peer", "local"])
async def test_a_stream_that_was_reset_before_its_connection_ended(by: str) -> None:
    async with ended_after(by) as (stream, other):
        of_stream, of_other = await refusals(stream), await refusals(other)
    assert [causes(error) for error in of_stream] == [[], []]
    assert [explain(error) for error in of_stream] == [
        "Cannot write to stream; stream is reset",
        "Cannot read from stream; stream is reset",
    ]
    for error in of_other:
        (cause,) = causes(error)
        assert isinstance(cause, ConnectionClosed)
        assert explain(error) == str(cause)
