"""Snapshots of the counters of a connection, of an endpoint and of the process, with typed fields.

The engine counts, and each transport or asyncio endpoint counts its dials (`_dial_counts`) and gates.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

from libp2p_quic import _engine
from libp2p_quic._dial_counts import DialCause, no_failures
from libp2p_quic._engine import Endpoint
from libp2p_quic._engine_errors import CloseKind, EndpointClosedError, Party

EcnState = Literal["testing", "unknown", "capable", "failed"]


class ConnectionStatistics(NamedTuple):
    """What a connection did until now. Times are in seconds; bytes are those of UDP payload.

    At most 10 ms old while data moves; after the end of the connection as it was last. Use the fields by
    name: later versions may add some in between.
    """

    rtt: float
    """Smoothed round-trip time, in seconds (RFC 9002 section 5.3). ``initial_rtt`` (default: 0.333)
    before the first measurement."""
    min_rtt: float
    """The shortest round-trip time of the current path, in seconds."""
    initial_sent: float | None
    """When the first Initial packet was sent, in seconds since the engine began the dial, as are the other
    times of flights. The engine repeats an unanswered dial each 0.8 s: it is that of the attempt that was
    answered, else of one that still waits. None until then, and for an accepted connection."""
    first_answer: float | None
    """When the first datagram of the peer arrived: with its ServerHello, an acknowledgment, or a Retry (RFC
    9000 section 8.1.2). None until then, and for an accepted connection."""
    server_hello: float | None
    """When the first CRYPTO frame of the peer arrived: its ServerHello, or a HelloRetryRequest (RFC 8446
    section 4.1). None until then, and for an accepted connection."""
    handshake: float
    """The duration of the handshake from the first packet, in seconds. 0 until it is complete."""
    confirmed: float | None
    """When HANDSHAKE_DONE arrived, with which the listener confirms the handshake (RFC 9001 section 4.1.2).
    Over WebTransport it may come before ``handshake`` is over, which waits for the proof of the peer's
    identity. None until then, and for an accepted connection."""
    ecn: EcnState
    """Whether datagrams to the peer are marked for ECN (RFC 9000 appendix A.4): "testing" (marked, nothing
    acknowledged yet), "capable" (marked, the path carries marks), "unknown" (marked, an acknowledgment is
    overdue), "failed" (not marked: the path or the peer does not carry marks)."""
    congestion_window: int
    """Bytes that may be in flight (RFC 9002 section 7)."""
    mtu: int
    """The largest UDP payload that the path is known to carry, in bytes."""
    bytes_sent: int
    """Bytes sent, with all headers of QUIC and retransmissions."""
    bytes_received: int
    """Bytes received."""
    datagrams_sent: int
    """UDP datagrams sent."""
    datagrams_received: int
    """UDP datagrams received."""
    sends: int
    """Batches in which the system took the datagrams: with segmentation offload, fewer than
    ``datagrams_sent``."""
    packets_sent: int
    """QUIC packets sent. In the handshake a datagram may hold several."""
    packets_lost: int
    """Packets declared lost (RFC 9002 section 6), without probes of the MTU."""
    bytes_lost: int
    """The bytes of those packets."""
    congestion_events: int
    """How often the congestion window was reduced, for losses or ECN marks."""
    black_holes: int
    """How often the MTU was reduced, as only large packets were lost."""
    keep_alives_sent: int
    """PINGs that were sent because the connection was silent."""
    migrations: int
    """How often the peer changed its address (RFC 9000 section 9)."""
    streams_open: int
    """Streams of both sides on which either direction is open. 0 after the end."""
    streams_waiting: int
    """Streams of the peer that this program has not accepted yet."""
    streams_opened: int
    """Streams that this program opened."""
    streams_accepted: int
    """Streams of the peer that this program accepted."""
    receive_window: int
    """Bytes that the peer may send beyond those that were read (RFC 9000 section 4)."""
    receive_held: int
    """Memory of received bytes that wait for readers, in bytes: 64 more than the contents of each chunk."""


class Distribution(NamedTuple):
    """How many times fall between two bounds."""

    buckets: tuple[int, ...] = (0,) * (len(_engine.time_bounds()) + 1)
    """How many times are at most `bounds` of the same index, and longer than the bound before. The last
    one counts all longer times."""
    seconds: float = 0.0
    """The sum of all times, in seconds."""

    @property
    def bounds(self) -> tuple[float, ...]:
        """The upper bounds of all buckets but the last, in seconds: 0.0005 to 10."""
        return TIME_BOUNDS

    @property
    def total(self) -> int:
        """How many times there are."""
        return sum(self.buckets)


TIME_BOUNDS = tuple(_engine.time_bounds())
# Who can end a connection, and how. Connections of a parent process do not count here.
ENDS: tuple[tuple[Party, CloseKind], ...] = tuple(
    product(get_args(Party), (kind for kind in get_args(CloseKind) if kind != "forked"))
)


class EndpointStatistics(NamedTuple):
    """What a transport, or an asyncio endpoint, did until now, and what it has in use.

    Bytes are those of UDP payload. Fields whose text has "now" go up and down; all others only grow, also
    over several runs of one transport. Use the fields by name: later versions may add some in between.
    """

    connections_open: int = 0
    """Connections that are open now: verified, and not ended by either side."""
    handshakes_inbound: int = 0
    """Inbound connections whose handshake is in progress now."""
    handshakes_outbound: int = 0
    """Outbound connections whose handshake is in progress now: one for each address that is dialed, and one
    more while a silent peer is asked again."""
    streams_open: int = 0
    """Streams now on which either direction is open, of all connections."""
    round_trip_times: Distribution = Distribution()
    """The smoothed round-trip times of the open connections now."""
    receive_budget: int = 0
    """Bytes that all connections together may hold for readers: the configuration's ``receive_budget``."""
    receive_reserved: int = 0
    """How much of it is reserved now, for bytes that peers may send."""
    send_budget: int = 0
    """Bytes that all connections together may hold for peers: the configuration's ``send_budget``."""
    send_reserved: int = 0
    """How much of it is reserved now, for bytes that peers have not acknowledged."""

    dials_started: int = 0
    """Dials that the program began: one for each call, however many addresses it tries."""
    dials_succeeded: int = 0
    """Dials that returned a connection."""
    dials_failed: Mapping[DialCause, int] = no_failures()
    """Dials that failed, for each cause: "canceled" (by the program), "gated" (by a gate of either side),
    "limit" (the peer's), "peer_id_mismatch", "refused" (in the handshake), "timeout", "unreachable",
    "other"."""
    webtransport_dials_started: int = 0
    """Dials of addresses of WebTransport. Part of ``dials_started``."""
    webtransport_dials_succeeded: int = 0
    """Dials of addresses of WebTransport. Part of ``dials_succeeded``."""
    webtransport_dials_failed: Mapping[DialCause, int] = no_failures()
    """Dials of addresses of WebTransport. Part of ``dials_failed``."""
    dialed_ip4: int = 0
    """Dialed connections over IPv4 whose handshake completed."""
    dialed_ip6: int = 0
    """Dialed connections over IPv6 whose handshake completed."""
    accepted_ip4: int = 0
    """Inbound connections over IPv4 whose handshake completed, before the gates and the swarm are asked."""
    accepted_ip6: int = 0
    """Inbound connections over IPv6 whose handshake completed, before the gates and the swarm are asked."""
    dialed_closed_ip4: int = 0
    """Dialed connections over IPv4 that have ended after their handshake."""
    dialed_closed_ip6: int = 0
    """Dialed connections over IPv6 that have ended after their handshake."""
    accepted_closed_ip4: int = 0
    """Inbound connections over IPv4 that have ended after their handshake."""
    accepted_closed_ip6: int = 0
    """Inbound connections over IPv6 that have ended after their handshake."""
    dialed_webtransport_ip4: int = 0
    """Sessions of WebTransport. Part of ``dialed_ip4``."""
    dialed_webtransport_ip6: int = 0
    """Sessions of WebTransport. Part of ``dialed_ip6``."""
    accepted_webtransport_ip4: int = 0
    """Sessions of WebTransport. Part of ``accepted_ip4``."""
    accepted_webtransport_ip6: int = 0
    """Sessions of WebTransport. Part of ``accepted_ip6``."""
    dialed_closed_webtransport_ip4: int = 0
    """Sessions of WebTransport. Part of ``dialed_closed_ip4``."""
    dialed_closed_webtransport_ip6: int = 0
    """Sessions of WebTransport. Part of ``dialed_closed_ip6``."""
    accepted_closed_webtransport_ip4: int = 0
    """Sessions of WebTransport. Part of ``accepted_closed_ip4``."""
    accepted_closed_webtransport_ip6: int = 0
    """Sessions of WebTransport. Part of ``accepted_closed_ip6``."""
    connections_closed: Mapping[tuple[Party, CloseKind], int] = MappingProxyType({})
    """Connections of both directions that ended after their handshake, for each pair of who ended it and
    how, as `ConnectionClosed` has them in ``by`` and ``kind``. Pairs that did not occur are missing."""
    handshake_times: Distribution = Distribution()
    """The durations of completed handshakes of both directions."""
    webtransport_handshake_times: Distribution = Distribution()
    """Those of WebTransport, up to the proof of the peer's identity. Part of ``handshake_times``."""

    handshakes_started: int = 0
    """Inbound handshakes started."""
    handshakes_failed: int = 0
    """Inbound handshakes that failed, for any reason: scans, peers that vanish, refused certificates."""
    handshakes_refused: int = 0
    """Inbound handshakes that this side refused for the peer's certificate. Part of ``handshakes_failed``."""
    refused_denied_address: int = 0
    """Inbound connections refused because ``deny_addresses`` has their address."""
    refused_connections: int = 0
    """Inbound connections refused because ``max_connections`` was reached."""
    refused_connections_per_address: int = 0
    """Inbound connections refused because ``max_connections_per_address`` was reached."""
    refused_accept_backlog: int = 0
    """Inbound connections closed because ``max_accept_backlog`` waited to be accepted."""
    refused_by_gate: int = 0
    """Inbound connections that a gate denied after the handshake."""
    refused_by_swarm: int = 0
    """Inbound connections that the host's swarm refused for a limit of its own; 0 in asyncio programs."""
    ignored_handshakes: int = 0
    """First packets ignored because ``max_handshakes`` was reached. Most are dropped uncounted then."""
    ignored_handshakes_per_address: int = 0
    """First packets ignored because ``max_handshakes_per_address`` was reached."""
    retries_sent: int = 0
    """Retry packets sent to validate an address (RFC 9000 section 8.1.2)."""
    resets_sent: int = 0
    """Stateless resets sent for packets of unknown connections (RFC 9000 section 10.3)."""
    resets_suppressed: int = 0
    """Stateless resets not sent, because of their limit of 1 000 in a second."""

    datagrams_sent: int = 0
    """UDP datagrams that connections sent."""
    bytes_sent: int = 0
    """Their bytes."""
    batches_sent: int = 0
    """Batches in which the system took them: with segmentation offload, fewer than ``datagrams_sent``."""
    datagrams_received: int = 0
    """UDP datagrams received by the sockets, those of no connection included."""
    bytes_received: int = 0
    """Their bytes."""
    batches_received: int = 0
    """Batches in which the system passed them on: with receive offload, fewer than
    ``datagrams_received``."""
    datagrams_unanswerable: int = 0
    """Datagrams dropped as nothing can be sent to their source address."""
    packets_sent: int = 0
    """QUIC packets that connections sent."""
    packets_lost: int = 0
    """Packets declared lost (RFC 9002 section 6)."""
    bytes_lost: int = 0
    """The bytes of those packets."""
    congestion_events: int = 0
    """How often a congestion window was reduced."""
    keep_alives_sent: int = 0
    """PINGs that were sent because a connection was silent."""
    migrations: int = 0
    """How often peers changed their address (RFC 9000 section 9)."""
    streams_opened: int = 0
    """Streams that this program opened."""
    streams_accepted: int = 0
    """Streams of peers that this program accepted."""


