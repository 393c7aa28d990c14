"""Measures what qlog costs: the processor time of a transfer without it, with it, and in a version before it.

``python -m tools.qlog_cost`` runs the transfer in processes of its own, in turn, so that other programs of
the machine disturb all settings alike. ``--before PYTHON`` adds another version: the interpreter of an
environment in which it is installed. Both ends are in one process, and the time is that of all its threads
until both have closed, the threads that write the files included.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

# An older version has these names, too: nothing else of the package is imported.
from libp2p_quic.asyncio import Endpoint, Identity, Stream

_MIB = 1 << 20
_BLOCK = bytes(256 * 1024)

# The processor time of each run of a setting, in seconds.
Times = Mapping[str, Sequence[float]]


async def transfer(size: int) -> int:
    """Send ``size`` bytes from one endpoint to another one of this process. Returns the number of packets
    that both sent."""
    async with Endpoint(Identity.generate()) as near, Endpoint(Identity.generate()) as far:
        listener = await far.listen("/ip4/127.0.0.1/udp/0/quic-v1")
        dialed, accepted = await asyncio.gather(near.connect(listener.address), listener.accept())
        ours = await dialed.open_stream()
        await ours.write(b".")
        theirs = await accepted.accept_stream()
        await asyncio.gather(_send(ours, size), _receive(theirs))
        return dialed.statistics().packets_sent + accepted.statistics().packets_sent


async def _send(stream: Stream, size: int) -> None:
    for start in range(0, size, len(_BLOCK)):
        await stream.write(_BLOCK[: size - start])
    stream.finish()


async def _receive(stream: Stream) -> None:
    while await stream.read():
        pass


def once(size: int) -> str:
    """The cost of one transfer in this process, as JSON."""
    began = time.process_time()
    packets = asyncio.run(transfer(size))
    return json.dumps({"seconds": time.process_time() - began, "packets": packets})


def run(python: str, size: int, folder: str | None) -> tuple[float, int]:
    """Processor time in seconds and packets of one transfer in a process of its own.

    ``folder`` is for the qlog files; None: without qlog.
    """
    environment = {name: value for name, value in os.environ.items() if name != "QLOGDIR"}
    if folder is not None:
        environment["QLOGDIR"] = folder
    command = [python, __file__, "--once", str(size)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    return told["seconds"], told["packets"]


def table(times: Times) -> list[str]:
    """A line for each setting: the median, the least and the most."""
    return [
        f"{name:<6}  {statistics.median(each):.3f} s  ({min(each):.3f} to {max(each):.3f})"
        for name, each in times.items()
    ]


def measure(runs: int, size: int, before: str | None) -> list[str]:
    """The lines of the report. The settings take turns, in the opposite order every other time."""
    settings = {"off": sys.executable, "on": sys.executable}
    if before is not None:
        settings = {"before": before, **settings}
    times: dict[str, list[float]] = {name: [] for name in settings}
    logged, written = 0, 0
    order = list(settings)
    for _ in range(runs):
        order.reverse()
        for name in order:
            with TemporaryDirectory() as folder:
                seconds, packets = run(settings[name], size, folder if name == "on" else None)
                times[name].append(seconds)
                files = list(Path(folder).iterdir())
                if name == "on":
                    # Each packet is in the files of both sides.
                    logged += 2 * packets
                    written += sum(each.stat().st_size for each in files)
    more = statistics.median(times["on"]) - statistics.median(times["off"])
    return [
        f"{size / _MIB:g} MiB from one endpoint to another, {runs} interleaved runs: processor time",
        *table(times),
        f"on, for each packet sent or received: {1e6 * more * runs / logged:.2f} µs, "
        f"{written / logged:.0f} bytes of file",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=192, metavar="N", help="to send (default: 192)")
    parser.add_argument("--runs", type=int, default=8, metavar="N", help="of each setting (default: 8)")
    parser.add_argument("--before", metavar="PYTHON", help="an interpreter with a version without qlog")
    parser.add_argument("--once", type=int, metavar="BYTES", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once is not None:
        print(once(arguments.once))
        return
    print(*measure(arguments.runs, arguments.mebibytes * _MIB, arguments.before), sep="\n")


if __name__ == "__main__":
    main()
