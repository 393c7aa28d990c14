"""The scenarios of a soak run, chosen at random: hosts connect, transfer bytes, cancel, are killed.

All of them use two hosts that stay: `home`, in this process, and `away`, in a child process, if children
are allowed. Each scenario must leave nothing, which `verdict` checks. A wrong checksum, or an error that
is not part of the scenario, is a failure.
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
from libp2p_quic.exceptions import DialError
from testkit.far import FarError, FarHost, far_host
from testkit.host import ECHO, echo
from testkit.near import IP4, gone, near_host, new_stream, swarm, transport_of
from testkit.payload import MIB, drain, echoed, payload, sha256
from tools.soak.asyncio_program import FICKLE as FICKLE_NAME
from tools.soak.asyncio_program import WAYS, AsyncioProgram
from tools.soak.flood import flood

CONFIG: dict[str, Any] = {
    "idle_timeout": 3.0,
    "keep_alive_interval": 0.5,
    "CONNECTION_HANDSHAKE_TIMEOUT": 2.0,
}
"""Short timeouts, so that killed peers are detected soon."""

FICKLE = TProtocol(FICKLE_NAME)
_PEERS = 24
_PATIENCE = 15.0
_GARBAGE = 400
_KEPT_FAILURES = 256
"""Addresses whose last failure a transport keeps."""


async def fickle(stream: INetStream) -> None:
    """Read a little, then abandon it."""
    with suppress(StreamError):
        await stream.read(1000)
    await stream.reset()


class Scenarios:
    def __init__(self, home: IHost, away: FarHost | None, seed: int) -> None:
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        """How often each scenario ran, and the number of bytes and datagrams."""
        self._home = home
        self._away = away
        self._address = home.get_addrs()[0]
        # Always the same keys, because py-libp2p keeps an entry of every peer.
        self._seeds = [bytes([number]) * 32 for number in range(1, _PEERS + 1)]
        # Always the same port, so that no other program gets it.
        self._silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._silent.bind(("127.0.0.1", 0))
        home.set_stream_handler(ECHO, echo)
        home.set_stream_handler(FICKLE, fickle)

    def close(self) -> None:
        self._silent.close()

    @property
    def all(self) -> list[Callable[[], Awaitable[None]]]:
        near: list[Callable[[], Awaitable[None]]] = [
            self.stayed_whole,
            self.canceled,
            self.was_reset,
            self.vanished,
            self.was_dialed,
            self.found_nobody,
            self.flooded,
            self.on_asyncio,
            self.on_uvloop,
        ]
        return near if self._away is None else [*near, self.visited, self.child_left, self.child_killed]

    async def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        await scenario()
        self.done[scenario.__name__] += 1

    async def fail_often(self) -> None:
        """Fill what `home` keeps of failed dials: otherwise the failures of peers that are gone, each at
        another port, add some 3 000 objects within the first ten minutes, and then no more."""
        port = self._silent.getsockname()[1]

        async def fail(number: int) -> None:
            with suppress(DialError):
                await transport_of(self._home).dial(Multiaddr(f"/ip4/127.0.1.{number}/udp/{port}/quic-v1"))

        async with trio.open_nursery() as nursery:
            for number in range(_KEPT_FAILURES):
                nursery.start_soon(fail, number)

    # Peers

    @asynccontextmanager
    async def _key(self) -> AsyncIterator[bytes]:
        """The key of a peer that does not exist; `home` deletes it again."""
        seed = self._seeds.pop(self.dice.randrange(len(self._seeds)))
        peer = _peer(seed)
        try:
            yield seed
        finally:
            try:
                with trio.CancelScope(shield=True):
                    await gone(self._home, peer, within=_PATIENCE)
            finally:
                # Ports differ every time, and a failed dial to the last one does not matter.
                self._home.get_peerstore().clear_addrs(peer)
                swarm(self._home).unblock_peer(peer)
                self._seeds.append(seed)

    @asynccontextmanager
    async def _host(self, *listen: str) -> AsyncIterator[IHost]:
        """A temporary host in this process."""
        async with self._key() as seed:
            pair = create_new_key_pair(seed)
            async with near_host(*listen, config=CONFIG, key_pair=pair) as host:
                yield host

    @asynccontextmanager
    async def _connected_host(self) -> AsyncIterator[IHost]:
        """A temporary host that is connected to `home`."""
        async with self._host() as host:
            await host.connect(PeerInfo(self._home.get_id(), [self._address]))
            yield host

    async def _exchange(self, host: IHost, peer: ID, most: int = 4 * MIB) -> None:
        """Echo bytes and compare them."""
        # Sizes over all magnitudes.
        size = int(most ** self.dice.random())
        data = payload(self.dice.getrandbits(32), size)
        stream = await new_stream(host, peer, ECHO)
        got = await echoed(stream, data)
        assert (got.size, got.sha256, got.end) == (size, sha256(data), "StreamEOF"), got
        await stream.close()
        self.done["bytes"] += 2 * size

    # Scenarios

    async def stayed_whole(self) -> None:
        async with self._connected_host() as host:
            for _ in range(self.dice.randint(1, 4)):
                await self._exchange(host, self._home.get_id())

    async def canceled(self) -> None:
        """Transfers that are canceled at random moments; every second stream is dropped without an end."""
        async with self._connected_host() as host:
            for number in range(4):
                stream = None
                with trio.move_on_after(self.dice.random() * 0.1), suppress(StreamError):
                    stream = await new_stream(host, self._home.get_id(), ECHO)
                    await echoed(stream, bytes(8 * MIB))
                if stream is not None and number % 2:
                    await stream.reset()
            await self._exchange(host, self._home.get_id(), MIB)

    async def was_reset(self) -> None:
        """Reset by the peer, and by this side during a transfer."""
        async with self._connected_host() as host:
            for _ in range(4):
                stream = await new_stream(host, self._home.get_id(), FICKLE)
                await stream.write(bytes(2000))
                assert (await drain(stream)).end == "StreamReset"
                await stream.reset()
                stream = await new_stream(host, self._home.get_id(), ECHO)
                await stream.write(bytes(self.dice.randint(1, 200_000)))
                await stream.reset()

    async def vanished(self) -> None:
        """The whole host is canceled, at any point."""
        with trio.move_on_after(self.dice.random()):
            async with self._connected_host() as host:
                while True:
                    await self._exchange(host, self._home.get_id())

    async def was_dialed(self) -> None:
        """A listener that is dialed and closed; either side closes first."""
        async with self._host(IP4) as host:
            host.set_stream_handler(ECHO, echo)
            await self._home.connect(PeerInfo(host.get_id(), host.get_addrs()))
            await self._exchange(self._home, host.get_id())
            if self.dice.random() < 0.5:
                await self._home.disconnect(host.get_id())

    async def found_nobody(self) -> None:
        """Dials to a port that does not answer, some of them canceled."""
        address = Multiaddr(f"/ip4/127.0.0.1/udp/{self._silent.getsockname()[1]}/quic-v1")
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

    async def on_asyncio(self) -> None:
        await self._program("asyncio")

    async def on_uvloop(self) -> None:
        await self._program("uvloop")

    async def _program(self, loop: str) -> None:
        """An asyncio program from start to end, in a thread: several may run at once."""
        async with self._key() as seed:
            way = self.dice.choice(WAYS)
            program = AsyncioProgram(str(self._address), seed, self.dice.getrandbits(32), way)
            self.done["bytes"] += (await trio.to_thread.run_sync(program.run, loop))["bytes"]

    def _listeners(self) -> list[Multiaddr]:
        away = [] if self._away is None else [Multiaddr(self._away.addresses[0])]
        return [self._address, *away]

    # With other processes

    async def visited(self) -> None:
        """A host of this process connects to `away`."""
        assert self._away is not None
        async with self._host() as host:
            await host.connect(self._away.info)
            await self._exchange(host, self._away.peer_id)
            peer = str(host.get_id())
        assert await self._away.do("parted", peer=peer), "still connected"
        await self._away.do("forget", peer=peer)

    @asynccontextmanager
    async def _child(self) -> AsyncIterator[tuple[FarHost, int]]:
        """A host in a child process that is connected to `home`, and a stream to it."""
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
                    assert is_its_time.is_set(), "the transfer failed before the process was killed"

            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk)
                await trio.sleep(self.dice.random() * 0.3)  # scenario: a random moment
                is_its_time.set()
                await far.kill()


def _peer(seed: bytes) -> ID:
    return ID.from_pubkey(create_new_key_pair(seed).public_key)
