"""What happens in a soak, by dice: hosts come, move bytes, change their minds, die.

Everything is done to two hosts that stay: `home`, in this process, and `away`, in one of its
own, where children are allowed. Each way of living ends with nothing left; `verdict` sees to
that. A checksum that differs, or an error that is none of the scenario's, is a failure.
"""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, QUICTransportConfig
from libp2p_quic._exceptions import DialError
from peers.far import FarError, FarHost, far_host
from peers.host import ECHO, echo
from peers.near import IP4, gone, near_host, new_stream, swarm, transport_of
from peers.payload import MIB, drain, echoed, payload, sha256
from soak.flood import flood

CONFIG: dict[str, Any] = {
    "idle_timeout": 3.0,
    "keep_alive_interval": 0.5,
    "CONNECTION_HANDSHAKE_TIMEOUT": 2.0,
}
"""Whoever is killed is missed soon."""

FICKLE = TProtocol("/soak/fickle")
_GUESTS = 24
_PATIENCE = 15.0
_GARBAGE = 400


async def fickle(stream: INetStream) -> None:
    """Read a little, then abandon it."""
    with suppress(StreamError):
        await stream.read(1000)
    await stream.reset()


class Life:
    def __init__(self, home: IHost, away: FarHost | None, seed: int) -> None:
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        """How often what happened, and how many bytes and datagrams that was."""
        self._home = home
        self._away = away
        self._address = home.get_addrs()[0]
        # Always the same: py-libp2p remembers every peer that it ever met.
        self._seeds = [bytes([number]) * 32 for number in range(1, _GUESTS + 1)]
        home.set_stream_handler(ECHO, echo)
        home.set_stream_handler(FICKLE, fickle)

    @property
    def ways(self) -> list[Callable[[], Awaitable[None]]]:
        near: list[Callable[[], Awaitable[None]]] = [
            self.stayed_whole,
            self.cancelled,
            self.was_reset,
            self.vanished,
            self.was_dialed,
            self.found_nobody,
            self.flooded,
        ]
        return near if self._away is None else [*near, self.visited, self.child_left, self.child_killed]

    async def live(self, way: Callable[[], Awaitable[None]]) -> None:
        await way()
        self.done[way.__name__] += 1

    # Guests

    @asynccontextmanager
    async def _key(self) -> AsyncIterator[bytes]:
        """A key of somebody who is nowhere; in the end home is rid of them again."""
        seed = self._seeds.pop(self.dice.randrange(len(self._seeds)))
        peer = _peer(seed)
        try:
            yield seed
        finally:
            try:
                with trio.CancelScope(shield=True):
                    await gone(self._home, peer, within=_PATIENCE)
            finally:
                # A port is another one every time, and that nobody was at the last one is no news.
                self._home.get_peerstore().clear_addrs(peer)
                swarm(self._home).unblock_peer(peer)
                self._seeds.append(seed)

    @asynccontextmanager
    async def _host(self, *listen: str) -> AsyncIterator[IHost]:
        """A host of this process, for a while."""
        async with self._key() as seed:
            pair = create_new_key_pair(seed)
            async with near_host(*listen, config=CONFIG, key_pair=pair) as host:
                yield host

    @asynccontextmanager
    async def _guest(self) -> AsyncIterator[IHost]:
        """One that is connected to home."""
        async with self._host() as host:
            await host.connect(PeerInfo(self._home.get_id(), [self._address]))
            yield host

    async def _exchange(self, host: IHost, peer: ID, most: int = 4 * MIB) -> None:
        """Bytes along and back, all of them and the right ones."""
        # Sizes of all magnitudes.
        size = int(most ** self.dice.random())
        data = payload(self.dice.getrandbits(32), size)
        stream = await new_stream(host, peer, ECHO)
        got = await echoed(stream, data)
        assert (got.size, got.sha256, got.end) == (size, sha256(data), "StreamEOF"), got
        await stream.close()
        self.done["bytes"] += 2 * size

    # Ways to live

    async def stayed_whole(self) -> None:
        async with self._guest() as host:
            for _ in range(self.dice.randint(1, 4)):
                await self._exchange(host, self._home.get_id())

    async def cancelled(self) -> None:
        """Transfers that are given up at any moment; every other stream is just left lying."""
        async with self._guest() as host:
            for number in range(4):
                stream = None
                with trio.move_on_after(self.dice.random() * 0.1), suppress(StreamError):
                    stream = await new_stream(host, self._home.get_id(), ECHO)
                    await echoed(stream, bytes(8 * MIB))
                if stream is not None and number % 2:
                    await stream.reset()
            await self._exchange(host, self._home.get_id(), MIB)

    async def was_reset(self) -> None:
        """By the other side, and by this one in the middle."""
        async with self._guest() as host:
            for _ in range(4):
                stream = await new_stream(host, self._home.get_id(), FICKLE)
                await stream.write(bytes(2000))
                assert (await drain(stream)).end == "StreamReset"
                await stream.reset()
                stream = await new_stream(host, self._home.get_id(), ECHO)
                await stream.write(bytes(self.dice.randint(1, 200_000)))
                await stream.reset()

    async def vanished(self) -> None:
        """The whole host is cancelled, wherever it is."""
        with trio.move_on_after(self.dice.random()):
            async with self._guest() as host:
                while True:
                    await self._exchange(host, self._home.get_id())

    async def was_dialed(self) -> None:
        """A listener that comes and goes; whoever leaves first."""
        async with self._host(IP4) as host:
            host.set_stream_handler(ECHO, echo)
            await self._home.connect(PeerInfo(host.get_id(), host.get_addrs()))
            await self._exchange(self._home, host.get_id())
            if self.dice.random() < 0.5:
                await self._home.disconnect(host.get_id())

    async def found_nobody(self) -> None:
        """Ports that are silent, and dials that are given up."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            address = Multiaddr(f"/ip4/127.0.0.1/udp/{silent.getsockname()[1]}/quic-v1")
            with trio.move_on_after(self.dice.random() * 4), suppress(DialError):
                await transport_of(self._home).dial(address)
        async with self._key() as seed:
            private_key = create_new_key_pair(seed).private_key
            dialer = QUICTransport(private_key, QUICTransportConfig(**CONFIG))
            with trio.move_on_after(self.dice.random() * 0.02):
                await dialer.dial(self._address)
            await dialer.close()

    async def flooded(self) -> None:
        for address in self._listeners():
            await flood(address, self.dice, _GARBAGE)
            self.done["garbage"] += _GARBAGE

    def _listeners(self) -> list[Multiaddr]:
        away = [] if self._away is None else [Multiaddr(self._away.addresses[0])]
        return [self._address, *away]

    # With other processes

    async def visited(self) -> None:
        """A guest of this process at the host that stays in another."""
        assert self._away is not None
        async with self._host() as host:
            await host.connect(self._away.info)
            await self._exchange(host, self._away.peer_id)
            peer = str(host.get_id())
        assert await self._away.do("parted", peer=peer), "still connected"
        await self._away.do("forget", peer=peer)

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[tuple[FarHost, int]]:
        """A host that came to home in a process of its own, and its stream to there."""
        async with self._key() as seed, far_host(seed=seed, config=CONFIG) as far:
            home = str(self._home.get_id())
            await far.do("connect", address=str(self._address))
            yield far, await far.do("open", peer=home, protocol=ECHO)

    async def child_left(self) -> None:
        async with self._child() as (far, stream):
            seed, size = self.dice.getrandbits(32), self.dice.randint(1, 2 * MIB)
            got = await far.do("echo_back", stream=stream, seed=seed, size=size)
            assert got == sha256(payload(seed, size)), "other bytes came back"
            self.done["bytes"] += 2 * size
            await far.leave()

    async def child_killed(self) -> None:
        """SIGKILL in the middle of a transfer."""
        is_its_time = trio.Event()
        async with self._child() as (far, stream):

            async def talk() -> None:
                try:
                    await far.do("echo_back", stream=stream, seed=1, size=16 * MIB)
                except (AssertionError, FarError):
                    assert is_its_time.is_set(), "it failed before it was killed"

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk)
                await trio.sleep(self.dice.random() * 0.3)  # scenario: a random moment
                is_its_time.set()
                await far.kill()


def _peer(seed: bytes) -> ID:
    return ID.from_pubkey(create_new_key_pair(seed).public_key)
