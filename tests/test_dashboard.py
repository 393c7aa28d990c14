"""The dashboard's queries against a real Prometheus that scrapes a node under load: each has a series.

Without Prometheus (Debian: `apt-get install prometheus`) these tests are skipped. That the queries name
metrics and labels that exist is tested in test_metrics, without it.
"""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import CollectorRegistry, generate_latest, start_http_server

from libp2p_quic import DialError, QUICListener, StreamEOF
from libp2p_quic.metrics import QUICCollector
from testkit.linked import Linked, linked, listening, transport_behind
from testkit.names import free_port
from testkit.near import near_transport
from testkit.payload import MIB
from tools import metrics_page

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed: apt-get install prometheus"
)
# Grafana's is four scrape intervals.
VARIABLES = {"$job": "node", "$instance": ".*", "$__rate_interval": "20s"}
CONFIGURATION = """
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Server:
    """A Prometheus of this test, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    async def asks(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer. Raises OSError while the server starts."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"

        def fetch() -> Any:
            with urllib.request.urlopen(url, timeout=60) as answer:
                return json.load(answer)

        answer = await trio.to_thread.run_sync(fetch)
        assert answer["status"] == "success", answer
        return answer["data"]

    async def is_ready(self) -> bool:
        try:
            targets = (await self.asks("/api/v1/targets"))["activeTargets"]
        except urllib.error.HTTPError as error:
            # 503 while it starts.
            error.close()
            return False
        except OSError:
            return False
        return [each["health"] for each in targets] == ["up"]

    async def values(self, query: str) -> list[float]:
        """The values of the series that a query returns now, those that are numbers."""
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        found = (await self.asks("/api/v1/query", query=query))["result"]
        values = [float(each["value"][1]) for each in found]
        return [each for each in values if not math.isnan(each)]


@asynccontextmanager
async def scraping(folder: Path, port: int) -> AsyncIterator[Server]:
    """A Prometheus that scrapes this port of the machine."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=port))
    own = free_port(socket.SOCK_STREAM)
    command = [
        str(PROMETHEUS),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, capture_stderr=True, check=False))
        server = Server(own)
        try:
            with trio.fail_after(60):
                while not await server.is_ready():
                    assert process.poll() is None, "prometheus has ended"
                    await trio.sleep(0.1)  # scenario: the server is asked until it has started
            yield server
        finally:
            nursery.cancel_scope.cancel()


async def one_round(link: Linked, other: QUICListener) -> None:
    """Bytes on a stream, a dial that the listener refuses, and a connection that begins and ends."""
    ours, theirs = await link.stream()

    async def drain() -> None:
        with suppress(StreamEOF):
            while True:
                await theirs.read(MIB)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain)
        await ours.write(bytes(4 * MIB))
        await ours.close_write()
    await ours.close()
    await theirs.close()
    with pytest.raises(DialError):
        await link.dialer.dial(link.listener.get_addrs()[0])
    connection = await link.dialer.dial(other.get_addrs()[0])
    await connection.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_query_has_a_series_on_a_node_under_load(tmp_path: Path) -> None:
    missing = metrics_page.queries()
    assert len(missing) > 20
    async with linked(far={"max_connections": 1}) as link, listening() as (other, accepted):
        registry = CollectorRegistry()
        registry.register(
            QUICCollector(link.dialer, transport_behind(link.listener), transport_behind(other))
        )
        server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
        # So that `server_close` waits for the threads whose sockets Prometheus keeps open.
        server.daemon_threads = False  # type: ignore[attr-defined]
        try:
            async with scraping(tmp_path, server.server_port) as prometheus:
                names = await prometheus.asks(
                    "/api/v1/label/job/values", **{"match[]": "libp2p_quic_build_info"}
                )
                with trio.move_on_after(120):
                    while missing:
                        await one_round(link, other)
                        await (await accepted.receive()).close()
                        missing = [each for each in missing if not await prometheus.values(each)]
        finally:
            await trio.to_thread.run_sync(server.shutdown)
            await trio.to_thread.run_sync(server.server_close)
            thread.join()
    # What the dashboard's lists of nodes ask for.
    assert names == ["node"]
    assert missing == []


def test_prometheus_finds_nothing_to_mend_in_the_names() -> None:
    registry = CollectorRegistry()
    registry.register(QUICCollector(near_transport()))
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert (checked.returncode, checked.stderr.decode()) == (0, "")
