"""The node that browsers dial: a py-libp2p host, or an asyncio program, that listens on WebTransport.

It serves the protocols of tools/interop/README.md, of which the code is that of the peers `ours` and
`asyncio`, and prints the same lines. This module adds the address, and a source that counts.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from functools import partial
from typing import Any, cast

import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto import ed25519
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from multiaddr import Multiaddr

import libp2p_quic
from libp2p_quic import Identity
from libp2p_quic.asyncio import Endpoint, Stream
from tools.interop.asyncio.peer import served
from tools.interop.ours import peer as ours
from tools.interop.ours.wire import BACK, CLOSE, ECHO, RESET, SINK, SOURCE, WATCH, pump, tell

PROGRESS = TProtocol("/libp2p-quic/progress/1.0.0")
"""Answers a byte with how many bytes the source has written, in 8 bytes: asked for during a transfer."""


class Counted:
    """How much the source of the last stream has written."""

    def __init__(self) -> None:
        self.written = 0

    async def source(self, stream: INetStream | Stream, size: int) -> None:
        """Write the pattern and its sum; count each block when the stream has taken it."""
        self.written = 0
        digest = await pump(cast(INetStream, _Counting(stream, self)), size)
        await stream.write(digest)

    @property
    def answer(self) -> bytes:
        return self.written.to_bytes(8, "big")


class _Counting:
    def __init__(self, stream: INetStream | Stream, counted: Counted) -> None:
        self._stream = stream
        self._counted = counted

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)
        self._counted.written += len(data)


# A py-libp2p host


async def run_host(seed: bytes, address: str) -> None:
    pair = ed25519.create_new_key_pair(seed)
    host = new_host(key_pair=pair, transports=[libp2p_quic.QUICTransport(pair.private_key)])
    counted = Counted()

    async def source(stream: INetStream) -> None:
        await counted.source(stream, int.from_bytes(await read_exactly(stream, 8), "big"))
        await stream.close()

    async def progress(stream: INetStream) -> None:
        await read_exactly(stream, 1)
        await stream.write(counted.answer)
        await stream.close()

    for protocol, serve in (
        (ECHO, ours.serve_echo),
        (SINK, ours.serve_sink),
        (SOURCE, source),
        (PROGRESS, progress),
        (RESET, ours.serve_reset),
        (CLOSE, ours.serve_close),
        (WATCH, ours.serve_watch),
        (BACK, partial(ours.serve_back, host)),
    ):
        host.set_stream_handler(protocol, serve)
    host.get_network().register_notifee(cast(Any, ours.Connected()))
    async with host.run(listen_addrs=[Multiaddr(address)]):
        tell(peer=str(host.get_id()), addrs=[str(each) for each in host.get_addrs()])
        await trio.to_thread.run_sync(sys.stdin.read)


# An asyncio program


async def run_asyncio(seed: bytes, address: str) -> None:
    counted = Counted()

    async def source(stream: Stream) -> None:
        await counted.source(stream, int.from_bytes(await stream.read_exactly(8), "big"))

    async def progress(stream: Stream) -> None:
        await stream.read_exactly(1)
        await stream.write(counted.answer)

    async with Endpoint(Identity.from_secret("ed25519", seed)) as endpoint:
        listener = await endpoint.listen(address)
        tell(peer=str(endpoint.peer_id), addrs=[f"{listener.webtransport_address}/p2p/{endpoint.peer_id}"])
        tasks: set[asyncio.Future[None]] = set()

        async def accept() -> None:
            async for connection in listener:
                tell(event="connected", peer=str(connection.peer_id))
                handlers = {**served(connection), SOURCE: source, PROGRESS: progress}
                tasks.add(asyncio.ensure_future(connection.serve(handlers)))

        accepting = asyncio.ensure_future(accept())
        await asyncio.to_thread(sys.stdin.read)
        accepting.cancel()


NODES = {"host": run_host, "asyncio": run_asyncio}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=NODES)
    parser.add_argument("--seed", required=True, help="32 bytes in hexadecimal: the ed25519 key")
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    run: Any = trio.run if arguments.kind == "host" else _run_asyncio
    ip = "/ip4/127.0.0.1" if arguments.ip == 4 else "/ip6/::1"
    address = f"{ip}/udp/{arguments.port}/quic-v1/webtransport"
    run(NODES[arguments.kind], bytes.fromhex(arguments.seed), address)


def _run_asyncio(function: Any, *arguments: object) -> None:
    asyncio.run(function(*arguments))


if __name__ == "__main__":
    main()
