"""DCUtR's messages on one stream: CONNECT both ways, and SYNC (libp2p's relay/DCUtR.md). Whom to ask
and what to do afterwards is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetStream
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamReset
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID, read_dcutr_msg
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.utils import write_delimited_msg
from libp2p.utils import encode_delim, encode_varint_prefixed
from multiaddr import Multiaddr

from libp2p_quic._addr import UNREADABLE

_PROPOSAL = encode_delim(MULTISELECT_PROTOCOL_ID.encode()) + encode_delim(PROTOCOL_ID.encode())

# For a whole exchange, over relays however slow: go-libp2p's limit of a stream is 60 s. Seconds.
_LIMIT = 15.0


class ExchangeError(Exception):
    """The peer did not speak the protocol, or not in time."""


async def begin_exchange(stream: INetStream, own: Sequence[Multiaddr]) -> tuple[list[Multiaddr], float]:
    """Propose the protocol, send CONNECT, read CONNECT, send SYNC, and close the stream.

    The stream is new. CONNECT follows the proposal at once, as multistream-select allows for a single
    protocol: one round trip of the relay instead of three. Returns the peer's addresses and the
    round-trip time in seconds. Raises ExchangeError or an error of the stream, and then resets it.
    """
    try:
        with trio.fail_after(_LIMIT):
            began = trio.current_time()
            await stream.write(_PROPOSAL + encode_varint_prefixed(_connect(own).SerializeToString()))
            await _read_acceptance(stream)
            offered = await _read(stream, HolePunch.CONNECT)
            round_trip = trio.current_time() - began
            await write_delimited_msg(stream, HolePunch(type=HolePunch.SYNC))
            await stream.close()
    except trio.TooSlowError as error:
        await stream.reset()
        raise ExchangeError(f"no answer within {_LIMIT:g} s") from error
    except (BaseLibp2pError, ExchangeError):
        await stream.reset()
        raise
    return offered, round_trip


async def join_exchange(stream: INetStream, own: Sequence[Multiaddr]) -> tuple[list[Multiaddr], float]:
    """Read CONNECT, send CONNECT, read SYNC, and close the stream.

    A reset after CONNECT stands for SYNC: rust-libp2p resets its stream half a round trip after SYNC, and
    the reset may reach a busy reader before it has read SYNC. Returns and raises as `begin_exchange`.
    """
    try:
        with trio.fail_after(_LIMIT):
            offered = await _read(stream, HolePunch.CONNECT)
            began = trio.current_time()
            await write_delimited_msg(stream, _connect(own))
            try:
                await _read(stream, HolePunch.SYNC)
            except StreamReset:
                return offered, trio.current_time() - began
            round_trip = trio.current_time() - began
            # The peer may have reset the stream since.
            with suppress(BaseLibp2pError):
                await stream.close()
    except trio.TooSlowError as error:
        await stream.reset()
        raise ExchangeError(f"no message within {_LIMIT:g} s") from error
    except (BaseLibp2pError, ExchangeError):
        await stream.reset()
        raise
    return offered, round_trip


def _connect(own: Sequence[Multiaddr]) -> HolePunch:
    return HolePunch(type=HolePunch.CONNECT, ObsAddrs=[each.to_bytes() for each in own])


async def _read_acceptance(stream: INetStream) -> None:
    """Read the answer to the proposal."""
    communicator = MultiselectCommunicator(stream)
    for expected in (MULTISELECT_PROTOCOL_ID, PROTOCOL_ID):
        try:
            answer = await communicator.read()
        except UnicodeDecodeError as error:
            raise ExchangeError(f"unreadable answer to {expected}: {error}") from error
        if answer != expected:
            raise ExchangeError(f"the peer answers {answer!r} to {expected}")


async def _read(stream: INetStream, wanted: HolePunch.Type.ValueType) -> list[Multiaddr]:
    try:
        message = await read_dcutr_msg(stream, HolePunch)
    except (DecodeError, EOFError, ValueError) as error:
        raise ExchangeError(f"unreadable message: {error}") from error
    if message.type != wanted:
        raise ExchangeError(
            f"{HolePunch.Type.Name(wanted)} was expected, not {HolePunch.Type.Name(message.type)}"
        )
    found = []
    for raw in message.ObsAddrs:
        maddr = Multiaddr(raw)
        try:
            str(maddr)
        except UNREADABLE:
            continue
        found.append(maddr)
    return found