class ProcessStatistics(NamedTuple):
    """The sums of all transports and endpoints of the process, those that were closed included, and what
    they share. In the child of a fork, those of the child."""

    endpoints: int
    """Endpoints that exist now. A transport has one for each event loop in which it listens or dials."""
    connections_open: int
    """Connections that are open now."""
    handshakes_inbound: int
    """Inbound connections whose handshake is in progress now."""
    handshakes_outbound: int
    """Outbound connections whose handshake is in progress now."""
    streams_open: int
    """Streams now on which either direction is open."""
    datagrams_sent: int
    """UDP datagrams that connections sent."""
    bytes_sent: int
    """Their bytes of UDP payload."""
    batches_sent: int
    """Batches in which the system took them."""
    datagrams_received: int
    """UDP datagrams received."""
    bytes_received: int
    """Their bytes of UDP payload."""
    batches_received: int
    """Batches in which the system passed them on."""
    packets_lost: int
    """Packets declared lost."""
    buffers_kept: int
    """Bytes of buffers that are kept for reuse until there was no traffic for 0.1 s."""
    waits: int
    """How often the engine's thread waited for something to do."""


# What is in use, and not counted.
GAUGES = (
    "connections_open",
    "handshakes_inbound",
    "handshakes_outbound",
    "streams_open",
    "round_trip_times",
    "receive_budget",
    "receive_reserved",
    "send_budget",
    "send_reserved",
)


