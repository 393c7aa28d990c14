"""The demonstration's command line: `python -m tools.demo --help`, or `make demo`.

Runs the pair of processes once per transport and compares. Exits with 0 if every step succeeded, 1 if one
failed, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys

import trio

from tools.demo.pair import Figures, StepError, run_pair
from tools.demo.screen import Screen, comparison, readable

_DESCRIPTION = """\
Two processes, each a py-libp2p host, connect over 127.0.0.1: first with
libp2p-quic, then with py-libp2p's own QUIC transport.

Each pair connects, exchanges pings on /ipfs/ping/1.0.0, and transfers bytes over one stream in writes of
64 KiB. The receiver checks their SHA-256."""

_METHOD = """\
what is measured:
  dial        the transport's dial, from the call to a verified peer, with libp2p-quic also admitted
              by the listener's gates. host.connect() takes at least 250 ms on any transport:
              py-libp2p waits for better addresses.
  ping        one 32-byte round trip on an open stream, at the dialer; the median is shown
  goodput     payload bytes by the receiver's clock, from the transfer's header to the last
              byte. The receiver's SHA-256 runs in a separate thread on the same processors; the sender's
              is computed before the clock starts.

examples:
  python -m tools.demo                              everything, about a minute
  python -m tools.demo --size 64MiB --stock-size 1MiB
  python -m tools.demo --transport libp2p-quic --pings 1000"""

_UNITS = {"": 1, "B": 1, "K": 2**10, "KIB": 2**10, "M": 2**20, "MIB": 2**20, "G": 2**30, "GIB": 2**30}
_NAMES = {"libp2p-quic": "libp2p-quic", "stock": "py-libp2p's own QUIC (aioquic)"}


def byte_count(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 65536, 64MiB or 1GiB")
    size = int(float(match[1]) * _UNITS[match[2].upper()])
    if size < 1:
        raise argparse.ArgumentTypeError("a transfer has at least one byte")
    return size


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description=_DESCRIPTION,
        epilog=_METHOD,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--transport",
        choices=["both", *_NAMES],
        default="both",
        help="which transport to run; the table needs both (default: both)",
    )
    parser.add_argument(
        "--size", type=byte_count, default="1GiB", help="bytes to transfer with libp2p-quic (default: 1GiB)"
    )
    parser.add_argument(
        "--stock-size",
        type=byte_count,
        default="16MiB",
        help="bytes to transfer with py-libp2p's own transport, which is slow (default: 16MiB)",
    )
    parser.add_argument("--pings", type=positive, default=100, help="round trips (default: 100)")
    parser.add_argument("--port", type=port_number, default=0, help="UDP port of the listener (default: any)")
    parser.add_argument(
        "--at-least",
        type=float,
        metavar="RATIO",
        help="fail unless the goodput is RATIO times the stock transport's (needs both)",
    )
    parsed = parser.parse_args(arguments)
    if parsed.at_least is not None and parsed.transport != "both":
        parser.error("--at-least compares, so it needs --transport both")
    return parsed


async def run(arguments: argparse.Namespace) -> None:
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} processors")
    sizes = {"libp2p-quic": arguments.size, "stock": arguments.stock_size}
    figures: dict[str, Figures] = {}
    for transport, name in _NAMES.items():
        if arguments.transport in ("both", transport):
            size = sizes[transport]
            print(f"\n{name}: two processes, {readable(size)} over one stream", flush=True)
            figures[transport] = await run_pair(transport, size, arguments.pings, arguments.port, Screen())
    if arguments.transport == "both":
        ours, stock = figures["libp2p-quic"], figures["stock"]
        print(f"\n{comparison(ours, stock)}\n")
        ratio = ours.gigabits / stock.gigabits
        if arguments.at_least is not None and ratio < arguments.at_least:
            raise StepError(f"{ratio:.1f} times the stock goodput; --at-least is {arguments.at_least:g}")
    print("Every step held.")


def main() -> int:
    arguments = parse()
    try:
        trio.run(run, arguments)
    except StepError as failure:
        print(f"\nFailed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; both processes were ended.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
