"""Generates docs/metrics.md and the Grafana dashboard from what `libp2p_quic.metrics` exports.

``python -m tools.metrics_page`` writes both; a test compares them with the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libp2p_quic._statistics import EndpointStatistics, process_statistics
from libp2p_quic.metrics import FAMILIES, Family

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "metrics.md"
DASHBOARD = DOCS / "grafana-dashboard.json"

BEGINNING = """\
# Metrics

<!-- Made by tools/metrics_page.py of python/libp2p_quic/metrics.py. -->

`libp2p_quic.metrics` exports the counters of transports and asyncio endpoints to
[Prometheus](https://prometheus.io). It needs `prometheus-client`, which the extra brings:
`pip install '.[metrics]'`.

```python
from libp2p_quic.metrics import QUICCollector
from prometheus_client import REGISTRY, start_http_server

REGISTRY.register(QUICCollector(transport))
server, thread = start_http_server(PORT, addr="127.0.0.1")
```

`transport` is a `QUICTransport` or an `Endpoint` of `libp2p_quic.asyncio`, and `PORT` where Prometheus
asks, 9464 for example. With several nodes in one process, `QUICCollector(one, other)` has their sums.
[Watch a node](howto/watch-a-host.md) has a complete program.

- A scrape takes one snapshot and costs the same for any number of connections. It runs in the thread of
  the HTTP server.
- No label has a peer id or an address, so that the number of series is fixed: SERIES for a process.
- Names that begin with `libp2p_swarm_`, and their labels, are go-libp2p's, so that its dashboard of the
  swarm shows these nodes too. `security` and `muxer` are empty, as in go-libp2p: QUIC has both. `error` has
  this package's causes. `ip_version` of an error is `unknown`, as a dial may try addresses of both.
- `transport` is `webtransport` for sessions of WebTransport and dials of its addresses, and `quic-v1` for all
  others. A handshake of WebTransport takes two round trips more.
- Counters begin at zero when the program starts, which `rate()` knows. A transport that runs again goes on
  counting.

## What is exported

| metric | type | labels | meaning |
|---|---|---|---|
"""

LABELS = """
## The values of labels

| metric | label | values |
|---|---|---|
"""

END = """
`by` and `kind` are those of `ConnectionClosed`; [errors](errors.md) explains them.

## Grafana

[`grafana-dashboard.json`](grafana-dashboard.json) is a dashboard of these metrics: in Grafana,
*Dashboards*, *New*, *Import*. It asks for the Prometheus data source, and shows all nodes or those that you
choose by `job` and `instance`. `tests/test_dashboard.py` asks a real Prometheus each of its queries, with a
node under load, and `tests/test_dashboard_schema.py` compares it with the schema of Grafana 11.6. It was not
looked at in Grafana yet.
"""


def samples(family: Family) -> list[tuple[str, ...]]:
    """The values of the labels of each sample."""
    return [labels for labels, _ in family.samples(EndpointStatistics(), process_statistics())]


def series() -> int:
    """How many series a node has."""
    return sum(len(family.read(EndpointStatistics(), process_statistics()).samples) for family in FAMILIES)


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(f"`{text}`" for text in texts)


def page() -> str:
    rows = [
        f"| `{each.exported}` | {each.kind} | {_listed(each.labels) or 'none'} | {each.help} |\n"
        for each in FAMILIES
    ]
    values = [
        f"| `{family.exported}` | `{label}` | {_listed(one for one in found if one) or 'empty'} |\n"
        for family in FAMILIES
        for place, label in enumerate(family.labels)
        if label != "version"
        for found in [dict.fromkeys(labels[place] for labels in samples(family))]
    ]
    return "".join([BEGINNING.replace("SERIES", str(series())), *rows, LABELS, *values, END])


@dataclass(frozen=True)
class Panel:
    """A graph of the dashboard. ``queries`` are pairs of an expression and the legend of its series."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str = ""


# In an expression: the nodes that are chosen.
NODES = '{job=~"$job", instance=~"$instance"}'
CHOSEN = 'job=~"$job", instance=~"$instance"'


def _rate(name: str, by: str = "") -> str:
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({name}{NODES}[$__rate_interval]))"


def _quantile(quantile: float, name: str, by: str = "le") -> str:
    return f"histogram_quantile({quantile}, sum by ({by}) ({name}))"


def _per(part: str, whole: str) -> str:
    return f"{_rate(part)} / ({_rate(whole)} > 0)"


_HANDSHAKES = f"rate(libp2p_swarm_handshake_latency_seconds_bucket{NODES}[$__rate_interval])"
_RTTS = f"libp2p_quic_smoothed_rtt_seconds_bucket{NODES}"
_DIRECTION = f'libp2p_quic_datagrams_total{{direction="DIR", {CHOSEN}}}'
_BATCHES = f'libp2p_quic_batches_total{{direction="DIR", {CHOSEN}}}'


def _batch(direction: str) -> str:
    part, whole = (each.replace("DIR", direction) for each in (_DIRECTION, _BATCHES))
    return f"sum(rate({part}[$__rate_interval])) / (sum(rate({whole}[$__rate_interval])) > 0)"


