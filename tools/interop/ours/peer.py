"""The peer of py-libp2p, on this project's transport or (``--stock``) on py-libp2p's own.

It has the command line of tools/interop/README.md and uses a real host. Both transports run the same
code, so the two rows differ by the transport only. This module has the arguments, the keys and the
listener; `cases` has the dialer.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream, ITransport
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.keys import KeyPair
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.perf import PerfService
from libp2p.transport.quic import transport as stock_quic
from libp2p.transport.webtransport import transport as stock_webtransport
from multiaddr import Multiaddr

import libp2p_quic
from tools.interop.ours import ecdsa
from tools.interop.ours.cases import CASES, ping_rounds
from tools.interop.ours.wire import (
    BACK,
    BLOCK,
    CLOSE,
    ECHO,
    ERRORS,
    LISTENER_CODE,
    NOTE,
    RESET,
    SINK,
    SOURCE,
    STOP,
    WATCH,
    close_connection,
    code_of,
    drained,
    pump,
    reset,
    tell,
)

STOCK_KEYS: dict[str, Callable[[], KeyPair]] = {
    "ed25519": ed25519.create_new_key_pair,
    "secp256k1": secp256k1.create_new_key_pair,
    "rsa": rsa.create_new_key_pair,
}
# py-libp2p has no ECDSA key in libp2p's encoding, and cannot verify those of others.
KEYS = {**STOCK_KEYS, **ecdsa.KEYS}


LAST_PARTS = {"quic-v1": "quic-v1", "webtransport": "quic-v1/webtransport"}
"""The ends of the addresses to listen on, by transport."""


def make_host(is_stock: bool, over: str, pair: KeyPair, retry: str = "") -> IHost:
    transport: ITransport
    if is_stock:
        # By their modules: `install` warns of modules that hold the classes.
        if over == "webtransport":
            transport = stock_webtransport.WebTransportTransport(pair.private_key)
        else:
            transport = stock_quic.QUICTransport(pair.private_key)
    else:
        usual = libp2p_quic.QUICTransportConfig()
        config = libp2p_quic.QUICTransportConfig(retry_above=0) if retry else usual
        transport = libp2p_quic.QUICTransport(pair.private_key, config)
    return new_host(key_pair=pair, transports=[transport])


# The protocols of a listener


async def serve_echo(stream: INetStream) -> None:
    try:
        while True:
            await stream.write(await stream.read(BLOCK))
    except StreamEOF:
        await stream.close()


async def serve_sink(stream: INetStream) -> None:
    digest = hashlib.sha256()
    try:
        while True:
            digest.update(await stream.read(BLOCK))
    except StreamEOF:
        await stream.write(digest.digest())
        await stream.close()


async def serve_source(stream: INetStream) -> None:
    size = int.from_bytes(await read_exactly(stream, 8), "big")
    await stream.write(await pump(stream, size))
    await stream.close()


async def serve_reset(stream: INetStream) -> None:
    await read_exactly(stream, 1)
    await reset(stream, LISTENER_CODE)


async def serve_close(stream: INetStream) -> None:
    await read_exactly(stream, 1)
    await close_connection(stream, LISTENER_CODE)


async def serve_watch(stream: INetStream) -> None:
    peer = str(stream.muxed_conn.peer_id)
    try:
        await stream.write(await read_exactly(stream, 1))
        await drained(stream)
        tell(event="end", peer=peer, how="finished", code=None)
        await stream.close()
    except StreamError as error:
        tell(event="end", peer=peer, how="cut", code=code_of(error))


async def serve_note(stream: INetStream) -> None:
    data = await drained(stream)
    tell(event="note", peer=str(stream.muxed_conn.peer_id), bytes=len(data))
    await stream.close()


async def serve_stop(stream: INetStream) -> None:
    await stream.write(await read_exactly(stream, 1))
    await stream.close()


async def serve_back(host: IHost, stream: INetStream) -> None:
    await read_exactly(stream, 1)
    await ping_rounds(host, stream.muxed_conn.peer_id, 1)
    await stream.write(b"\x01")
    await stream.close()


# The command line


def about(is_stock: bool, over: str) -> None:
    stack = f"aioquic {version('aioquic')}" if is_stock else f"libp2p-quic {libp2p_quic.__version__}"
    can = ["reset", "both roles", "perf"]
    # The reset of py-libp2p's own WebTransport has no parameter for a code.
    can += [] if is_stock and over == "webtransport" else ["reset code"]
    if not is_stock:
        can += ["close code", "linger", "same port", "post-quantum", "retry", "same certificate"]
    tell(
        program=f"py-libp2p {version('libp2p')}",
        stack=stack,
        keys=list(STOCK_KEYS if is_stock else KEYS),
        can=can,
    )


def key_pair(arguments: argparse.Namespace) -> KeyPair:
    if arguments.seed:
        return ed25519.create_new_key_pair(bytes.fromhex(arguments.seed))
    return KEYS[arguments.key]()


class Connected:
    """Reports every inbound connection to the runner."""

    async def connected(self, network: object, connection: Any) -> None:
        tell(event="connected", peer=str(connection.muxed_conn.peer_id))

    async def _ignore(self, *_: object) -> None:
        pass

    disconnected = opened_stream = closed_stream = listen = listen_close = _ignore


@asynccontextmanager
async def running(host: IHost, *addresses: str) -> AsyncIterator[None]:
    async with host.run(listen_addrs=[Multiaddr(each) for each in addresses]):
        yield


async def listen(arguments: argparse.Namespace) -> None:
    host = make_host(arguments.stock, arguments.transport, key_pair(arguments), arguments.retry)
    served = (
        (ECHO, serve_echo),
        (SINK, serve_sink),
        (SOURCE, serve_source),
        (RESET, serve_reset),
        (CLOSE, serve_close),
        (WATCH, serve_watch),
        (NOTE, serve_note),
        (STOP, serve_stop),
        (BACK, partial(serve_back, host)),
    )
    for protocol, serve in served:
        host.set_stream_handler(protocol, serve)
    await PerfService(host).start()
    host.get_network().register_notifee(cast(Any, Connected()))
    ip = "/ip4/127.0.0.1" if arguments.ip == 4 else "/ip6/::1"
    async with running(host, f"{ip}/udp/{arguments.port}/{LAST_PARTS[arguments.transport]}"):
        tell(peer=str(host.get_id()), addrs=[str(address) for address in host.get_addrs()])
        await trio.to_thread.run_sync(sys.stdin.read)


async def dial(arguments: argparse.Namespace) -> None:
    over = "webtransport" if "/webtransport" in arguments.address else "quic-v1"
    host = make_host(arguments.stock, over, key_pair(arguments))
    peers = [info_from_p2p_addr(Multiaddr(each)) for each in (arguments.address, *arguments.more)]
    for peer in peers:
        host.get_peerstore().add_addrs(peer.peer_id, peer.addrs, 3600)
    own = [f"/ip4/127.0.0.1/udp/0/{LAST_PARTS[over]}"] if arguments.case == "listening" else []
    async with running(host, *own):
        try:
            await host.connect(peers[0])
            facts = await CASES[arguments.case](host, *[peer.peer_id for peer in peers])
        except ERRORS as error:
            tell(ok=False, self=str(host.get_id()), error=reason(error))
        else:
            tell(ok=True, self=str(host.get_id()), **facts)


def reason(error: BaseException | None) -> str:
    causes = []
    while error is not None:
        causes.append(f"{type(error).__name__}: {error}")
        causes += [reason(each) for each in getattr(error, "errors", ())]
        error = error.__cause__
    return " <- ".join(causes)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stock", action="store_true", help="py-libp2p's own transport")
    commands = parser.add_subparsers(dest="command", required=True)
    describing = commands.add_parser("about")
    listening = commands.add_parser("listen")
    listening.add_argument("--ip", type=int, choices=(4, 6), default=4)
    listening.add_argument("--port", type=int, default=0)
    listening.add_argument("--retry", choices=["always"], default="", help="not with --stock")
    dialing = commands.add_parser("dial")
    dialing.add_argument("address")
    dialing.add_argument("case", choices=CASES)
    dialing.add_argument("more", nargs="*", help="further addresses, for the case many")
    for command in (listening, dialing):
        command.add_argument("--key", choices=KEYS, default="ed25519")
        command.add_argument("--seed", help="32 bytes in hexadecimal: the ed25519 key")
    for command in (describing, listening):
        command.add_argument("--transport", choices=LAST_PARTS, default="quic-v1")
    arguments = parser.parse_args()
    if arguments.command == "about":
        about(arguments.stock, arguments.transport)
    else:
        trio.run(listen if arguments.command == "listen" else dial, arguments)


if __name__ == "__main__":
    main()
