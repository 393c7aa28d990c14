"""Ping over QUIC: with `install()`, a program that asks for QUIC stays as it is.

python examples/ping.py            # listens, prints its address
python examples/ping.py ADDRESS    # dials, prints five round trips
"""

import sys
import time

import trio
from libp2p import new_host
from libp2p.host.ping import ID, perform_ping_roundtrip
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

import libp2p_quic

libp2p_quic.install()  # the only line that a program on py-libp2p's own QUIC does not have


async def main(address: str | None = None) -> str | None:
    host = new_host(enable_quic=True)
    listen = [] if address else [Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]
    async with host.run(listen_addrs=listen):
        if address is None:
            if not host.get_addrs():
                return "not listening: the line above says why"
            print(host.get_addrs()[0], flush=True)
            await trio.sleep_forever()
        else:
            peer = info_from_p2p_addr(Multiaddr(address))
            await host.connect(peer)
            stream = await host.new_stream(peer.peer_id, [ID])
            for _ in range(5):
                began = time.perf_counter()
                await perform_ping_roundtrip(stream)
                print(f"{(time.perf_counter() - began) * 1e6:.0f} µs")
            await stream.close()
    return None


if __name__ == "__main__":
    sys.exit(trio.run(main, *sys.argv[1:2]))
