"""One of the two processes: a real py-libp2p host that listens, or one that dials.

It reports to its parent, one JSON object per line on standard output, and exits when its standard input
is closed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream, IRawConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.ping import ID as PING
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from tools.demo.payload import BLOCK, Payload, RunningDigest

if TYPE_CHECKING:
    from libp2p.abc import ITransport
    from libp2p.crypto.keys import PrivateKey

TRANSFER = TProtocol("/libp2p-quic/demo/transfer/1.0.0")
"""8 bytes of length (big-endian), 32 bytes of SHA-256, then the payload. The receiver answers
with the 32 bytes of SHA-256 that it computed, and only then the sender finishes the stream: the stock
transport can report a finish that arrives with the last bytes before those bytes."""

_PROGRESS_INTERVAL = 0.1
"""Seconds between two progress reports."""


def make_transport(name: str, key: PrivateKey) -> ITransport:
    """The transport: the only difference between the two runs of the demonstration."""
    if name == "libp2p-quic":
        from libp2p_quic import QUICTransport

        return QUICTransport(key)
    from libp2p.transport.quic.transport import QUICTransport as StockTransport

    return StockTransport(key)


def make_host(transport_name: str) -> tuple[IHost, list[float]]:
    """A host on that transport, and the list that gets the seconds of each of its dials.

    The transport's own dial is timed, because py-libp2p's swarm waits out 250 ms for a
    better address even when the first one has answered: `host.connect` would show that.
    """
    key_pair = create_new_key_pair()
    transport = make_transport(transport_name, key_pair.private_key)
    dial_plainly = transport.dial
    seconds: list[float] = []

    async def dial_timed(maddr: Multiaddr) -> IRawConnection:
        began = time.perf_counter()
        connection = await dial_plainly(maddr)
        seconds.append(time.perf_counter() - began)
        return connection

    transport.dial = dial_timed  # type: ignore[method-assign]
    return new_host(key_pair=key_pair, transports=[transport]), seconds


def tell(event: str, **facts: object) -> None:
    """Report to the process that started this one."""
    print(json.dumps({"event": event, **facts}), flush=True)


async def wait_for_end_of_input() -> None:
    """Return when standard input is closed, by the parent or by its end."""
    await trio.lowlevel.wait_readable(sys.stdin.fileno())


async def receive(stream: INetStream) -> None:
    """Receive one transfer: count, hash, compare, answer."""
    header = await read_exactly(stream, 40)
    size, promised = int.from_bytes(header[:8], "big"), header[8:]
    digest = RunningDigest()
    count = 0
    began = reported = time.perf_counter()
    # An early end of the stream shows as missing bytes.
    with suppress(StreamEOF):
        while count < size:
            chunk = await stream.read(BLOCK)
            count += len(chunk)
            await digest.update(chunk)
            now = time.perf_counter()
            if now - reported >= _PROGRESS_INTERVAL:
                reported = now
                tell("progress", bytes=count)
    seconds = time.perf_counter() - began
    computed = await digest.finish()
    await stream.write(computed)
    with suppress(StreamEOF):
        count += len(await stream.read(BLOCK))
    tell(
        "received",
        bytes=count,
        seconds=seconds,
        sha256=computed.hex(),
        intact=(count, computed) == (size, promised),
    )
    await stream.close()


async def listen(arguments: argparse.Namespace) -> None:
    host, _ = make_host(arguments.transport)
    host.set_stream_handler(TRANSFER, receive)
    address = Multiaddr(f"/ip4/127.0.0.1/udp/{arguments.port}/quic-v1")
    async with host.run(listen_addrs=[address]):
        (bound,) = host.get_addrs()
        tell("listening", peer_id=str(host.get_id()), address=str(bound))
        await wait_for_end_of_input()


async def dial(arguments: argparse.Namespace) -> None:
    payload = Payload(arguments.size)
    promised = await trio.to_thread.run_sync(payload.sha256)
    host, dial_seconds = make_host(arguments.transport)
    async with host.run(listen_addrs=[]):
        peer = info_from_p2p_addr(Multiaddr(arguments.address))
        tell("dialing", peer_id=str(host.get_id()))

        await host.connect(peer)
        (connection, *_) = host.get_network().get_connections(peer.peer_id)
        tell("connected", seconds=dial_seconds[0], peer_id=str(connection.muxed_conn.peer_id))

        # py-libp2p's service reports whole milliseconds, so its own round trip is timed here.
        stream = await host.new_stream(peer.peer_id, [PING])
        round_trips = []
        for _ in range(arguments.pings):
            began = time.perf_counter()
            await perform_ping_roundtrip(stream)
            round_trips.append(time.perf_counter() - began)
        await stream.close()
        tell("pinged", seconds=round_trips)

        stream = await host.new_stream(peer.peer_id, [TRANSFER])
        await stream.write(payload.size.to_bytes(8, "big") + promised)
        for block in payload.blocks():
            await stream.write(block)
        answer = await read_exactly(stream, 32)
        await stream.close()
        tell("answered", intact=answer == promised)
        await wait_for_end_of_input()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.demo.peer", description=__doc__)
    parser.add_argument("--transport", choices=["libp2p-quic", "stock"], required=True)
    roles = parser.add_subparsers(required=True)
    listener = roles.add_parser("listen")
    listener.add_argument("--port", type=int, required=True)
    listener.set_defaults(role=listen)
    dialer = roles.add_parser("dial")
    dialer.add_argument("--address", required=True)
    dialer.add_argument("--size", type=int, required=True)
    dialer.add_argument("--pings", type=int, required=True)
    dialer.set_defaults(role=dial)
    arguments = parser.parse_args()
    trio.run(arguments.role, arguments)


if __name__ == "__main__":
    main()
