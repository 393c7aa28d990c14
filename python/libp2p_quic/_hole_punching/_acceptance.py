"""Accepts the protocol of a stream over a relay in one message, with the handler's first one if it can.

py-libp2p 0.8.1 reads a proposal in four reads, and accepts it in two messages before the handler writes its
own. Over its yamux each read takes two scheduler passes, and each message six. An upgrade waits for that:
rust-libp2p sends CONNECT once DCUtR is accepted, and go-libp2p identifies the host before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.stream_muxer.yamux.yamux import YamuxStream

from libp2p_quic._driver import send_gathered
from libp2p_quic._hole_punching._exchange import proposal, reset
from libp2p_quic._hole_punching._precedence import Precedence
from libp2p_quic._repair import Repair, is_relayed_stream


class Accepting:
    """A stream handler that can write the acceptance of its protocol before its own first message.

    ``serve`` gets the stream and the bytes of the acceptance: none if the protocol is agreed on already. It
    raises nothing. ``reads_first`` is whether it reads a message before it writes its first.
    """

    def __init__(
        self,
        protocol: TProtocol,
        serve: Callable[[INetStream, bytes], Awaitable[None]],
        *,
        reads_first: bool = False,
    ) -> None:
        self.serve = serve
        self.protocol = protocol
        # multistream-select accepts by repeating what was proposed.
        self._acceptance = proposal(protocol)
        self._reads_first = reads_first

    async def __call__(self, stream: INetStream) -> None:
        await self.serve(stream, b"")

    def is_proposed(self, arrived: bytearray) -> bool:
        """Whether a stream begins with the whole proposal of this protocol."""
        return arrived.startswith(self._acceptance)

    async def accept(self, stream: INetStream, arrived: int) -> None:
        """Take the proposal from a stream on which ``arrived`` bytes have arrived, and handle it."""
        acceptance = self._acceptance
        has_message = arrived > len(acceptance)
        try:
            await stream.read(len(acceptance))
            if self._reads_first and not has_message:
                # A peer that does not send its message with the proposal waits for the acceptance.
                send_gathered()
                await stream.write(acceptance)
                acceptance = b""
        except BaseLibp2pError:
            # The peer has reset the stream, or the connection ended. An exception would end the swarm.
            await reset(stream)
            return
        stream.set_protocol(self.protocol)
        await self.serve(stream, acceptance)


def accept_at_once(host: IHost, precedence: Precedence) -> Repair | None:
    """Have the `Accepting` handlers of ``host`` accept what is proposed to them over relayed connections.

    ``precedence`` is taken for an exchange of addresses, and given by the other streams.
    """
    swarm: Any = host.get_network()
    stock: Any = getattr(swarm, "common_stream_handler", None)
    if stock is None:
        return None

    async def handle(stream: INetStream) -> None:
        arrived = _arrived(stream)
        # Most streams are direct ones: nothing is looked for.
        handler = _proposed(host, arrived) if arrived else None
        if handler is not None and handler.protocol == DCUTR:
            precedence.take(stream.muxed_conn)
        else:
            await precedence.give(stream.muxed_conn)
        if handler is None:
            await stock(stream)
        else:
            await handler.accept(stream, len(arrived))

    swarm.set_stream_handler(handle)

    def undo() -> None:
        if swarm.common_stream_handler is handle:
            swarm.set_stream_handler(stock)

    return Repair(
        "over a relay, a proposal of identify or DCUtR is accepted in one message",
        undo,
        why="py-libp2p 0.8.1 accepts it in two, after four reads, and the upgrade waits for each",
        is_addition=True,
    )


def _proposed(host: IHost, arrived: bytearray) -> Accepting | None:
    """The handler whose protocol a stream begins with the proposal of."""
    handlers: Any = host.get_mux().handlers
    accepting = (each for each in handlers.values() if isinstance(each, Accepting))
    return next((each for each in accepting if each.is_proposed(arrived)), None)


def _arrived(stream: INetStream) -> bytearray:
    """What has arrived on a new stream over a relay; nothing on others. It stays there."""
    muxed: Any = getattr(stream, "muxed_stream", None)
    if not isinstance(muxed, YamuxStream) or not is_relayed_stream(stream):
        return bytearray()
    arrived: bytearray = muxed.conn.stream_buffers.get(muxed.stream_id, bytearray())
    return arrived
