"""The program for unified-testing's perf suite: throughput both ways, and latency.

`python -m tools.interop.unified.perf`, as listener or dialer, as the environment says. The protocol
is /perf/1.0.0 of the libp2p specifications: the dialer sends a count, any number of bytes, and the end of
the stream; the listener answers with as many bytes as the count, and the end of the stream.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.perf import PROTOCOL_NAME, WRITE_BLOCK_SIZE, PerfService
from multiaddr import Multiaddr

from tools.interop.unified.harness import Harness, positive, run
from tools.interop.unified.node import published_address, running_node
from tools.interop.unified.summary import yaml

_ABOUT = """\
The perf program of libp2p's unified-testing, on libp2p-quic. The dialer also reads
UPLOAD_BYTES and DOWNLOAD_BYTES (default: 1 GiB), UPLOAD_ITERATIONS and
DOWNLOAD_ITERATIONS (10), LATENCY_ITERATIONS (100)."""

_PERF = TProtocol(PROTOCOL_NAME)
_BLOCK = bytes(WRITE_BLOCK_SIZE)


class PerfError(Exception):
    """The listener sent another number of bytes than requested."""


@dataclass(frozen=True)
class Plan:
    """The number of bytes and of repetitions."""

    upload_bytes: int
    download_bytes: int
    upload_iterations: int
    download_iterations: int
    latency_iterations: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Plan:
        """Raises HarnessError, which names the variable."""
        return cls(
            upload_bytes=positive(environment, "UPLOAD_BYTES", 1 << 30),
            download_bytes=positive(environment, "DOWNLOAD_BYTES", 1 << 30),
            upload_iterations=positive(environment, "UPLOAD_ITERATIONS", 10),
            download_iterations=positive(environment, "DOWNLOAD_ITERATIONS", 10),
            latency_iterations=positive(environment, "LATENCY_ITERATIONS", 100),
        )


async def exchange(host: IHost, peer: ID, upload: int, download: int) -> float:
    """Send ``upload`` bytes and fetch ``download``; how long that took, in seconds.

    The clock runs from before the stream is opened until the listener has ended it, which it
    does when it has read everything: bytes in a local buffer do not count as sent.
    Raises PerfError.
    """
    began = time.perf_counter()
    stream = await host.new_stream(peer, [_PERF])
    await stream.write(download.to_bytes(8, "big"))
    for start in range(0, upload, len(_BLOCK)):
        await stream.write(_BLOCK[: upload - start])
    # py-libp2p's interface does not declare that a stream can finish one direction.
    await cast(NetStream, stream).close_write()
    received = 0
    try:
        while True:
            received += len(await stream.read(len(_BLOCK)))
    except StreamEOF:
        elapsed = time.perf_counter() - began
    await stream.close()
    if received != download:
        raise PerfError(f"the listener was asked for {download} bytes and sent {received}")
    return elapsed


async def listen(harness: Harness) -> None:
    async with running_node(harness.listener_ip) as host:
        await PerfService(host).start()
        harness.set_address(published_address(host))
        await trio.sleep_forever()


async def dial(harness: Harness) -> None:
    plan = Plan.from_environment(os.environ)
    listener = info_from_p2p_addr(Multiaddr(await harness.get_address()))
    async with running_node() as host:
        await host.connect(listener)

        async def throughput(name: str, times: int, upload: int, download: int) -> list[float]:
            """Gbit/s of each duration."""
            samples = []
            for turn in range(times):
                seconds = await exchange(host, listener.peer_id, upload, download)
                samples.append((upload + download) * 8 / seconds / 1e9)
                print(f"{name} {turn + 1} of {times}: {samples[-1]:.3f} Gbps", file=sys.stderr, flush=True)
            return samples

        uploads = await throughput("upload", plan.upload_iterations, plan.upload_bytes, 0)
        downloads = await throughput("download", plan.download_iterations, 0, plan.download_bytes)
        latencies = [
            await exchange(host, listener.peer_id, 1, 1) * 1e3 for _ in range(plan.latency_iterations)
        ]
    print(yaml("upload", "Gbps", uploads))
    print(yaml("download", "Gbps", downloads))
    print(yaml("latency", "ms", latencies))


if __name__ == "__main__":
    sys.exit(run(_ABOUT, listen, dial))
