"""The program of a machine with addresses of one family: a py-libp2p host, or an asyncio endpoint, uses that
family and tries the other one.

Its arguments are "py-libp2p" or "asyncio", and three multiaddrs: one to listen on, and two of the other
family, to listen on and to dial. It prints one line of JSON: whether a peer echoed all bytes, the address
that was reached, and the errors of the other family.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable
from typing import Any

import trio
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import install
from libp2p_quic.asyncio import Endpoint, EndpointConfig, Identity, QUICError, Stream
from testkit.asyncio_ends import Ends, raw_streams
from testkit.causes import described
from testkit.host import ECHO, echo
from testkit.near import connection, near_host, new_stream, transport_of
from testkit.payload import MIB, Drained, echoed, payload, sha256

Facts = dict[str, object]

# Longer than any test may take: a dial that waits for it fails the test. Seconds.
HANDSHAKE_TIMEOUT = 300.0


async def error_of(attempt: Awaitable[object]) -> list[dict[str, Any]]:
    """The error of this package that ``attempt`` raises, and its causes. Empty if it raises none."""
    try:
        await attempt
    except QUICError as error:
        return described(error)
    return []


async def of_py_libp2p(own: str, refused: str, unreachable: str) -> Facts:
    """The dialed peer also has the unreachable address. A dial tries IPv6 first (RFC 8305 section 4)."""
    data, config = payload(1, MIB), {"CONNECTION_HANDSHAKE_TIMEOUT": HANDSHAKE_TIMEOUT}
    async with near_host(own) as listening, near_host(own, config=config) as dialing:
        listening.set_stream_handler(ECHO, echo)
        peer = listening.get_id()
        await dialing.connect(PeerInfo(peer, [Multiaddr(unreachable), *listening.get_addrs()]))
        back = await echoed(await new_stream(dialing, peer, ECHO), data)
        transport = transport_of(dialing)
        listener = transport.create_listener(lambda accepted: accepted.start())
        return {
            "is_echoed": back == Drained(MIB, sha256(data), "StreamEOF"),
            "reached": str(connection(dialing, peer).get_transport_addresses()[0]),
            "listening": await error_of(listener.listen(Multiaddr(refused))),
            "dialing": await error_of(transport.dial(Multiaddr(unreachable))),
        }


async def of_asyncio(own: str, refused: str, unreachable: str) -> Facts:
    data, config = payload(1, MIB), EndpointConfig(handshake_timeout=HANDSHAKE_TIMEOUT)
    async with Endpoint(Identity.generate(), config) as dialing, Endpoint(Identity.generate()) as listening:
        near, far = await Ends(dialing, listening, await listening.listen(own)).connected()
        ours, theirs = await raw_streams(near, far)
        back = await carried(theirs, ours, await carried(ours, theirs, data))
        return {
            "is_echoed": back == data,
            "reached": near.remote_address,
            "listening": await error_of(dialing.listen(refused)),
            "dialing": await error_of(dialing.connect(unreachable)),
        }


async def carried(sender: Stream, receiver: Stream, data: bytes) -> bytes:
    """What arrives of ``data`` at the other end of the stream."""
    return (await asyncio.gather(receiver.read_exactly(len(data)), sender.write(data)))[0]


def main(interface: str, own: str, refused: str, unreachable: str) -> None:
    if interface == "py-libp2p":
        # py-libp2p's own dial tries the first address of a peer only.
        install()
        facts = trio.run(of_py_libp2p, own, refused, unreachable)
    else:
        facts = asyncio.run(of_asyncio(own, refused, unreachable))
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