def endpoint_statistics(engine: Endpoint | None) -> EndpointStatistics:
    """What the engine counted. None: nothing yet."""
    if engine is None:
        return EndpointStatistics()
    try:
        counted = engine.statistics()
    except EndpointClosedError:
        # In the child of a fork: it belongs to the parent.
        return EndpointStatistics()
    del counted["endpoints"]
    for name in ("handshake_times", "webtransport_handshake_times", "round_trip_times"):
        buckets, total = counted[name]
        counted[name] = Distribution(tuple(buckets), total)
    closed = counted["connections_closed"]
    counted["connections_closed"] = {end: count for end, count in closed.items() if count}
    return EndpointStatistics(**counted)


def process_statistics() -> ProcessStatistics:
    """A snapshot of the counters of this process. Waits for nothing; may be called in any thread."""
    counted = _engine.process_statistics()
    return ProcessStatistics(*(counted[name] for name in ProcessStatistics._fields))


def added(ended: EndpointStatistics, current: EndpointStatistics) -> EndpointStatistics:
    """The counters of both, and what ``current`` has in use."""
    values: dict[str, Any] = {
        name: more if name in GAUGES else _sum(before, more)
        for name, before, more in zip(EndpointStatistics._fields, ended, current, strict=True)
    }
    return EndpointStatistics(**values)


def summed(one: EndpointStatistics, other: EndpointStatistics) -> EndpointStatistics:
    """The counters of both, and what both have in use."""
    return EndpointStatistics(*(_sum(*pair) for pair in zip(one, other, strict=True)))


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Distribution):
        buckets = (a + b for a, b in zip(one.buckets, other.buckets, strict=True))
        return Distribution(tuple(buckets), one.seconds + other.seconds)
    if isinstance(one, Mapping):
        return {key: one.get(key, 0) + other.get(key, 0) for key in {**one, **other}}
    return one + other
