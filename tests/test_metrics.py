"""The metrics of real nodes, scraped over HTTP, match what the nodes did; page and dashboard are current."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.peerinfo import info_from_p2p_addr
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from libp2p_quic import (
    DialError,
    Distribution,
    EndpointStatistics,
    PeerIdMismatchError,
    __version__,
    process_statistics,
)
from libp2p_quic.metrics import FAMILIES, QUICCollector
from testkit.asyncio_ends import ends, raw_streams
from testkit.census import eventually
from testkit.linked import linked, listening, transport_behind
from testkit.loops import on_both, passes
from testkit.near import IP4, near_host, near_transport, new_stream, transport_of, with_another_peer
from testkit.payload import MIB
from tools import metrics_page

Key = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples: dict[Key, float] = {}
        self.types = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self._samples, f"{key} occurs twice"
                self._samples[key] = sample.value

    def __getitem__(self, name: str) -> float:
        """The sum of all series of that name."""
        return sum(self.of(name).values())

    def of(self, name: str, **labels: str) -> dict[Key, float]:
        wanted = set(labels.items())
        found = {key: n for key, n in self._samples.items() if key[0] == name and wanted <= key[1]}
        assert found, f"no {name} {labels}"
        return found

    def value(self, name: str, **labels: str) -> float:
        """The value of the only series of that name with these labels."""
        (value,) = self.of(name, **labels).values()
        return value

    def series(self) -> set[Key]:
        return set(self._samples)


@contextmanager
def exposed(*nodes: Any) -> Iterator[str]:
    """The address of an HTTP server with the metrics of these nodes."""
    registry = CollectorRegistry()
    registry.register(QUICCollector(*nodes))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(url: str) -> Scrape:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return Scrape(answer.read().decode())


async def scrape(url: str) -> Scrape:
    return await trio.to_thread.run_sync(fetch, url)


# Real hosts


async def test_a_scrape_of_a_host_under_load_grows_with_the_load() -> None:
    async with near_host(IP4) as host, near_host() as peer:
        with exposed(transport_of(host)) as url:
            before = await scrape(url)
            info = info_from_p2p_addr(host.get_addrs()[0])

            async def drain(stream: Any) -> None:
                while await stream.read(MIB):
                    pass
                await stream.close()

            host.set_stream_handler(TProtocol("/drain/1"), drain)
            await peer.connect(info)
            stream = await new_stream(peer, info.peer_id, "/drain/1")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, bytes(8 * MIB))
                during = await scrape(url)
            await stream.close()

            async def received() -> float:
                return (await scrape(url)).value("libp2p_quic_transferred_bytes_total", direction="received")

            with trio.fail_after(60):
                while await received() < 8 * MIB:
                    await trio.lowlevel.checkpoint()
            after = await scrape(url)
    # Whatever happens, the series are the same.
    assert before.series() == during.series() == after.series()
    opened = "libp2p_swarm_connections_opened_total"
    assert after.value(opened, dir="inbound", ip_version="ip4", transport="quic-v1") == 1
    assert (before[opened], after["libp2p_quic_connections_open"]) == (0, 1)
    assert after.value("libp2p_quic_streams_total", dir="inbound") >= 1
    assert after["libp2p_swarm_handshake_latency_seconds_count"] == 1
    handshakes = "libp2p_swarm_handshake_latency_seconds_bucket"
    assert after.value(handshakes, le="+Inf", transport="quic-v1") == 1
    assert after.value("libp2p_quic_smoothed_rtt_seconds_bucket", le="+Inf") == 1
    assert after.value("libp2p_quic_memory_reserved_bytes", purpose="receive") > 0
    assert after.value("libp2p_quic_build_info", version=__version__) == 1
    for name in ("datagrams", "batches"):
        assert after.value(f"libp2p_quic_{name}_total", direction="received") > 0
    growing = [key for key in after.series() if key[0].endswith("_total")]
    assert all(after.of(*key[:1], **dict(key[1]))[key] >= during.of(key[0])[key] for key in growing)


async def test_refusals_dials_and_ends_have_their_labels() -> None:
    async with linked(far={"max_connections": 1}) as link:
        with exposed(link.dialer) as near_url, exposed(transport_behind(link.listener)) as far_url:
            with pytest.raises(DialError):
                await link.dialer.dial(link.listener.get_addrs()[0])
            await link.dialed.close()
            assert await eventually(lambda: link.accepted.is_closed)
            near, far = await scrape(near_url), await scrape(far_url)
    assert near["libp2p_quic_dials_total"] == 2
    assert near.value("libp2p_swarm_dial_errors_total", error="refused", transport="quic-v1") == 1
    assert near["libp2p_swarm_dial_errors_total"] == 1
    assert near.value("libp2p_quic_connections_ended_total", by="local", kind="closed") == 1
    assert far.value("libp2p_quic_inbound_refused_total", limit="max_connections") == 1
    assert far["libp2p_quic_inbound_refused_total"] == 1
    assert far.value("libp2p_quic_connections_ended_total", by="peer", kind="closed") == 1


async def test_several_nodes_are_one_sum() -> None:
    async with linked() as link:
        with exposed(link.dialer, transport_behind(link.listener)) as url:
            both = await scrape(url)
    assert both["libp2p_quic_connections_open"] == 2
    opened = "libp2p_swarm_connections_opened_total"
    assert both.value(opened, dir="inbound", ip_version="ip4", transport="quic-v1") == 1
    assert both.value(opened, dir="outbound", ip_version="ip4", transport="quic-v1") == 1


async def test_webtransport_is_told_apart_from_quic() -> None:
    async with listening(f"{IP4}/webtransport") as (browsers, sessions), listening() as (listener, _):
        far, dialer = transport_behind(browsers), near_transport()
        (address,) = browsers.get_addrs()
        session = await dialer.dial(address)
        await sessions.receive()
        await dialer.dial(listener.get_addrs()[0])
        with pytest.raises(PeerIdMismatchError):
            await dialer.dial(with_another_peer(address))
        await session.close()
        assert await eventually(lambda: dialer.statistics().dialed_closed_webtransport_ip4 == 1)
        assert await eventually(lambda: far.statistics().accepted_closed_webtransport_ip4 == 1)
        with exposed(dialer) as near_url, exposed(far) as far_url:
            near, theirs = await scrape(near_url), await scrape(far_url)
        await dialer.close()
    swarm, outbound = "libp2p_swarm", {"dir": "outbound", "ip_version": "ip4"}
    refused = {"error": "peer_id_mismatch"}
    for transport, closed, failed, dials in (("quic-v1", 0, 0, 1), ("webtransport", 1, 1, 2)):
        assert near.value(f"{swarm}_connections_opened_total", transport=transport, **outbound) == 1
        assert near.value(f"{swarm}_connections_closed_total", transport=transport, **outbound) == closed
        assert near.value(f"{swarm}_handshake_latency_seconds_count", transport=transport) == 1
        assert near.value(f"{swarm}_handshake_latency_seconds_sum", transport=transport) > 0
        assert near.value(f"{swarm}_dial_errors_total", transport=transport, **refused) == failed
        assert near.value("libp2p_quic_dials_total", transport=transport) == dials
        inbound = {"dir": "inbound", "ip_version": "ip4", "transport": transport}
        assert theirs.value(f"{swarm}_connections_opened_total", **inbound) == closed
        assert theirs.value(f"{swarm}_connections_closed_total", **inbound) == closed


def test_sessions_do_not_change_the_handshake_times_of_quic() -> None:
    (family,) = (each for each in FAMILIES if each.name == "libp2p_swarm_handshake_latency_seconds")
    found = set()
    for tenths in range(100):
        # The difference of these floats is not always the same.
        node = EndpointStatistics(
            handshake_times=Distribution(seconds=(tenths + 3) / 10),
            webtransport_handshake_times=Distribution(seconds=tenths / 10),
        )
        for labels, times in family.samples(node, process_statistics()):
            assert isinstance(times, Distribution)
            if labels[0] == "quic-v1":
                found.add(times.seconds)
    assert found == {0.3}


@on_both
async def test_an_asyncio_endpoint_is_scraped() -> None:
    async with ends() as both:
        near, far = await both.connected()
        await raw_streams(near, far)
        with exposed(both.near) as url:
            found = await asyncio.to_thread(fetch, url)
        await passes(1)
    assert found["libp2p_quic_connections_open"] == 1
    assert found.value("libp2p_quic_streams_total", dir="outbound") == 1


# Names


def test_the_names_follow_prometheus() -> None:
    with exposed(near_transport()) as url:
        found = fetch(url)
    for name, kind in found.types.items():
        assert re.fullmatch(r"libp2p_(swarm|quic)_[a-z_]+", name)
        # A counter's name in the text ends in _total; the parser takes it off.
        assert kind in ("counter", "gauge", "histogram")
    for family in FAMILIES:
        assert family.help.endswith(".")
        assert f"# HELP {family.exported} " in found.text
        assert f"# TYPE {family.exported} " in found.text
        assert not set(family.labels) & {"peer", "peer_id", "address", "remote"}
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)


def test_two_collectors_in_one_registry_are_refused() -> None:
    registry = CollectorRegistry()
    registry.register(QUICCollector(near_transport()))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(QUICCollector(near_transport()))


def test_a_collector_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="got a str"):
        QUICCollector("host")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a transport"):
        QUICCollector()


# The page and the dashboard


def test_the_page_and_the_dashboard_are_current() -> None:
    hint = "run: python -m tools.metrics_page"
    assert metrics_page.PAGE.read_text() == metrics_page.page(), hint
    assert metrics_page.DASHBOARD.read_text() == metrics_page.dashboard(), hint


def test_the_dashboard_shows_metrics_and_labels_that_exist() -> None:
    with exposed(near_transport()) as url:
        found = fetch(url)
    series = {name for name, _ in found.series()}
    labels = {label for _, pairs in found.series() for label, _ in pairs} | {"job", "instance"}
    for query in metrics_page.queries():
        named = set(re.findall(r"libp2p_\w+", query))
        assert named, query
        assert named <= series, f"{query}: {named - series}"
        grouped = {label for group in re.findall(r"by \(([\w, ]+)\)", query) for label in group.split(", ")}
        matched = set(re.findall(r'(\w+)=~?"', query))
        assert grouped | matched <= labels, query


def test_every_metric_is_shown_by_the_dashboard() -> None:
    text = "".join(metrics_page.queries())
    missing = {family.exported for family in FAMILIES if family.name not in text}
    # What a graph shows better in another form, or not at all.
    assert missing == {
        "libp2p_swarm_connections_closed_total",
        "libp2p_quic_datagrams_unanswerable_total",
        "libp2p_quic_lost_bytes_total",
        "libp2p_quic_endpoints",
        "libp2p_quic_build_info",
    }


def test_the_dashboard_is_a_grid() -> None:
    made = json.loads(metrics_page.dashboard())
    places = [panel["gridPos"] for panel in made["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken), "panels overlap"
    assert max(x for x, _ in taken) < 24
    assert [panel["id"] for panel in made["panels"]] == list(range(1, len(places) + 1))
