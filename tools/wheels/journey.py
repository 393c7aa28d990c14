"""Uses an installed wheel: a handshake, an echo and 64 MiB between two endpoints over loopback. It runs
in the environment that is tried, and imports only the wheel and Python's own library.
"""

from __future__ import annotations

import asyncio
import hashlib
import platform
import sys
import sysconfig
import time

from libp2p_quic import Identity
from libp2p_quic.asyncio import Endpoint, Stream

ECHO, TAKE = "/trial/echo/1.0.0", "/trial/take/1.0.0"
PIECE = bytes(range(256)) * 256


async def echo(stream: Stream) -> None:
    while data := await stream.read(65536):
        await stream.write(data)


async def take(stream: Stream) -> None:
    """Answer with the hash of everything that was read."""
    digest = hashlib.sha256()
    while data := await stream.read(1 << 20):
        digest.update(data)
    await stream.write(digest.digest())


async def main(size: int) -> None:
    async with Endpoint(Identity.generate()) as server, Endpoint(Identity.generate()) as client:
        listener = await server.listen("/ip4/127.0.0.1/udp/0/quic-v1")
        serving = asyncio.create_task(listener.serve({ECHO: echo, TAKE: take}))
        connection = await client.connect(f"{listener.address}/p2p/{server.peer_id}")
        stream = await connection.open_stream(ECHO)
        await stream.write(b"hello")
        if await stream.read_exactly(5) != b"hello":
            sys.exit("the echo differs")
        began, digest = time.monotonic(), hashlib.sha256()
        stream = await connection.open_stream(TAKE)
        for _ in range(size // len(PIECE)):
            digest.update(PIECE)
            await stream.write(PIECE)
        stream.finish()
        if await stream.read_exactly(32) != digest.digest():
            sys.exit("the peer read other bytes than were written")
        took = time.monotonic() - began
        serving.cancel()
    is_locked = getattr(sys, "_is_gil_enabled", lambda: True)()
    if is_locked and sysconfig.get_config_var("Py_GIL_DISABLED"):
        sys.exit("the import of libp2p_quic switched the GIL on")
    lock = "" if is_locked else ", without the GIL"
    print(
        f"handshake, echo and {size >> 20} MiB in {took:.1f} s on {platform.machine()}, "
        f"CPython {platform.python_version()}{lock}"
    )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 64 << 20))
