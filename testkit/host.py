"""The program of a far host: a real py-libp2p host that runs the commands of its parent.

Commands are JSON objects, one per line, on standard input. They run concurrently, and each is answered by
one line on standard output. The end of standard input closes the host. The only argument is a JSON object:
transport ("ours", "installed", "stock", "punching"), key (its type) or seed (of an Ed25519 key, in hex),
listen, config.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import trio
from cryptography.hazmat.primitives.asymmetric import ec
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.ping import PingService
from libp2p.identity.identify_push.identify_push import ID_PUSH, identify_push_handler_for
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.transport.quic import transport as stock_transport
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import QUICError
from multiaddr import Multiaddr

import libp2p_quic
from testkit.causes import described
from testkit.census import PATIENCE, census, eventually
from testkit.known_addresses import has_address
from testkit.near import stop_auto_connector, transport_of
from testkit.payload import blocks, drain, drawn_blocks, echoed_back, payload, sha256
from testkit.usage import usage
from tools.interop.ours import ecdsa

ECHO = TProtocol("/test/echo")
PARK = TProtocol("/test/park")
HOLD = TProtocol("/test/hold")

KEYS: dict[str, Callable[[], KeyPair]] = {
    "ed25519": ed25519.create_new_key_pair,
    "secp256k1": secp256k1.create_new_key_pair,
    "rsa": rsa.create_new_key_pair,
    # py-libp2p's own ECC keys carry a key type of its own, 4, which libp2p does not know.
    **ecdsa.KEYS,
    # Such a key is refused.
    "ecdsa-p224": partial(ecdsa.create_new_key_pair, ec.SECP224R1()),
}


def make_host(settings: dict[str, Any]) -> IHost:
    seed = settings["seed"]
    key_pair = ed25519.create_new_key_pair(bytes.fromhex(seed)) if seed else KEYS[settings["key"]]()
    if settings["transport"] == "stock":
        # Imported here, because in a process that calls `install` no module may hold the stock class.
        stock = stock_transport.QUICTransport(key_pair.private_key, StockConfig(**settings["config"]))
        return new_host(key_pair=key_pair, transports=[stock])
    config = libp2p_quic.QUICTransportConfig(**settings["config"])
    if settings["transport"] == "installed":
        libp2p_quic.install()
        # The addresses decide whether the host has other transports.
        listen = [Multiaddr(each) for each in settings["listen"]]
        return new_host(key_pair=key_pair, enable_quic=True, quic_transport_opt=config, listen_addrs=listen)
    ours = libp2p_quic.QUICTransport(key_pair.private_key, config)
    host = new_host(key_pair=key_pair, transports=[ours])
    if settings["transport"] == "punching":
        libp2p_quic.enable_hole_punching(host)
    return host


async def echo(stream: INetStream) -> None:
    """Send back every byte, and finish when the peer finishes."""
    try:
        while True:
            await stream.write(await stream.read(65_536))
    except StreamEOF:
        await stream.close()
    except StreamError:
        await stream.reset()


async def hold(stream: INetStream) -> None:
    """Keep a stream until the peer ends it."""
    with suppress(StreamError):
        await drain(stream)
        await stream.close()


class Commands:
    """One method for each command. The parent refers to a stream by its number."""

    def __init__(self, host: IHost) -> None:
        self.host = host
        self.streams: dict[int, NetStream] = {}
        self.parked, self.arrivals = trio.open_memory_channel[int](1000)
        self.pushed = 0
        self._count_pushes()

    def number(self, stream: INetStream) -> int:
        number = len(self.streams) + 1
        self.streams[number] = cast(NetStream, stream)
        return number

    async def park(self, stream: INetStream) -> None:
        """Keep a stream for the parent's commands."""
        await self.parked.send(self.number(stream))

    # Connections

    async def connect(self, address: str, others: Sequence[str] = ()) -> None:
        """The first address has the peer id; the others are further addresses of that peer."""
        info = info_from_p2p_addr(Multiaddr(address))
        info.addrs.extend(Multiaddr(each) for each in others)
        await self.host.connect(info)

    async def listen(self, address: str) -> None:
        await self.host.get_network().listen(Multiaddr(address))

    async def connections(self) -> list[str]:
        return [str(peer) for peer in self.host.get_network().connections]

    async def known(self, peer: str, address: str, is_known: bool, after: float = PATIENCE) -> bool:
        """Whether the peerstore has an address of the peer that begins so, or has it no more, within
        ``after`` seconds."""
        identity = ID.from_string(peer)
        return await eventually(lambda: has_address(self.host, identity, address) is is_known, after)

    def _count_pushes(self) -> None:
        stock = identify_push_handler_for(self.host)

        async def count(stream: INetStream) -> None:
            self.pushed += 1
            await stock(stream)

        self.host.set_stream_handler(ID_PUSH, count)

    async def pushes(self) -> int:
        """Messages of identify/push that arrived."""
        return self.pushed

    async def forget(self, peer: str) -> None:
        """Delete every address of that peer, those from identify included."""
        self.host.get_peerstore().clear_addrs(ID.from_string(peer))

    async def disconnect(self, peer: str) -> None:
        await self.host.disconnect(ID.from_string(peer))

    async def parted(self, peer: str, after: float = PATIENCE) -> bool:
        """Whether the swarm has no connection to that peer, after at most ``after`` seconds."""
        return await eventually(lambda: peer not in map(str, self.host.get_network().connections), after)

    async def ping(self, peer: str, count: int) -> int:
        return len(await PingService(self.host).ping(ID.from_string(peer), count))

    # Streams

    async def open(self, peer: str, protocol: str) -> int:
        return self.number(await self.host.new_stream(ID.from_string(peer), [TProtocol(protocol)]))

    async def open_many(self, peer: str, protocol: str, count: int, at_once: int = 32) -> list[int]:
        """Streams with a byte written on each."""
        opened: list[int] = []
        left = count

        async def some() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                number = await self.open(peer, protocol)
                await self.streams[number].write(b".")
                opened.append(number)

        async with trio.open_nursery() as nursery:
            for _ in range(min(count, at_once)):
                nursery.start_soon(some)
        return opened

    async def let_go(self, streams: list[int], how: str) -> None:
        """``how``: "close" or "reset"."""
        for number in streams:
            await getattr(self.streams[number], how)()

    async def arrived(self) -> int:
        return await self.arrivals.receive()

    async def write(self, stream: int, seed: int, size: int) -> str:
        data = payload(seed, size)
        for block in blocks(data):
            await self.streams[stream].write(block)
        return sha256(data)

    async def write_drawn(self, stream: int, seed: int, size: int, block: int) -> str:
        """Write more than fits into memory, ``block`` bytes at a time, and finish."""
        digest = hashlib.sha256()
        for part in drawn_blocks(seed, size, block):
            digest.update(part)
            await self.streams[stream].write(part)
        await self.streams[stream].close_write()
        return digest.hexdigest()

    async def read(self, stream: int, n: int) -> str:
        return (await read_exactly(self.streams[stream], n)).hex()

    async def drain(
        self, stream: int, after: float = 0, rate: float = math.inf, rest: float = 0
    ) -> dict[str, Any]:
        if after:
            await trio.sleep(after)  # scenario: this reader starts late
        began = time.monotonic()
        got = await drain(self.streams[stream], rate, rest)
        return {"began": began, "size": got.size, "sha256": got.sha256, "end": got.end, "chain": got.chain}

    async def echo_back(self, stream: int, seed: int, size: int) -> str:
        return await echoed_back(self.streams[stream], payload(seed, size))

    async def close_write(self, stream: int) -> None:
        await self.streams[stream].close_write()

    async def close(self, stream: int) -> None:
        await self.streams[stream].close()

    async def reset(self, stream: int, code: int) -> None:
        # py-libp2p's own stream has no way to name a code.
        await cast(Any, self.streams[stream].muxed_stream).reset(code)

    async def stop(self, stream: int) -> None:
        await cast(Any, self.streams[stream].muxed_stream).close_read()

    # The process

    async def compute(self, seconds: float) -> dict[str, float]:
        """Compute without yielding to trio; returns when that started and ended."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            pass
        return {"began": began, "ended": time.monotonic()}

    async def census(self) -> dict[str, tuple[str, ...]]:
        return vars(census())

    async def usage(self) -> dict[str, int]:
        return usage(self.host)

    async def received(self) -> int:
        """Datagrams received by the listening sockets."""
        return sum(each.get_stats()["packets_processed"] for each in transport_of(self.host)._listeners)

    async def faults(self) -> int:
        """How many system calls were made to fail: see crates/faults."""
        return _counted("faults_injected")

    async def inject(self, faults: str) -> None:
        """Replace the faults: from now on only these system calls fail."""
        assert ctypes.CDLL(None).faults_set(faults.encode()), f"cannot parse {faults!r}: see crates/faults"

    async def sent(self, port: int) -> dict[str, int]:
        """What it has sent to that port and the system accepted."""
        return {what: _counted(f"faults_{what}_to", port) for what in ("calls", "datagrams", "marked")}

    async def statistics(self, peer: str) -> dict[str, Any]:
        (connection,) = cast(Any, self.host.get_network()).get_connections(ID.from_string(peer))
        return cast("dict[str, Any]", connection.muxed_conn.statistics()._asdict())


def _counted(name: str, *arguments: int) -> int:
    """A count of crates/faults, which this process was started with."""
    count = getattr(ctypes.CDLL(None), name)
    count.restype = ctypes.c_uint64
    return cast(int, count(*arguments))


def tell(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def obey(commands: Commands, line: bytes) -> None:
    order = json.loads(line)
    method: Callable[..., Awaitable[object]] = getattr(commands, order.pop("do"))
    number = order.pop("id")
    try:
        tell(id=number, result=await method(**order))
    except (BaseLibp2pError, QUICError, OSError, ValueError) as error:
        tell(id=number, error=described(error))


async def main(settings: dict[str, Any]) -> None:
    host = make_host(settings)
    commands = Commands(host)
    host.set_stream_handler(ECHO, echo)
    host.set_stream_handler(PARK, commands.park)
    host.set_stream_handler(HOLD, hold)
    stdin = trio.lowlevel.FdStream(os.dup(0))
    async with host.run(listen_addrs=[Multiaddr(each) for each in settings["listen"]]):
        await stop_auto_connector(host)
        tell(
            id=0,
            peer_id=str(host.get_id()),
            is_listening=all(each in host.get_network().listeners for each in settings["listen"]),
            addresses=[str(address) for address in host.get_addrs()] if settings["listen"] else [],
        )
        async with trio.open_nursery() as nursery:
            unread = b""
            async for chunk in stdin:
                *lines, unread = (unread + chunk).split(b"\n")
                for line in lines:
                    nursery.start_soon(obey, commands, line)
            nursery.cancel_scope.cancel()
    left = [thread.name for thread in threading.enumerate() if not thread.daemon]
    assert left == ["MainThread"], left


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
