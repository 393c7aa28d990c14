"""Metrics of transports and asyncio endpoints for Prometheus: the extra ``libp2p-quic[metrics]``.

A collector takes a snapshot for each scrape, in the scraping thread, so that nothing is counted twice
and no task runs for it. docs/metrics.md lists what it exports; tools/metrics_page.py makes that page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any, Literal, Protocol

from libp2p_quic._engine import __version__
from libp2p_quic._statistics import (
    ENDS,
    Distribution,
    EndpointStatistics,
    ProcessStatistics,
    process_statistics,
    summed,
)

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeHistogramMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "prometheus_client":
        raise
    _what_to_do = "install the extra libp2p-quic[metrics]: pip install '.[metrics]' in the checkout"
    raise ImportError(f"{__name__} needs prometheus-client: {_what_to_do}", name=error.name) from error

__all__ = ["Node", "QUICCollector"]

# go-libp2p's values for a connection over QUIC, and over WebTransport: TLS and streams are QUIC's own.
_QUIC = ("quic-v1", "", "", "false")
_WEBTRANSPORT = ("webtransport", "", "", "false")
_GO = ("transport", "security", "muxer", "early_muxer")

Value = int | float | Distribution
Samples = Iterable[tuple[tuple[str, ...], Value]]


class Node(Protocol):
    """What a collector takes: a `QUICTransport`, or an `Endpoint` of `libp2p_quic.asyncio`."""

    def statistics(self) -> EndpointStatistics:
        """A snapshot, in any thread."""
        ...


@dataclass(frozen=True)
class Family:
    """The metrics of one name: their labels, and how to read them from a snapshot."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "gauge histogram"]
    help: str
    labels: tuple[str, ...]
    samples: Callable[[EndpointStatistics, ProcessStatistics], Samples]

    @property
    def exported(self) -> str:
        """The name in a scrape: Prometheus's counters end in ``_total``."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def empty(self) -> Metric:
        """Without samples."""
        if self.kind == "counter":
            return CounterMetricFamily(self.name, self.help, labels=self.labels)
        if self.kind == "gauge":
            return GaugeMetricFamily(self.name, self.help, labels=self.labels)
        if self.kind == "histogram":
            return HistogramMetricFamily(self.name, self.help, labels=self.labels)
        return GaugeHistogramMetricFamily(self.name, self.help, labels=self.labels)

    def read(self, node: EndpointStatistics, process: ProcessStatistics) -> Metric:
        """With the values of the snapshots."""
        # The classes of prometheus_client share no method with one signature.
        family: Any = self.empty()
        for labels, value in self.samples(node, process):
            if isinstance(value, Distribution):
                family.add_metric(labels, _cumulative(value), value.seconds)
            else:
                family.add_metric(labels, value)
        made: Metric = family
        return made


def _cumulative(times: Distribution) -> list[tuple[str, float]]:
    """The buckets as Prometheus has them: each counts the shorter times too."""
    bounds = [f"{bound:g}" for bound in times.bounds]
    return list(zip([*bounds, "+Inf"], map(float, accumulate(times.buckets)), strict=True))


def _plain(
    name: str,
    kind: Literal["counter", "gauge", "gauge histogram"],
    text: str,
    read: Callable[[EndpointStatistics], Value],
) -> Family:
    """Without labels."""
    return Family(name, kind, text, (), lambda node, _: [((), read(node))])


def _both(
    name: str,
    kind: Literal["counter", "gauge"],
    text: str,
    label: str,
    read: Callable[[EndpointStatistics], Iterable[tuple[str, Value]]],
) -> Family:
    """With one label."""
    return Family(name, kind, text, (label,), lambda node, _: [((one,), value) for one, value in read(node)])


def _connections(name: str, text: str, ending: str) -> Family:
    """A counter of connections with go-libp2p's labels, from eight fields."""

    def samples(node: EndpointStatistics, _: ProcessStatistics) -> Iterator[tuple[tuple[str, ...], Value]]:
        for direction, field in (("outbound", "dialed"), ("inbound", "accepted")):
            for version in ("ip4", "ip6"):
                sessions = getattr(node, f"{field}{ending}_webtransport_{version}")
                rest = getattr(node, f"{field}{ending}_{version}") - sessions
                yield (direction, *_QUIC, version), rest
                yield (direction, *_WEBTRANSPORT, version), sessions

    return Family(f"libp2p_swarm_connections_{name}", "counter", text, ("dir", *_GO, "ip_version"), samples)


