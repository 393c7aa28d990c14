"""Measures what a snapshot of the counters costs, with thousands of open connections.

``python -m tools.statistics_cost 10000`` opens that many connections between two endpoints of this
process and takes the snapshots of one end: of each connection, of the endpoint, of the process, and of
a Prometheus scrape.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from libp2p_quic.asyncio import Connection, Endpoint, EndpointConfig, Identity, process_statistics
from libp2p_quic.metrics import QUICCollector

# Dials at once: enough to keep both ends busy, and fewer handshakes than the limits allow.
_DIALS = 32
_ROUNDS = 10


def seconds(work: Callable[[], object]) -> float:
    """The median processor time of a call, which other processes do not make longer."""
    times = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return statistics.median(times)


async def measure(count: int) -> None:
    """Open ``count`` connections, and print the cost of each snapshot."""
    config = EndpointConfig(max_connections=count, max_accept_backlog=count, handshake_timeout=60)
    async with (
        Endpoint(Identity.generate(), config) as near,
        Endpoint(Identity.generate(), config) as far,
        await far.listen("/ip4/127.0.0.1/udp/0/quic-v1") as listener,
    ):
        slots = asyncio.Semaphore(_DIALS)

        async def dial() -> Connection:
            async with slots:
                return await near.connect(listener.address)

        dialed = await asyncio.gather(*(dial() for _ in range(count)))
        registry = CollectorRegistry()
        registry.register(QUICCollector(near))
        every = seconds(lambda: [connection.statistics() for connection in dialed])
        print(f"{near.statistics().connections_open} connections open")
        print(f"all connections: {1e3 * every:.1f} ms, {1e6 * every / count:.2f} µs each")
        print(f"the endpoint:    {1e6 * seconds(near.statistics):.0f} µs")
        print(f"the process:     {1e6 * seconds(process_statistics):.0f} µs")
        print(f"a scrape:        {1e3 * seconds(lambda: generate_latest(registry)):.1f} ms")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("connections", type=int, nargs="?", default=10_000)
    asyncio.run(measure(arguments.parse_args().connections))
