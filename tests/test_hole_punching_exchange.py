"""DCUtR's exchange of addresses on one stream: what is sent when, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio
from libp2p.abc import INetConn, INetStream
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.relay.circuit_v2.dcutr import read_dcutr_msg
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.utils import write_delimited_msg
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection
from libp2p_quic._hole_punching._exchange import (
    ExchangeError,
    NoAnswerError,
    begin_exchange,
    join_exchange,
    open_exchange,
)
from testkit.census import PATIENCE, eventually
from testkit.near import IP4, near_transport, quic


@pytest.mark.parametrize("answer", [DCUTR, "na"])
async def test_connect_follows_the_proposal_at_once(answer: str) -> None:
    """One round trip of the relay: the peer here answers nothing before it has read all of it."""
    offered, own = quic("11.0.2.2|4001"), quic("11.0.3.2|4001")
    dialing, listening = near_transport(), near_transport()
    heard: list[object] = []
    is_over = trio.Event()

    async def serve(connection: QUICConnection) -> None:
        stream = cast(INetStream, await connection.accept_stream())
        communicator = MultiselectCommunicator(stream)
        heard.extend([await communicator.read(), await communicator.read()])
        heard.append((await read_dcutr_msg(stream, HolePunch)).ObsAddrs)
        await communicator.write(MULTISELECT_PROTOCOL_ID)
        await communicator.write(answer)
        if answer == DCUTR:
            reply = HolePunch(type=HolePunch.CONNECT, ObsAddrs=[each.to_bytes() for each in offered])
            await write_delimited_msg(stream, reply)
            heard.append((await read_dcutr_msg(stream, HolePunch)).type)
        # A handler that returns has the connection closed.
        await is_over.wait()

    listener = listening.create_listener(serve)
    await listener.listen(Multiaddr(IP4))
    connection = await dialing.dial(listener.get_addrs()[0])
    stream = cast(INetStream, await connection.open_stream())
    with trio.fail_after(PATIENCE):
        if answer == DCUTR:
            assert (await begin_exchange(stream, own))[0] == offered
            assert await eventually(lambda: heard[3:] == [HolePunch.SYNC])
        else:
            with pytest.raises(ExchangeError, match="'na' to /libp2p/dcutr"):
                await begin_exchange(stream, own)
    assert heard[:3] == [MULTISELECT_PROTOCOL_ID, DCUTR, [each.to_bytes() for each in own]]
    is_over.set()
    await dialing.close()
    await listening.close()


class Arriving:
    """A stream with these bytes, of which a read gets one part."""

    def __init__(self, *parts: bytes) -> None:
        self.parts = list(parts)
        self.sent = b""
        self.is_closed = False
        self.is_reset = False

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.parts.pop(0) if self.parts else b""

    async def write(self, data: bytes) -> None:
        self.sent += data

    async def close(self) -> None:
        self.is_closed = True

    async def reset(self) -> None:
        self.is_reset = True


def delimited(message: HolePunch) -> bytes:
    return encode_varint_prefixed(message.SerializeToString())


CONNECT = HolePunch(type=HolePunch.CONNECT, ObsAddrs=[quic("11.0.2.2|4001")[0].to_bytes()] * 40)
SYNC = HolePunch(type=HolePunch.SYNC)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_messages_may_arrive_in_any_parts(size: int) -> None:
    whole = delimited(CONNECT) + delimited(SYNC)
    stream = Arriving(*(whole[at : at + size] for at in range(0, len(whole), size)))
    offered: list[Multiaddr] = []
    await join_exchange(cast(INetStream, stream), [], offered.extend)
    assert offered == quic("11.0.2.2|4001") * 40
    assert stream.sent == delimited(HolePunch(type=HolePunch.CONNECT))
    assert not stream.is_reset


@pytest.mark.parametrize(
    ("arriving", "why"),
    [
        (encode_varint_prefixed(bytes(4097)), "longer than 4096 bytes: 4097"),
        (b"\xff\xff\xff\x01", "longer than 4096 bytes"),
        (delimited(CONNECT)[:-1], "ended within a message"),
        (b"", "ended within a message"),
        (b"\x01\xff", "unreadable message"),
        (delimited(SYNC), "CONNECT was expected, not SYNC"),
    ],
)
async def test_what_is_no_exchange_resets_its_stream(arriving: bytes, why: str) -> None:
    stream = Arriving(arriving)
    with pytest.raises(ExchangeError, match=why):
        await join_exchange(cast(INetStream, stream), [])
    assert stream.is_reset


class Stuck(Arriving):
    """A stream on which nothing arrives, and whose connection takes no frames."""

    async def read(self, n: int) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def reset(self) -> None:
        await trio.sleep_forever()


async def test_a_connection_that_takes_no_frames_does_not_hold_an_exchange(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_LIMIT", "_RESET_LIMIT"):
        monkeypatch.setattr(f"libp2p_quic._hole_punching._exchange.{name}", 0.01)
    stream = cast(INetStream, Stuck())
    connection = cast(INetConn, SimpleNamespace(new_stream=trio.sleep_forever))
    with trio.fail_after(PATIENCE):
        with pytest.raises(NoAnswerError, match="no new stream"):
            await open_exchange(connection)
        with pytest.raises(NoAnswerError, match="no answer"):
            await begin_exchange(stream, [])
        with pytest.raises(NoAnswerError, match="no message"):
            await join_exchange(stream, [])


async def test_sync_is_told_before_the_stream_is_closed() -> None:
    """The peer times its punches by it, and closing takes a frame over the relay."""
    stream = Arriving(delimited(CONNECT), delimited(SYNC))
    told: list[str] = []

    def note(what: str) -> None:
        told.append(f"{what}, {len(stream.parts)} to come, {'closed' if stream.is_closed else 'open'}")

    await join_exchange(cast(INetStream, stream), [], lambda _: note("CONNECT"), lambda _: note("SYNC"))
    assert told == ["CONNECT, 1 to come, open", "SYNC, 0 to come, open"]
    assert stream.is_closed
