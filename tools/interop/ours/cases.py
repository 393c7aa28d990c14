"""The dialer's side of each case of tools/interop/README.md; each returns its facts."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.ping import ID as PING
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.perf import PerfService
from libp2p.transport.quic.exceptions import QUICError
from multiaddr import Multiaddr

from tools.interop.ours import wire
from tools.interop.ours.wire import (
    BACK,
    BLOCK,
    CLOSE,
    DIALER_CODE,
    ECHO,
    ERRORS,
    NOTE,
    RESET,
    SINK,
    SOURCE,
    STOP,
    WATCH,
    close_connection,
    code_of,
    drained,
    finish,
    pump,
    tell,
    together,
)


async def handshake(host: IHost, peer: ID) -> dict[str, object]:
    await ping_rounds(host, peer, 1)
    return {"remote": str(peer)}


async def ping(host: IHost, peer: ID) -> dict[str, object]:
    return {"rounds": await ping_rounds(host, peer, 100)}


async def ping_rounds(host: IHost, peer: ID, rounds: int) -> int:
    stream = await host.new_stream(peer, [PING])
    for _ in range(rounds):
        await perform_ping_roundtrip(stream)
    await stream.close()
    return rounds


async def identify(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [TProtocol(str(IDENTIFY))])
    answer = parse_identify_response(await drained(stream))
    await stream.close()
    return {
        "agent": answer.agent_version,
        "protocols": list(answer.protocols),
        "observed": str(Multiaddr(answer.observed_addr)) if answer.observed_addr else None,
    }


async def echo(host: IHost, peer: ID) -> dict[str, object]:
    data = os.urandom(1 << 20)
    stream = await host.new_stream(peer, [ECHO])
    return {"bytes": len(data), "same": await echoed(stream, data) == data}


async def echoed(stream: INetStream, data: bytes) -> bytes:
    """Write ``data``, finish, and concurrently read the answer to its end."""
    back = b""

    async def read() -> None:
        nonlocal back
        back = await drained(stream)

    async def write() -> None:
        for start in range(0, len(data), BLOCK):
            await stream.write(data[start : start + BLOCK])
        await finish(stream)

    await together(read, write)
    await stream.close()
    return back


async def streams(host: IHost, peer: ID) -> dict[str, object]:
    opened: list[INetStream] = []

    async def open_one() -> None:
        opened.append(await host.new_stream(peer, [ECHO]))

    await together(*[open_one] * 100)
    same = 0

    async def use(stream: INetStream) -> None:
        nonlocal same
        data = os.urandom(1024)
        is_same = await echoed(stream, data) == data
        same += is_same

    # All of them are open before the first one is used.
    await together(*[partial(use, stream) for stream in opened])
    return {"streams": len(opened), "same": same}


async def bulk(host: IHost, peer: ID) -> dict[str, object]:
    size = 64 << 20
    stream = await host.new_stream(peer, [SINK])
    sent = await pump(stream, size)
    await finish(stream)
    is_up_same = await drained(stream) == sent
    await stream.close()
    return {"bytes": size, "up": is_up_same, "down": await is_sourced(host, peer, size)}


async def is_sourced(host: IHost, peer: ID, size: int, pause: float = 0) -> bool:
    """Whether the bytes of ``source`` match their SHA-256. Nothing is read for ``pause`` seconds."""
    stream = await host.new_stream(peer, [SOURCE])
    await stream.write(size.to_bytes(8, "big"))
    await finish(stream)
    await trio.sleep(pause)  # scenario: the reader pauses
    digest, left = hashlib.sha256(), size
    while left:
        data = await stream.read(min(left, BLOCK))
        digest.update(data)
        left -= len(data)
    is_same = await drained(stream) == digest.digest()
    await stream.close()
    return is_same


async def load(host: IHost, peer: ID) -> dict[str, object]:
    is_up_same = False
    same = 0

    async def bulk_meanwhile() -> None:
        nonlocal is_up_same
        stream = await host.new_stream(peer, [SINK])
        sent = await pump(stream, 16 << 20)
        await finish(stream)
        is_up_same = await drained(stream) == sent
        await stream.close()

    async def short_ones() -> None:
        nonlocal same
        for _ in range(300):
            data = os.urandom(1024)
            same += await echoed(await host.new_stream(peer, [ECHO]), data) == data

    await together(bulk_meanwhile, short_ones)
    return {"streams": 300, "same": same, "up": is_up_same}


async def slow(host: IHost, peer: ID) -> dict[str, object]:
    size = 16 << 20
    return {"bytes": size, "down": await is_sourced(host, peer, size, pause=2)}


async def note(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [NOTE])
    await stream.write(os.urandom(BLOCK))
    await stream.close()
    await ping_rounds(host, peer, 1)
    await trio.sleep(1)  # scenario: the connection outlives the stream
    return {"bytes": BLOCK}


async def stop(host: IHost, peer: ID) -> dict[str, object]:
    answered, closed = 0, 0
    for _ in range(1100):
        stream = await host.new_stream(peer, [STOP])
        await stream.write(b"x")
        answered += await drained(stream) == b"x"
        with suppress(StreamError):
            # The peer has stopped reading, so this write may fail.
            await stream.write(bytes(1024))
        await stream.close()
        closed += 1
    await ping_rounds(host, peer, 1)
    return {"streams": 1100, "answered": answered, "closed": closed}


async def early(host: IHost, peer: ID) -> dict[str, object]:
    info = host_info(host, peer)
    for _ in range(10):
        await host.disconnect(peer)
        await host.connect(info)
    await ping_rounds(host, peer, 1)
    return {"rounds": 10}


async def linger(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [NOTE])
    await stream.write(os.urandom(BLOCK))
    await stream.close()
    await close_connection(stream, 0)
    return {"bytes": BLOCK}


async def many(host: IHost, *peers: ID) -> dict[str, object]:
    remotes = []

    async def meet(peer: ID) -> None:
        await host.connect(host_info(host, peer))
        remotes.append(str(peer))

    async def use(peer: ID) -> None:
        await ping_rounds(host, peer, 1)

    await together(*[partial(meet, peer) for peer in peers])
    await together(*[partial(use, peer) for peer in peers])
    return {"remotes": remotes}


async def back(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [BACK])
    await stream.write(b"x")
    # The host answers the listener's ping concurrently.
    answer = await drained(stream)
    await stream.close()
    return {"answer": answer[0]}


async def listening(host: IHost, peer: ID) -> dict[str, object]:
    identified = await identify(host, peer)
    return {"observed": identified["observed"], "addrs": [str(address) for address in host.get_addrs()]}


async def perf(host: IHost, peer: ID) -> dict[str, object]:
    size = 8 << 20
    address = host_info(host, peer).addrs[0].encapsulate(Multiaddr(f"/p2p/{peer}"))
    async for report in PerfService(host).measure_performance(address, size, size):
        if report["type"] == "final":
            return {"sent": report["upload_bytes"], "received": report["download_bytes"]}
    raise ValueError("the perf service ended without figures")


async def reset(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [RESET])
    await stream.write(b"x")
    is_cut, read_code, write_code = False, None, None
    try:
        await drained(stream)
    except StreamError as error:
        is_cut, read_code = True, code_of(error)
    muxed = cast(NetStream, stream).muxed_stream
    try:
        # The listener sent STOP_SENDING, too, which may arrive after its reset. The muxed stream is used,
        # because py-libp2p's own ends both directions after the first error.
        while True:
            await muxed.write(b"x")
            await trio.lowlevel.checkpoint()
    except (BaseLibp2pError, QUICError) as error:
        write_code = code_of(error)
    watched = await host.new_stream(peer, [WATCH])
    await watched.write(b"x")
    await read_exactly(watched, 1)
    await wire.reset(watched, DIALER_CODE)
    # Shows that the connection outlives the reset.
    await ping_rounds(host, peer, 1)
    return {"cut": is_cut, "read_code": read_code, "write_code": write_code}


async def close(host: IHost, peer: ID) -> dict[str, object]:
    stream = await host.new_stream(peer, [CLOSE])
    await stream.write(b"x")
    is_cut, code = False, None
    try:
        await drained(stream)
    except StreamError as error:
        is_cut, code = True, code_of(error)
    await host.disconnect(peer)
    await host.connect(host_info(host, peer))
    watched = await host.new_stream(peer, [WATCH])
    await watched.write(b"x")
    await read_exactly(watched, 1)
    await close_connection(watched, DIALER_CODE)
    return {"cut": is_cut, "code": code}


def host_info(host: IHost, peer: ID) -> Any:
    return host.get_peerstore().peer_info(peer)


async def idle(host: IHost, peer: ID) -> dict[str, object]:
    await ping_rounds(host, peer, 1)
    await trio.sleep(35)  # scenario: a connection on which nothing happens
    await ping_rounds(host, peer, 1)
    return {"seconds": 35}


async def restart(host: IHost, peer: ID) -> dict[str, object]:
    """The runner kills the listener after "ready", starts it again and writes a line."""
    await ping_rounds(host, peer, 1)
    info = host_info(host, peer)
    tell(event="ready")
    await trio.to_thread.run_sync(sys.stdin.readline)
    began = trio.current_time()
    tries = 0
    while True:
        tries += 1
        with trio.move_on_after(5):
            try:
                await host.connect(info)
                await ping_rounds(host, peer, 1)
                return {"seconds": round(trio.current_time() - began, 1), "tries": tries}
            except ERRORS:
                await trio.sleep(0.5)  # scenario: a node that tries again


CASES: dict[str, Callable[..., Awaitable[dict[str, object]]]] = {
    "handshake": handshake,
    "ping": ping,
    "identify": identify,
    "echo": echo,
    "streams": streams,
    "bulk": bulk,
    "reset": reset,
    "close": close,
    "load": load,
    "slow": slow,
    "note": note,
    "stop": stop,
    "early": early,
    "linger": linger,
    "many": many,
    "back": back,
    "listening": listening,
    "perf": perf,
    "idle": idle,
    "restart": restart,
}
