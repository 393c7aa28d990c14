"""Streams over a relay whose protocol is accepted in one message with the answer, and those that py-libp2p
negotiates. Real hosts, and a relay of py-libp2p.
"""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, TYPE_DATA, YAMUX_HEADER_FORMAT

from libp2p_quic import enable_hole_punching
from libp2p_quic._hole_punching._exchange import proposal
from testkit.census import PATIENCE
from testkit.circuit import CONNECT, circuit, opened, relayed


def messages_of(host: IHost, peer: IHost) -> list[bytes]:
    """The data of each frame that ``host`` writes to ``peer`` from now on."""
    muxed = relayed(host, peer).muxed_conn
    stock, written = muxed._write_frame, list[bytes]()

    async def write_frame(frame: bytes) -> None:
        if struct.unpack(YAMUX_HEADER_FORMAT, frame[:HEADER_SIZE])[1] == TYPE_DATA:
            written.append(frame[HEADER_SIZE:])
        await stock(frame)

    muxed._write_frame = write_frame
    return written


async def rest_of(stream: INetStream) -> bytes:
    """What the peer sends until it finishes the stream."""
    found = b""
    with suppress(StreamEOF):
        while part := await stream.read(65_536):
            found += part
    return found


@pytest.mark.parametrize("is_undone", [False, True])
async def test_a_proposal_of_identify_is_accepted_with_the_answer(is_undone: bool) -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        if is_undone:
            enable_hole_punching(asked).undo()
        written = messages_of(asked, asking)
        with trio.fail_after(PATIENCE):
            stream = await opened(asking, asked, proposal(IDENTIFY))
            answer = await rest_of(stream)
        assert answer.startswith(proposal(IDENTIFY))
        assert parse_identify_response(answer.removeprefix(proposal(IDENTIFY))).public_key
        assert (answer in written) is not is_undone


async def test_a_proposal_of_dcutr_is_accepted_with_connect() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        written = messages_of(asked, asking)
        with trio.fail_after(PATIENCE):
            stream = await opened(asking, asked, proposal(DCUTR) + CONNECT)
            answer = b""
            while len(answer) <= len(proposal(DCUTR)):
                answer += await stream.read(4096)
        assert answer.startswith(proposal(DCUTR))
        assert answer in written
        await stream.reset()


async def test_a_peer_that_waits_for_the_acceptance_before_connect_gets_it_in_one_message() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        written = messages_of(asked, asking)
        with trio.fail_after(PATIENCE):
            stream = await opened(asking, asked, proposal(DCUTR))
            accepted = b""
            while len(accepted) < len(proposal(DCUTR)):
                accepted += await stream.read(4096)
            assert accepted == proposal(DCUTR)
            assert accepted in written
            await stream.write(CONNECT)
            assert await stream.read(4096)
        await stream.reset()


async def test_py_libp2p_negotiates_a_proposal_that_arrives_in_parts() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        with trio.fail_after(PATIENCE):
            stream = await opened(asking, asked, proposal(DCUTR)[:10])
            await stream.write(proposal(DCUTR)[10:] + CONNECT)
            answer = b""
            while len(answer) <= len(proposal(DCUTR)):
                answer += await stream.read(4096)
        assert answer.startswith(proposal(DCUTR))
        await stream.reset()