def _handshake_times(node: EndpointStatistics, _: ProcessStatistics) -> Samples:
    every, sessions = node.handshake_times, node.webtransport_handshake_times
    buckets = (n - part for n, part in zip(every.buckets, sessions.buckets, strict=True))
    # The engine counts whole microseconds. Without the rounding the difference could become a little
    # smaller from one scrape to the next, which Prometheus takes for a restart.
    seconds = round(every.seconds - sessions.seconds, 6)
    yield _QUIC, Distribution(tuple(buckets), seconds)
    yield _WEBTRANSPORT, sessions


def _dial_errors(node: EndpointStatistics, _: ProcessStatistics) -> Samples:
    for cause, failed in node.dials_failed.items():
        webtransport = node.webtransport_dials_failed[cause]
        yield ("quic-v1", cause, "unknown"), failed - webtransport
        yield ("webtransport", cause, "unknown"), webtransport


FAMILIES = (
    _connections("opened", "Connections whose handshake completed.", ""),
    _connections("closed", "Connections that ended after their handshake.", "_closed"),
    Family(
        "libp2p_swarm_handshake_latency_seconds",
        "histogram",
        "Durations of completed handshakes.",
        _GO,
        _handshake_times,
    ),
    Family(
        "libp2p_swarm_dial_errors",
        "counter",
        "Dials that failed.",
        ("transport", "error", "ip_version"),
        _dial_errors,
    ),
    _both(
        "libp2p_quic_dials",
        "counter",
        "Dials that the program began.",
        "transport",
        lambda node: [
            ("quic-v1", node.dials_started - node.webtransport_dials_started),
            ("webtransport", node.webtransport_dials_started),
        ],
    ),
    _plain(
        "libp2p_quic_connections_open",
        "gauge",
        "Connections that are open.",
        lambda node: node.connections_open,
    ),
    Family(
        "libp2p_quic_connections_ended",
        "counter",
        "Connections that ended after their handshake, by the party that ended them and how.",
        ("by", "kind"),
        lambda node, _: [(end, node.connections_closed.get(end, 0)) for end in ENDS],
    ),
    _both(
        "libp2p_quic_handshakes_in_progress",
        "gauge",
        "Handshakes in progress.",
        "dir",
        lambda node: [("inbound", node.handshakes_inbound), ("outbound", node.handshakes_outbound)],
    ),
    _plain(
        "libp2p_quic_inbound_handshakes",
        "counter",
        "Inbound handshakes that began.",
        lambda node: node.handshakes_started,
    ),
    _plain(
        "libp2p_quic_inbound_handshakes_failed",
        "counter",
        "Inbound handshakes that failed, for any reason.",
        lambda node: node.handshakes_failed,
    ),
    _both(
        "libp2p_quic_inbound_refused",
        "counter",
        "Inbound connections refused, by what refused them; first packets, for the limits of handshakes.",
        "limit",
        lambda node: [
            ("denied_address", node.refused_denied_address),
            ("certificate", node.handshakes_refused),
            ("gate", node.refused_by_gate),
            ("swarm", node.refused_by_swarm),
            ("max_connections", node.refused_connections),
            ("max_connections_per_address", node.refused_connections_per_address),
            ("max_accept_backlog", node.refused_accept_backlog),
            ("max_handshakes", node.ignored_handshakes),
            ("max_handshakes_per_address", node.ignored_handshakes_per_address),
        ],
    ),
    _plain(
        "libp2p_quic_retries_sent",
        "counter",
        "Retry packets sent to validate addresses.",
        lambda node: node.retries_sent,
    ),
    _both(
        "libp2p_quic_stateless_resets",
        "counter",
        "Stateless resets for packets of unknown connections.",
        "outcome",
        lambda node: [("sent", node.resets_sent), ("suppressed", node.resets_suppressed)],
    ),
    _plain("libp2p_quic_streams_open", "gauge", "Streams that are open.", lambda node: node.streams_open),
    _both(
        "libp2p_quic_streams",
        "counter",
        "Streams opened by this program (outbound), and accepted from peers (inbound).",
        "dir",
        lambda node: [("outbound", node.streams_opened), ("inbound", node.streams_accepted)],
    ),
    _both(
        "libp2p_quic_transferred_bytes",
        "counter",
        "Bytes of UDP payload.",
        "direction",
        lambda node: [("sent", node.bytes_sent), ("received", node.bytes_received)],
    ),
    _both(
        "libp2p_quic_datagrams",
        "counter",
        "UDP datagrams.",
        "direction",
        lambda node: [("sent", node.datagrams_sent), ("received", node.datagrams_received)],
    ),
    _both(
        "libp2p_quic_batches",
        "counter",
        "Batches in which the system took and passed on datagrams.",
        "direction",
        lambda node: [("sent", node.batches_sent), ("received", node.batches_received)],
    ),
    _plain(
        "libp2p_quic_datagrams_unanswerable",
        "counter",
        "Datagrams dropped as nothing can be sent to their source address.",
        lambda node: node.datagrams_unanswerable,
    ),
    _plain("libp2p_quic_packets_sent", "counter", "QUIC packets sent.", lambda node: node.packets_sent),
    _plain("libp2p_quic_packets_lost", "counter", "Packets declared lost.", lambda node: node.packets_lost),
    _plain(
        "libp2p_quic_lost_bytes", "counter", "Bytes of packets declared lost.", lambda node: node.bytes_lost
    ),
    _plain(
        "libp2p_quic_congestion_events",
        "counter",
        "Reductions of congestion windows.",
        lambda node: node.congestion_events,
    ),
    _plain(
        "libp2p_quic_smoothed_rtt_seconds",
        "gauge histogram",
        "Smoothed round-trip times of the open connections.",
        lambda node: node.round_trip_times,
    ),
    _plain(
        "libp2p_quic_keep_alives_sent",
        "counter",
        "PINGs sent on silent connections.",
        lambda node: node.keep_alives_sent,
    ),
    _plain(
        "libp2p_quic_migrations",
        "counter",
        "Address changes of peers that were followed.",
        lambda node: node.migrations,
    ),
    _both(
        "libp2p_quic_memory_budget_bytes",
        "gauge",
        "Bytes that all connections may hold for readers (receive) and for peers (send).",
        "purpose",
        lambda node: [("receive", node.receive_budget), ("send", node.send_budget)],
    ),
    _both(
        "libp2p_quic_memory_reserved_bytes",
        "gauge",
        "How much of the memory budgets is reserved.",
        "purpose",
        lambda node: [("receive", node.receive_reserved), ("send", node.send_reserved)],
    ),
    Family(
        "libp2p_quic_endpoints",
        "gauge",
        "Endpoints of the whole process.",
        (),
        lambda _, process: [((), process.endpoints)],
    ),
    Family(
        "libp2p_quic_buffers_kept_bytes",
        "gauge",
        "Buffers that the process keeps for reuse.",
        (),
        lambda _, process: [((), process.buffers_kept)],
    ),
    Family(
        "libp2p_quic_io_waits",
        "counter",
        "How often the engine's thread waited for something to do.",
        (),
        lambda _, process: [((), process.waits)],
    ),
    Family(
        "libp2p_quic_build_info",
        "gauge",
        "1, with the version of the package.",
        ("version",),
        lambda _node, _process: [((__version__,), 1)],
    ),
)


class QUICCollector(Collector):
    """The metrics of one or several transports or asyncio endpoints, as one sum.

    Register it once: ``prometheus_client.REGISTRY.register(QUICCollector(transport))``. It holds the
    nodes until it is unregistered. A scrape costs the same for any number of connections. No label has
    a peer id or an address, so the number of series is fixed. May be used in any thread.
    """

    def __init__(self, *nodes: Node) -> None:
        """Raises TypeError if a node has no ``statistics`` like that of `QUICTransport`."""
        if not nodes:
            raise TypeError("QUICCollector needs a transport or an endpoint: QUICCollector(transport)")
        for node in nodes:
            if not callable(getattr(node, "statistics", None)):
                raise TypeError(
                    f"QUICCollector takes QUICTransport and libp2p_quic.asyncio.Endpoint, "
                    f"got a {type(node).__name__}"
                )
        self._nodes = nodes

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now, for `prometheus_client`."""
        node = reduce(summed, (each.statistics() for each in self._nodes))
        process = process_statistics()
        for family in FAMILIES:
            yield family.read(node, process)

    def describe(self) -> Iterator[Metric]:
        """Their names, for the registry to find duplicates."""
        for family in FAMILIES:
            yield family.empty()