ROWS: dict[str, tuple[Panel, ...]] = {
    "Connections": (
        Panel("Open connections", "short", ((f"sum(libp2p_quic_connections_open{NODES})", "connections"),)),
        Panel(
            "Connections opened",
            "cps",
            (
                (
                    _rate("libp2p_swarm_connections_opened_total", "dir, transport, ip_version"),
                    "{{dir}} {{transport}} {{ip_version}}",
                ),
            ),
        ),
        Panel(
            "Connections ended, by whom and how",
            "cps",
            ((_rate("libp2p_quic_connections_ended_total", "by, kind") + " > 0", "{{by}}: {{kind}}"),),
        ),
        Panel(
            "Dials",
            "cps",
            (
                (_rate("libp2p_quic_dials_total"), "dials"),
                (_rate("libp2p_swarm_dial_errors_total", "error") + " > 0", "failed: {{error}}"),
            ),
        ),
        Panel(
            "Handshake latency",
            "s",
            tuple(
                (_quantile(q, _HANDSHAKES, "le, transport"), f"{{{{transport}}}} {100 * q:g} %")
                for q in (0.5, 0.9, 0.99)
            ),
        ),
        Panel(
            "Handshakes in progress",
            "short",
            ((f"sum by (dir) (libp2p_quic_handshakes_in_progress{NODES})", "{{dir}}"),),
        ),
    ),
    "Refusals": (
        Panel(
            "Inbound connections refused",
            "cps",
            ((_rate("libp2p_quic_inbound_refused_total", "limit") + " > 0", "{{limit}}"),),
            "The limit or the part that refused them. Raise a limit that good peers reach.",
        ),
        Panel(
            "Inbound handshakes",
            "cps",
            (
                (_rate("libp2p_quic_inbound_handshakes_total"), "began"),
                (_rate("libp2p_quic_inbound_handshakes_failed_total"), "failed"),
                (_rate("libp2p_quic_retries_sent_total"), "Retry sent"),
                (_rate("libp2p_quic_stateless_resets_total", "outcome"), "stateless reset {{outcome}}"),
            ),
        ),
    ),
    "Traffic": (
        Panel(
            "Bytes", "Bps", ((_rate("libp2p_quic_transferred_bytes_total", "direction"), "{{direction}}"),)
        ),
        Panel("Datagrams", "pps", ((_rate("libp2p_quic_datagrams_total", "direction"), "{{direction}}"),)),
        Panel(
            "Datagrams in a batch",
            "short",
            tuple((_batch(each), each) for each in ("sent", "received")),
            "1 under load: segmentation or receive offload does not work here.",
        ),
        Panel(
            "Packets lost",
            "percentunit",
            ((_per("libp2p_quic_packets_lost_total", "libp2p_quic_packets_sent_total"), "lost"),),
        ),
        Panel(
            "Congestion events", "cps", ((_rate("libp2p_quic_congestion_events_total"), "congestion events"),)
        ),
        Panel(
            "Round-trip time of open connections",
            "s",
            tuple((_quantile(q, _RTTS), f"{100 * q:g} %") for q in (0.5, 0.9, 0.99)),
        ),
    ),
    "Streams and memory": (
        Panel("Open streams", "short", ((f"sum(libp2p_quic_streams_open{NODES})", "streams"),)),
        Panel("Streams", "cps", ((_rate("libp2p_quic_streams_total", "dir"), "{{dir}}"),)),
        Panel(
            "Memory budgets in use",
            "percentunit",
            (
                (
                    f"sum by (purpose) (libp2p_quic_memory_reserved_bytes{NODES}) / "
                    f"sum by (purpose) (libp2p_quic_memory_budget_bytes{NODES})",
                    "{{purpose}}",
                ),
            ),
            "Connections get less room from 50 % on.",
        ),
        Panel(
            "Keep-alives and migrations",
            "cps",
            (
                (_rate("libp2p_quic_keep_alives_sent_total"), "keep-alives"),
                (_rate("libp2p_quic_migrations_total"), "migrations"),
            ),
        ),
        Panel("Buffers kept", "bytes", ((f"sum(libp2p_quic_buffers_kept_bytes{NODES})", "bytes"),)),
        Panel("Wake-ups of the engine's thread", "cps", ((_rate("libp2p_quic_io_waits_total"), "wake-ups"),)),
    ),
}

# Grafana's grid has 24 columns: three graphs in a row.
_WIDTH, _HEIGHT = 8, 7


def queries() -> list[str]:
    """Every expression of the dashboard, with its variables."""
    return [query for panels in ROWS.values() for panel in panels for query, _ in panel.queries]


def dashboard() -> str:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
                "panels": [],
            }
        )
        top += 1
        for place, panel in enumerate(row):
            at = {"x": place % 3 * _WIDTH, "y": top + place // 3 * _HEIGHT}
            panels.append(_panel(len(panels) + 1, panel, {"h": _HEIGHT, "w": _WIDTH, **at}))
        top += -(-len(row) // 3) * _HEIGHT
    made = {
        "__inputs": [
            {
                "name": "DS_PROMETHEUS",
                "label": "Prometheus",
                "type": "datasource",
                "pluginId": "prometheus",
                "pluginName": "Prometheus",
            }
        ],
        "title": "libp2p-quic",
        "uid": "libp2p-quic",
        "tags": ["libp2p", "quic"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_variable("job"), _variable("instance")]},
        "panels": panels,
    }
    return json.dumps(made, indent=2) + "\n"


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": source, "expr": query, "legendFormat": legend}
            for place, (query, legend) in enumerate(panel.queries)
        ],
    }


def _variable(label: str) -> dict[str, Any]:
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${DS_PROMETHEUS}"},
        "query": f"label_values(libp2p_quic_build_info, {label})",
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    PAGE.write_text(page())
    DASHBOARD.write_text(dashboard())
