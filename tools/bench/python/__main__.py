"""A contender in Python, with the command line of tools/bench/README.md:
`python -m tools.bench.python [--stock] [--host] [--defaults] [--web only] serve`, or
`... dial ADDRESS MEASURE name=value...`. This module has the arguments and the listener.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial

import trio

from tools.bench.python.level import ENDS, WEB, Stream, running
from tools.bench.python.measures import MEASURES, drain, fill, measured, read_numbers
from tools.bench.python.usage import PIECE, usage


async def answer(stream: Stream) -> None:
    """Serve one stream: its first byte is the command."""
    try:
        what = await stream.read(1)
        if what == b"u":
            await tell(stream, *await drain(stream))
        elif what == b"d":
            size, limit = await read_numbers(stream, 2)
            await fill(stream, size, limit / 1e9)
        elif what == b"e":
            await echo(stream)
        else:
            await tell(stream, *usage())
        await stream.close()
    except ENDS:
        # The dialer ends streams and reports its own failures.
        return


async def echo(stream: Stream) -> None:
    try:
        while True:
            await stream.write(await stream.read(PIECE))
    except EOFError:
        return


async def tell(stream: Stream, *numbers: int) -> None:
    await stream.write(b"".join(number.to_bytes(8, "big") for number in numbers))


async def serve(arguments: argparse.Namespace) -> None:
    levels = (arguments.host, arguments.stock, arguments.defaults)
    async with running(*levels, is_listener=True, web=arguments.web) as node:
        print(json.dumps({"address": await node.listen(answer)}), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())


async def dial(arguments: argparse.Namespace) -> None:
    options = {name: int(value) for name, value in (option.split("=") for option in arguments.options)}
    async with running(arguments.host, arguments.stock, arguments.defaults, is_listener=False) as node:
        line = await measured(node, arguments.address, arguments.measure, options, arguments.stock)
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.bench.python")
    parser.add_argument("--stock", action="store_true", help="py-libp2p's own transport")
    parser.add_argument("--host", action="store_true", help="through a py-libp2p host")
    parser.add_argument("--defaults", action="store_true", help="py-libp2p's default windows and datagrams")
    parser.add_argument("--web", choices=WEB, default="off", help="listen on WebTransport too, or only")
    roles = parser.add_subparsers(required=True)
    roles.add_parser("serve").set_defaults(role=serve)
    dialing = roles.add_parser("dial")
    dialing.add_argument("address")
    dialing.add_argument("measure", choices=MEASURES)
    dialing.add_argument("options", nargs="*", metavar="name=value")
    dialing.set_defaults(role=dial)
    arguments = parser.parse_args()
    trio.run(partial(arguments.role, arguments))


if __name__ == "__main__":
    main()
