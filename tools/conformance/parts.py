"""Which of py-libp2p's tests are run, and their groups in the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A separate run. With ``every_host``, hosts that ask for TCP get QUIC. With ``hole_punching``, hosts on
    ours punch holes."""

    name: str
    title: str
    every_host: bool
    # Row of the table: where its tests are.
    rows: dict[str, tuple[str, ...]]
    hole_punching: bool = False


QUIC = Part(
    "quic",
    "what py-libp2p tests about QUIC",
    every_host=False,
    rows={
        "transport, listener, security": ("tests/core/transport/quic",),
        "WebTransport": ("tests/core/transport/webtransport",),
        "several transports in one host": (
            "tests/transport",
            "tests/core/transport/test_transport_manager.py",
        ),
        "swarm and host configuration": (
            "tests/core/network/test_swarm.py",
            "tests/core/network/test_health_host_api.py",
        ),
        "hole punching (DCUtR)": ("tests/core/relay/test_dcutr_protocol.py",),
        "the echo example": ("tests/examples/test_quic_echo_example.py",),
    },
)

WIDE = Part(
    "wide",
    "the rest of py-libp2p, with QUIC instead of TCP in every host",
    every_host=True,
    rows={
        "swarm, connections, net_stream": ("tests/core/network",),
        "host, ping, autonat": ("tests/core/host", "tests/core/test_libp2p"),
        "identify, identify/push": ("tests/core/identity",),
        "pubsub": ("tests/core/pubsub",),
        "kademlia": ("tests/core/kad_dht",),
        "request_response": ("tests/core/request_response",),
        "perf": ("tests/core/perf",),
        "relay": ("tests/core/relay",),
        "bitswap": ("tests/core/bitswap",),
        "discovery": ("tests/core/discovery",),
        "resource manager": ("tests/core/rcmgr",),
    },
)

# Again, with what enable_hole_punching changes in py-libp2p: no test of the other parts runs that.
PUNCHING = Part(
    "punching",
    "py-libp2p's DCUtR, AutoNAT, identify and relay, with hole punching in every host",
    every_host=True,
    rows={
        "hole punching (DCUtR)": (
            "tests/core/relay/test_dcutr_protocol.py",
            "tests/core/relay/test_dcutr_integration.py",
        ),
        "AutoNAT": ("tests/core/host/test_autonat.py",),
        "identify": ("tests/core/identity/identify",),
        "identify/push": ("tests/core/identity/identify_push",),
        "observed addresses": ("tests/core/host/test_observed_addr_manager.py",),
        "relay": (
            "tests/core/relay/test_circuit_v2_discovery.py",
            "tests/core/relay/test_circuit_v2_protocol.py",
            "tests/core/relay/test_circuit_v2_transport.py",
            "tests/core/relay/test_nat.py",
            "tests/core/relay/test_performance_tracker.py",
        ),
    },
    hole_punching=True,
)

PARTS = (QUIC, WIDE, PUNCHING)


def row_of(part: Part, test: str) -> str:
    """The row of ``test``: that of its longest path prefix."""
    paths = {path: row for row, paths in part.rows.items() for path in paths}
    return paths[max((path for path in paths if test.startswith(path)), key=len)]
