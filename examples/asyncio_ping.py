"""Two libp2p nodes in asyncio that ping each other, without py-libp2p. Without an argument it listens.

python examples/asyncio_ping.py
python examples/asyncio_ping.py /ip4/127.0.0.1/udp/9000/quic-v1/p2p/12D3KooW...
"""

import asyncio
import os
import sys
import time

from libp2p_quic import Identity
from libp2p_quic.asyncio import Endpoint, Stream

PING = "/ipfs/ping/1.0.0"


async def answer(stream: Stream) -> None:
    while data := await stream.read(32):
        await stream.write(data)


async def listen() -> None:
    async with Endpoint(Identity.generate()) as endpoint:
        listener = await endpoint.listen("/ip4/127.0.0.1/udp/0/quic-v1")
        print(f"{listener.address}/p2p/{endpoint.peer_id}", flush=True)
        await listener.serve({PING: answer})


async def ping(address: str) -> None:
    async with Endpoint(Identity.generate()) as endpoint:
        connection = await endpoint.connect(address)
        async with await connection.open_stream(PING) as stream:
            for _ in range(5):
                began = time.perf_counter()
                sent = os.urandom(32)
                await stream.write(sent)
                assert await stream.read_exactly(32) == sent
                print(f"{(time.perf_counter() - began) * 1e6:.0f} µs")


asyncio.run(ping(sys.argv[1]) if sys.argv[1:] else listen())
