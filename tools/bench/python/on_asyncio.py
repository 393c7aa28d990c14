"""The contender that is an asyncio program over `libp2p_quic.asyncio`, with the command line of
tools/bench/README.md: `python -m tools.bench.python.on_asyncio [--uvloop] serve`, or
`... dial ADDRESS MEASURE name=value...`. The measures are in `asyncio_measures`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable

from libp2p_quic import Identity
from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Listener, QUICError, Stream
from tools.bench.python.asyncio_measures import answer, dial, parser, until_stdin_ends

LISTEN = "/ip4/127.0.0.1/udp/0/quic-v1"
# Every connection of a measure comes from one address.
CONFIG = EndpointConfig(max_concurrent_streams=256, max_connections=100_000, max_connections_per_address=None)


async def answer_one(stream: Stream) -> None:
    try:
        await answer(stream)
    except (QUICError, asyncio.IncompleteReadError):
        # The dialer ends streams and reports its own failures.
        return


async def serve_all(listener: Listener, tasks: set[asyncio.Task[None]]) -> None:
    def start(work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def one(connection: Connection) -> None:
        try:
            while True:
                start(answer_one(await connection.accept_stream()))
        except QUICError:
            # The dialer closed it, as is expected.
            return

    async for connection in listener:
        start(one(connection))


async def run(arguments: argparse.Namespace) -> None:
    async with Endpoint(Identity.generate(), CONFIG) as endpoint:
        if arguments.role == "dial":
            await dial(endpoint, arguments)
            return
        listener = await endpoint.listen(LISTEN)
        tasks: set[asyncio.Task[None]] = set()
        serving = asyncio.ensure_future(serve_all(listener, tasks))
        await until_stdin_ends(f"{listener.address}/p2p/{endpoint.peer_id}")
        serving.cancel()


def main() -> None:
    arguments_of = parser("python -m tools.bench.python.on_asyncio")
    arguments_of.add_argument("--uvloop", action="store_true", help="uvloop instead of asyncio's own loop")
    arguments = arguments_of.parse_args()
    if arguments.uvloop:
        import uvloop

        uvloop.run(run(arguments))
    else:
        asyncio.run(run(arguments))


if __name__ == "__main__":
    main()
