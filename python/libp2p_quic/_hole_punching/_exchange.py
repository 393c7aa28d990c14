"""DCUtR's messages on one stream: CONNECT both ways, and SYNC (libp2p's relay/DCUtR.md). Whom to ask
and what to do afterwards is decided by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import INetConn, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamReset
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.utils import write_delimited_msg
from libp2p.utils import decode_varint_with_size, encode_delim, encode_varint_prefixed
from multiaddr import Multiaddr

from libp2p_quic._driver import send_gathered

# For a whole exchange, over relays however slow: go-libp2p's limit of a stream is 60 s. Seconds.
_LIMIT = 15.0
# The specification: "Implementations SHOULD refuse encoded RPC messages larger than 4 KiB". Bytes.
_LARGEST = 4096
# A length below 16 384 has no more bytes.
_LENGTH_BYTES = 2
# For a reset, which waits if the connection takes no frames. Seconds.
_RESET_LIMIT = 1.0


def proposal(protocol: TProtocol) -> bytes:
    """multistream-select's proposal of a single protocol, whose first message may follow at once."""
    return encode_delim(MULTISELECT_PROTOCOL_ID.encode()) + encode_delim(protocol.encode())


_PROPOSAL = proposal(PROTOCOL_ID)


class ExchangeError(Exception):
    """The peer did not speak the protocol, or not in time."""


class NoAnswerError(ExchangeError):
    """The peer did not answer in time."""


async def open_exchange(connection: INetConn) -> INetStream:
    """A new stream for `begin_exchange`. Raises NoAnswerError or an error of the connection."""
    try:
        with trio.fail_after(_LIMIT):
            return await connection.new_stream()
    except trio.TooSlowError as error:
        raise NoAnswerError(f"no new stream within {_LIMIT:g} s") from error


async def reset(stream: INetStream) -> None:
    """Reset the stream, or give up after a second."""
    with trio.move_on_after(_RESET_LIMIT):
        await stream.reset()


async def begin_exchange(stream: INetStream, own: Sequence[Multiaddr]) -> tuple[list[Multiaddr], float]:
    """Propose the protocol, send CONNECT, read CONNECT, send SYNC, and close the stream.

    The stream is new. CONNECT follows the proposal at once, as multistream-select allows for a single
    protocol: one round trip of the relay instead of three. Returns the peer's addresses and the
    round-trip time in seconds. Raises ExchangeError or an error of the stream, and then resets it.
    """
    try:
        with trio.fail_after(_LIMIT):
            began = trio.current_time()
            messages = Messages(stream)
            send_gathered()
            await stream.write(_PROPOSAL + encode_varint_prefixed(_connect(own).SerializeToString()))
            await read_acceptance(messages, PROTOCOL_ID)
            offered = await _read(messages, HolePunch.CONNECT)
            round_trip = trio.current_time() - began
            send_gathered()
            await write_delimited_msg(stream, HolePunch(type=HolePunch.SYNC))
            await stream.close()
    except trio.TooSlowError as error:
        await reset(stream)
        raise NoAnswerError(f"no answer within {_LIMIT:g} s") from error
    except (BaseLibp2pError, ExchangeError):
        await reset(stream)
        raise
    return offered, round_trip


async def join_exchange(
    stream: INetStream,
    own: Sequence[Multiaddr],
    on_connect: Callable[[list[Multiaddr]], None] = lambda _: None,
    on_sync: Callable[[float], None] = lambda _: None,
    acceptance: bytes = b"",
) -> None:
    """Read CONNECT, send CONNECT, read SYNC, and close the stream.

    ``on_connect`` is called with the peer's addresses, while SYNC is on its way. ``on_sync`` is called with
    the round-trip time in seconds directly when SYNC has come: the peer's punches are timed by it. A reset
    after CONNECT stands for SYNC: rust-libp2p resets its stream half a round trip after SYNC, and the reset
    may reach a busy reader before it has read SYNC. ``acceptance`` (default: none) is sent with CONNECT.
    Raises as `begin_exchange`.
    """
    try:
        with trio.fail_after(_LIMIT):
            messages = Messages(stream)
            offered = await _read(messages, HolePunch.CONNECT)
            began = trio.current_time()
            send_gathered()
            await stream.write(acceptance + encode_varint_prefixed(_connect(own).SerializeToString()))
            on_connect(offered)
            with suppress(StreamReset):
                await _read(messages, HolePunch.SYNC)
            on_sync(trio.current_time() - began)
            # The peer may have reset the stream since.
            with suppress(BaseLibp2pError):
                await stream.close()
    except trio.TooSlowError as error:
        await reset(stream)
        raise NoAnswerError(f"no message within {_LIMIT:g} s") from error
    except (BaseLibp2pError, ExchangeError):
        await reset(stream)
        raise


def _connect(own: Sequence[Multiaddr]) -> HolePunch:
    return HolePunch(type=HolePunch.CONNECT, ObsAddrs=[each.to_bytes() for each in own])


class Messages:
    """The messages that come on one stream, each behind its length: at most ``largest`` bytes.

    Takes all that has arrived in one read. py-libp2p's readers ask for single bytes, and over its yamux
    each of those reads sends a frame to the peer.
    """

    def __init__(self, stream: INetStream, largest: int = _LARGEST) -> None:
        self._stream = stream
        self._largest = largest
        self._arrived = b""

    async def next(self) -> bytes:
        """The next message. Raises ExchangeError or an error of the stream."""
        while (message := self._take()) is None:
            part = await self._stream.read(self._largest)
            if not part:
                raise ExchangeError("the stream ended within a message")
            self._arrived += part
        return message

    def _take(self) -> bytes | None:
        length, start = decode_varint_with_size(self._arrived[:_LENGTH_BYTES])
        if start == 0 or self._arrived[start - 1] >= 0x80:
            if start == _LENGTH_BYTES:
                raise ExchangeError(f"the message is longer than {self._largest} bytes")
            return None
        if length > self._largest:
            raise ExchangeError(f"the message is longer than {self._largest} bytes: {length}")
        end = start + length
        if len(self._arrived) < end:
            return None
        message, self._arrived = self._arrived[start:end], self._arrived[end:]
        return message


async def read_acceptance(messages: Messages, protocol: TProtocol) -> None:
    """Read the answer to the proposal. Raises ExchangeError if it is another one."""
    for expected in (MULTISELECT_PROTOCOL_ID, protocol):
        answer = (await messages.next()).decode(errors="replace").removesuffix("\n")
        if answer != expected:
            raise ExchangeError(f"the peer answers {answer!r} to {expected}")


async def _read(messages: Messages, wanted: HolePunch.Type.ValueType) -> list[Multiaddr]:
    message = HolePunch()
    try:
        message.ParseFromString(await messages.next())
    except DecodeError as error:
        raise ExchangeError(f"unreadable message: {error}") from error
    if message.type != wanted:
        raise ExchangeError(
            f"{HolePunch.Type.Name(wanted)} was expected, not {HolePunch.Type.Name(message.type)}"
        )
    # Unreadable ones are left out where they are parsed.
    return list(map(Multiaddr, message.ObsAddrs))
