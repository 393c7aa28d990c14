"""The program for unified-testing's transport suite: connect, ping once, print the time of both.

`python -m tools.interop.unified.ping`, as listener or dialer, as the environment says.
"""

from __future__ import annotations

import sys
import time

import trio
from libp2p.host.ping import ID as PING
from libp2p.host.ping import perform_ping_roundtrip
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from tools.interop.unified.harness import Harness, run
from tools.interop.unified.node import published_address, running_node


async def listen(harness: Harness) -> None:
    # Every host of py-libp2p answers pings.
    async with running_node(harness.listener_ip) as host:
        harness.push_address(published_address(host))
        await trio.sleep_forever()


async def dial(harness: Harness) -> None:
    listener = info_from_p2p_addr(Multiaddr(await harness.pop_address()))
    async with running_node() as host:
        began = time.perf_counter()
        await host.connect(listener)
        stream = await host.new_stream(listener.peer_id, [PING])
        ping_began = time.perf_counter()
        await perform_ping_roundtrip(stream)
        ended = time.perf_counter()
        await stream.close()
    print(
        "latency:",
        f"  handshake_plus_one_rtt: {(ended - began) * 1e3:.3f}",
        f"  ping_rtt: {(ended - ping_began) * 1e3:.3f}",
        "  unit: ms",
        sep="\n",
    )


if __name__ == "__main__":
    sys.exit(run("The transport program of libp2p's unified-testing, on libp2p-quic.", listen, dial))
