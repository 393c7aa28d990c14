"""The peer that is an asyncio program over `libp2p_quic.asyncio`.

It speaks the command line of tools/interop/README.md. It has no identify, perf, or back: those are
protocols of a host, which the asyncio part is not.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from libp2p_quic import Identity, __version__
from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, QUICError, Stream
from tools.interop.asyncio.wire import (
    BLOCK,
    CLOSE,
    DIALER_CODE,
    ECHO,
    LISTENER_CODE,
    NOTE,
    PING,
    RESET,
    SINK,
    SOURCE,
    STOP,
    WATCH,
    pump,
    tell,
)

Facts = dict[str, object]
ERRORS = (QUICError, OSError, EOFError, ValueError, asyncio.TimeoutError)
WHOLE = 1 << 28
LAST_PARTS = {"quic-v1": "quic-v1", "webtransport": "quic-v1/webtransport"}
"""The ends of the addresses to listen on, by transport."""


async def ping_rounds(connection: Connection, rounds: int) -> int:
    async with await connection.open_stream(PING) as stream:
        for _ in range(rounds):
            data = os.urandom(32)
            await stream.write(data)
            if await stream.read_exactly(32) != data:
                raise ValueError("another answer than the ping's bytes")
    return rounds


# What a listener serves


def served(connection: Connection) -> dict[str, Callable[[Stream], Awaitable[None]]]:
    async def echo(stream: Stream) -> None:
        while data := await stream.read(BLOCK):
            await stream.write(data)

    async def sink(stream: Stream) -> None:
        digest = hashlib.sha256()
        while data := await stream.read(BLOCK):
            digest.update(data)
        await stream.write(digest.digest())

    async def source(stream: Stream) -> None:
        await stream.write(await pump(stream, int.from_bytes(await stream.read_exactly(8), "big")))

    async def reset(stream: Stream) -> None:
        await stream.read_exactly(1)
        stream.reset(LISTENER_CODE)

    async def close(stream: Stream) -> None:
        await stream.read_exactly(1)
        connection.close(LISTENER_CODE)

    async def watch(stream: Stream) -> None:
        try:
            await stream.write(await stream.read_exactly(1))
            await stream.read_to_end(WHOLE)
            tell(event="end", peer=str(connection.peer_id), how="finished", code=None)
        except QUICError as error:
            tell(event="end", peer=str(connection.peer_id), how="cut", code=error.error_code)

    async def note(stream: Stream) -> None:
        size = len(await stream.read_to_end(WHOLE))
        tell(event="note", peer=str(connection.peer_id), bytes=size)

    async def stop(stream: Stream) -> None:
        await stream.write(await stream.read_exactly(1))

    return {
        PING: echo,
        ECHO: echo,
        SINK: sink,
        SOURCE: source,
        RESET: reset,
        CLOSE: close,
        WATCH: watch,
        NOTE: note,
        STOP: stop,
    }


async def listen(arguments: argparse.Namespace) -> None:
    config = EndpointConfig(retry_above=0) if arguments.retry else EndpointConfig()
    async with Endpoint(identity(arguments), config) as endpoint:
        ip = "/ip4/127.0.0.1" if arguments.ip == 4 else "/ip6/::1"
        listener = await endpoint.listen(f"{ip}/udp/{arguments.port}/{LAST_PARTS[arguments.transport]}")
        address = listener.webtransport_address or listener.address
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
        tell(peer=str(endpoint.peer_id), addrs=[f"{address}/p2p/{endpoint.peer_id}"])
        tasks: set[asyncio.Future[None]] = set()

        async def accept() -> None:
            async for connection in listener:
                tell(event="connected", peer=str(connection.peer_id))
                tasks.add(asyncio.ensure_future(connection.serve(served(connection))))

        accepting = asyncio.ensure_future(accept())
        await ended.wait()
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        accepting.cancel()


# What a dialer does


class Dialer:
    """The cases, over ``endpoint`` and the connection to the first address."""

    def __init__(self, endpoint: Endpoint, addresses: list[str]) -> None:
        self.endpoint = endpoint
        self.addresses = addresses
        self.connection: Connection

    async def run(self, case: str) -> Facts:
        self.connection = await self.endpoint.connect(self.addresses[0])
        method: Callable[[], Awaitable[Facts]] = getattr(self, case)
        return await method()

    async def handshake(self) -> Facts:
        await ping_rounds(self.connection, 1)
        return {"remote": str(self.connection.peer_id)}

    async def ping(self) -> Facts:
        return {"rounds": await ping_rounds(self.connection, 100)}

    async def echo(self) -> Facts:
        data = os.urandom(1 << 20)
        return {"bytes": len(data), "same": await self._is_echoed(data)}

    async def _is_echoed(self, data: bytes, stream: Stream | None = None) -> bool:
        stream = stream or await self.connection.open_stream(ECHO)

        async def write() -> None:
            await stream.write(data)
            stream.finish()

        _, back = await asyncio.gather(write(), stream.read_to_end(WHOLE))
        stream.close()
        return back == data

    async def streams(self) -> Facts:
        # Agreed before the next is opened, as by every other dialer. js-libp2p misses an end that comes
        # with the first bytes (@libp2p/utils 7.4.1, abstract-message-stream.js, asyncIterator).
        opened = []
        for _ in range(100):
            opened.append(await self.connection.open_stream(ECHO))
            await opened[-1].negotiated()
        same = await asyncio.gather(*(self._is_echoed(os.urandom(1024), each) for each in opened))
        return {"streams": len(opened), "same": sum(same)}

    async def bulk(self) -> Facts:
        size = 64 << 20
        return {"bytes": size, "up": await self._is_sunk(size), "down": await self._is_sourced(size)}

    async def _is_sunk(self, size: int) -> bool:
        stream = await self.connection.open_stream(SINK)
        sent = await pump(stream, size)
        stream.finish()
        return await stream.read_to_end() == sent

    async def _is_sourced(self, size: int, pause: float = 0) -> bool:
        stream = await self.connection.open_stream(SOURCE)
        await stream.write(size.to_bytes(8, "big"))
        stream.finish()
        await asyncio.sleep(pause)  # scenario: a reader that is busy elsewhere
        digest, left = hashlib.sha256(), size
        while left:
            data = await stream.read(min(left, BLOCK))
            if not data:
                raise EOFError(f"the source ended {left} bytes early")
            digest.update(data)
            left -= len(data)
        return await stream.read_to_end() == digest.digest()

    async def load(self) -> Facts:
        async def short_ones() -> int:
            return sum([await self._is_echoed(os.urandom(1024)) for _ in range(300)])

        up, same = await asyncio.gather(self._is_sunk(16 << 20), short_ones())
        return {"streams": 300, "same": same, "up": up}

    async def slow(self) -> Facts:
        size = 16 << 20
        return {"bytes": size, "down": await self._is_sourced(size, pause=2)}

    async def note(self) -> Facts:
        stream = await self.connection.open_stream(NOTE)
        await stream.write(os.urandom(BLOCK))
        stream.close()
        await ping_rounds(self.connection, 1)
        await asyncio.sleep(1)  # scenario: the connection outlives the stream
        return {"bytes": BLOCK}

    async def stop(self) -> Facts:
        answered = closed = 0
        for _ in range(1100):
            stream = await self.connection.open_stream(STOP)
            await stream.write(b"x")
            answered += await stream.read_to_end() == b"x"
            with suppress(QUICError):
                # The peer reads no more, which it may say at any time.
                await stream.write(bytes(1024))
            stream.close()
            closed += 1
        await ping_rounds(self.connection, 1)
        return {"streams": 1100, "answered": answered, "closed": closed}

    async def early(self) -> Facts:
        for _ in range(10):
            self.connection.close()
            self.connection = await self.endpoint.connect(self.addresses[0])
        await ping_rounds(self.connection, 1)
        return {"rounds": 10}

    async def linger(self) -> Facts:
        stream = await self.connection.open_stream(NOTE)
        await stream.write(os.urandom(BLOCK))
        stream.close()
        self.connection.close()
        return {"bytes": BLOCK}

    async def many(self) -> Facts:
        connections = await asyncio.gather(*map(self.endpoint.connect, self.addresses[1:]))
        everyone = [self.connection, *connections]
        await asyncio.gather(*(ping_rounds(each, 1) for each in everyone))
        return {"remotes": [str(each.peer_id) for each in everyone]}

    async def reset(self) -> Facts:
        stream = await self.connection.open_stream(RESET)
        await stream.write(b"x")
        is_cut, read_code, write_code = False, None, None
        try:
            await stream.read_to_end()
        except QUICError as error:
            is_cut, read_code = True, error.error_code
        try:
            while True:
                await stream.write(b"x")
                # The listener's request to stop may come after its reset.
                await asyncio.sleep(0)  # scenario: a writer that lets others run
        except QUICError as error:
            write_code = error.error_code
        watched = await self.connection.open_stream(WATCH)
        await watched.write(b"x")
        await watched.read_exactly(1)
        watched.reset(DIALER_CODE)
        # The connection must outlive the reset, and this shows that it does.
        await ping_rounds(self.connection, 1)
        return {"cut": is_cut, "read_code": read_code, "write_code": write_code}

    async def close(self) -> Facts:
        stream = await self.connection.open_stream(CLOSE)
        await stream.write(b"x")
        is_cut, code = False, None
        try:
            await stream.read_to_end()
        except QUICError as error:
            is_cut, code = True, error.error_code
        self.connection = await self.endpoint.connect(self.addresses[0])
        watched = await self.connection.open_stream(WATCH)
        await watched.write(b"x")
        await watched.read_exactly(1)
        self.connection.close(DIALER_CODE)
        return {"cut": is_cut, "code": code}

    async def idle(self) -> Facts:
        await ping_rounds(self.connection, 1)
        await asyncio.sleep(35)  # scenario: a connection on which nothing happens
        await ping_rounds(self.connection, 1)
        return {"seconds": 35}

    async def restart(self) -> Facts:
        """The runner kills the listener after "ready", starts it again and writes a line."""
        await ping_rounds(self.connection, 1)
        tell(event="ready")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        began = time.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                connection = await asyncio.wait_for(self.endpoint.connect(self.addresses[0]), 5)
                await asyncio.wait_for(ping_rounds(connection, 1), 5)
                return {"seconds": round(time.monotonic() - began, 1), "tries": tries}
            except ERRORS:
                await asyncio.sleep(0.5)  # scenario: a node that tries again


async def dial(arguments: argparse.Namespace) -> None:
    async with Endpoint(identity(arguments)) as endpoint:
        who = str(endpoint.peer_id)
        try:
            dialer = Dialer(endpoint, [arguments.address, *arguments.more])
            if not hasattr(dialer, arguments.case):
                raise ValueError(f"no case {arguments.case}")
            tell(ok=True, self=who, **await dialer.run(arguments.case))
        except ERRORS as error:
            tell(ok=False, self=who, error=f"{type(error).__name__}: {error}")


def identity(arguments: argparse.Namespace) -> Identity:
    if arguments.seed:
        return Identity.from_secret("ed25519", bytes.fromhex(arguments.seed))
    return Identity.generate(arguments.key)


def about() -> None:
    can = ["reset", "reset code", "close code", "linger", "same port", "post-quantum", "retry"]
    can += ["same certificate"]
    keys = ["ed25519", "secp256k1", "ecdsa"]
    tell(program="an asyncio program", stack=f"libp2p-quic {__version__}", keys=keys, can=can)


def main() -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    describing = commands.add_parser("about")
    listening = commands.add_parser("listen")
    listening.add_argument("--ip", type=int, choices=(4, 6), default=4)
    listening.add_argument("--port", type=int, default=0)
    listening.add_argument("--retry", choices=["always"], default="")
    dialing = commands.add_parser("dial")
    dialing.add_argument("address")
    dialing.add_argument("case")
    dialing.add_argument("more", nargs="*", help="further addresses, for the case many")
    for command in (listening, dialing):
        command.add_argument("--key", default="ed25519")
        command.add_argument("--seed", help="32 bytes in hexadecimal: the ed25519 key")
    for command in (describing, listening):
        command.add_argument("--transport", choices=LAST_PARTS, default="quic-v1")
    arguments = parser.parse_args()
    if arguments.command == "about":
        about()
    else:
        asyncio.run(listen(arguments) if arguments.command == "listen" else dial(arguments))


if __name__ == "__main__":
    main()
