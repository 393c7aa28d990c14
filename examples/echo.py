"""An echo over QUIC between two hosts: hand the transport to `new_host` yourself.

python examples/echo.py                  # listens, prints its address
python examples/echo.py ADDRESS hello    # dials, prints what comes back
"""

import sys

import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.io.utils import read_exactly
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, explain

ECHO = TProtocol("/example/echo/1.0.0")


async def echo(stream: INetStream) -> None:
    try:
        await stream.write(await stream.read(1024))
        await stream.close()
    except StreamError as error:
        # The peer reset the stream, or is gone. An error that leaves a handler ends the host.
        print(f"a stream broke: {explain(error)}", file=sys.stderr)
        await stream.reset()


async def main(address: str | None = None, text: str = "hello") -> str | None:
    key_pair = create_new_key_pair()
    host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])
    host.set_stream_handler(ECHO, echo)
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
            stream = await host.new_stream(peer.peer_id, [ECHO])
            await stream.write(text.encode())
            print((await read_exactly(stream, len(text.encode()))).decode())
            await stream.close()
    return None


if __name__ == "__main__":
    sys.exit(trio.run(main, *sys.argv[1:3]))
