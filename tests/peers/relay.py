"""A UDP relay on loopback between one dialer and one listener, which can move to another port
as a NAT does. It looks into no packet.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from multiaddr import Multiaddr


class Relay:
    """Dial ``address`` to come to the listener by way of it."""

    def __init__(self, target: tuple[str, int], nursery: trio.Nursery) -> None:
        self._target = target
        self._nursery = nursery
        self._front = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        # `move` makes it.
        self._back: trio.socket.SocketType
        self._returning = trio.CancelScope()
        self._dialer: tuple[str, int] | None = None
        self.address = Multiaddr("/ip4/127.0.0.1")

    @classmethod
    @asynccontextmanager
    async def to(cls, listener: Multiaddr) -> AsyncIterator[Relay]:
        target = (str(listener.value_for_protocol("ip4")), int(listener.value_for_protocol("udp") or 0))
        async with trio.open_nursery() as nursery:
            relay = cls(target, nursery)
            await relay._front.bind(("127.0.0.1", 0))
            port = relay._front.getsockname()[1]
            relay.address = Multiaddr(f"/ip4/127.0.0.1/udp/{port}/quic-v1")
            await relay.move()
            nursery.start_soon(relay._forward)
            yield relay
            nursery.cancel_scope.cancel()

    async def move(self) -> None:
        """From now on the listener sees another port, and its answers to the old one are lost."""
        back = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        await back.bind(("127.0.0.1", 0))
        self._back = back
        self._returning.cancel()
        self._returning = trio.CancelScope()
        self._nursery.start_soon(self._return, back, self._returning)

    async def _forward(self) -> None:
        # Each task closes its own socket, when it uses it no more.
        with self._front:
            while True:
                data, self._dialer = await self._front.recvfrom(65_536)
                # Nobody waits on `_back` while it is exchanged: sending to loopback does not block.
                await self._back.sendto(data, self._target)

    async def _return(self, back: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        with back, scope:
            while True:
                data = await back.recv(65_536)
                if self._dialer is not None:
                    await self._front.sendto(data, self._dialer)
