"""The binding does what its stub documents: identities, endpoints, connections, tokens.

Streams are in test_engine_streams. Two endpoints on loopback in this process, without an
event loop and without py-libp2p's hosts. That the stub matches the module in names and
signatures is stubtest's work.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.serialization import deserialize_public_key
from libp2p.peer.id import ID

from libp2p_quic import ConnectionStatistics, EndpointStatistics, _engine
from libp2p_quic._engine import Config, Endpoint, Identity, ReadyQueue, process_statistics, time_bounds
from libp2p_quic._engine_errors import (
    ConfigError,
    ConnectionLostError,
    EndpointClosedError,
    IdentityError,
)
from libp2p_quic._host_key import identity_of
from testkit.census import PATIENCE
from testkit.engine import Pair, identity, pair


@pytest.fixture
def two() -> Iterator[Pair]:
    with pair() as made:
        yield made


# Identity


@pytest.mark.parametrize("kind", [ed25519, secp256k1, rsa])
def test_identity_is_that_of_the_key(kind: object) -> None:
    keys = kind.create_new_key_pair()  # type: ignore[attr-defined]
    made = identity_of(keys.private_key)
    assert ID(made.peer_id) == ID.from_pubkey(keys.public_key)
    assert deserialize_public_key(made.public_key).to_bytes() == keys.public_key.to_bytes()


@pytest.mark.parametrize("key", [b"", b"\x00", b"\x08\x01\x12\x40" + b"x" * 63, bytes(64)])
def test_unreadable_key(key: bytes) -> None:
    with pytest.raises(IdentityError) as refused:
        Identity(key)
    assert isinstance(refused.value, ValueError)


def test_32_bytes_without_a_type_are_no_private_key() -> None:
    keys = ed25519.create_new_key_pair()
    # py-libp2p writes the seed alone, which has the same form as a public key.
    for key in (keys.public_key, keys.private_key):
        with pytest.raises(IdentityError, match="cannot read the private key"):
            Identity(key.serialize())


# Config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("handshake_timeout", 0.0),
        ("handshake_timeout", float("nan")),
        ("idle_timeout", -1.0),
        ("idle_timeout", float("inf")),
        ("keep_alive_interval", 0.0),
        ("keep_alive_interval", 31.0),
        ("linger", -0.1),
        ("stream_receive_window", 0),
        ("connection_receive_window", 2**62),
        ("send_window", 0),
        ("read_buffer", 0),
        ("write_buffer", 0),
        ("max_accept_backlog", 0),
        ("congestion_control", "vegas"),
        ("initial_rtt", 0.0),
        ("max_datagram_size", 1199),
    ],
)
def test_config_error_names_the_field(field: str, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        Config(**{field: value})  # type: ignore[arg-type]
    assert refused.value.field == field
    assert field in str(refused.value)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(("field", "value"), [("linger", "long"), ("max_handshakes", None), ("lingers", 1.0)])
def test_a_wrong_type_and_an_unknown_field_are_named(field: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{field}: "):
        Config(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["cubic", "newreno", "bbr"])
def test_every_congestion_control_moves_data(algorithm: str) -> None:
    with pair(near={"congestion_control": algorithm}) as two:
        ours, theirs = two.streams(*two.connected())
        two.write(ours, bytes(100_000))
        ours.finish()
        got = 0
        while data := two.read(theirs, 65_536):
            got += len(data)
        assert got == 100_000


# Endpoint and listener


def test_listen_returns_the_bound_address() -> None:
    endpoint = Endpoint(identity(), Config(), ReadyQueue())
    first, second = endpoint.listen("127.0.0.1", 0), endpoint.listen("::1", 0)
    assert first.local_address[0] == "127.0.0.1"
    assert second.local_address[0] == "::1"
    assert first.local_address[1] > 0
    endpoint.close(0, b"")


def test_listen_refuses_what_the_system_refuses() -> None:
    endpoint = Endpoint(identity(), Config(), ReadyQueue())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="in use") as refused:
            endpoint.listen("127.0.0.1", taken.getsockname()[1])
    assert refused.value.errno == errno.EADDRINUSE
    with pytest.raises((OSError, ValueError)):
        endpoint.listen("localhost", 0)
    endpoint.close(0, b"")


def test_closed_endpoint() -> None:
    ready_queue = ReadyQueue()
    endpoint = Endpoint(identity(), Config(), ready_queue)
    listener = endpoint.listen("127.0.0.1", 0)
    assert endpoint.closed_nowait() is None
    endpoint.close(0, b"done")
    endpoint.close(1, b"again")
    with pytest.raises(EndpointClosedError):
        endpoint.listen("127.0.0.1", 0)
    with pytest.raises(EndpointClosedError):
        endpoint.connect("127.0.0.1", 1, None)
    endpoint.flush()
    while endpoint.closed_nowait() is None:
        assert select.select([ready_queue.fileno()], [], [], PATIENCE)[0], "never closed"
        ready_queue.drain()
    with pytest.raises(EndpointClosedError):
        listener.accept_nowait()


def test_closed_listener_leaves_its_connections(two: Pair) -> None:
    near, far = two.connected()
    two.listener.close()
    two.listener.close()
    with pytest.raises(EndpointClosedError):
        two.listener.accept_nowait()
    ours, theirs = two.streams(near, far)
    two.write(theirs, b"alive")
    assert two.read(ours, 10) == b"alive"


def test_listener_statistics(two: Pair) -> None:
    near, _ = two.connected()
    counted = two.listener.statistics()
    assert set(counted) == {
        "handshakes_started",
        "handshakes_failed",
        "handshakes_refused",
        "connections_accepted",
        "connections_refused",
        "retries_sent",
        "resets_sent",
        "resets_suppressed",
        "datagrams_received",
        "bytes_received",
        "datagrams_unanswerable",
        "backlog",
    }
    assert counted["connections_accepted"] == 1
    assert counted["backlog"] == 0
    assert counted["bytes_received"] >= 1200
    assert near.closed_nowait() is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a raw socket needs root")
def test_listener_drops_and_counts_what_comes_from_port_zero(two: Pair) -> None:
    host, port = two.listener.local_address
    # A first packet of an unknown version: from any other port it is answered.
    payload = b"\xc0\x1a\x2a\x3a\x4a\x08" + bytes(8) + b"\x08" + bytes(8 + 1177)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        raw.sendto(struct.pack("!HHHH", 0, port, 8 + len(payload), 0) + payload, (host, 0))
    # The kernel may deliver the datagrams of two sockets in any order, so there may be connections before it.
    while not two.listener.statistics()["datagrams_unanswerable"]:
        two.connected()
    assert two.listener.statistics()["datagrams_unanswerable"] == 1


def test_endpoint_statistics(two: Pair) -> None:
    # A connection that the program drops is closed.
    near, far = two.connected()
    counted, process = two.far.statistics(), process_statistics()
    shared = set(counted) - {"endpoints"}
    by_the_adapter = {
        "dials_started",
        "dials_succeeded",
        "dials_failed",
        "webtransport_dials_started",
        "webtransport_dials_succeeded",
        "webtransport_dials_failed",
        "refused_by_gate",
        "refused_by_swarm",
    }
    assert shared == set(EndpointStatistics._fields) - by_the_adapter
    assert set(process) == set(counted) | {"buffers_kept", "waits"}
    assert (counted["endpoints"], counted["connections_open"], counted["accepted_ip4"]) == (1, 1, 1)
    for name in ("handshake_times", "round_trip_times"):
        buckets, seconds = counted[name]
        assert len(buckets) == len(time_bounds()) + 1
        assert (sum(buckets), seconds > 0) == (1, True)
    assert time_bounds() == sorted(time_bounds())
    assert near.statistics()["handshake"] > 0 < far.statistics()["handshake"]
    # Alone: the close of the other endpoint would race with it.
    two.far.close(0, b"")
    assert two.take(two.far.closed_nowait, two.far.closed)
    assert two.far.statistics()["connections_open"] == 0
    assert two.far.statistics()["connections_closed"]["local", "closed"] == 1


def test_census_counts_objects_and_is_empty_at_the_end(two: Pair) -> None:
    near, far = two.connected()
    two.streams(near, far)
    for endpoint in (two.near, two.far):
        held = endpoint.census()
        assert (held["connections"], held["handshakes"]) == (1, 0)
        assert held["streams"] >= 1
        assert held["promised"] > 0
    two.close()
    assert set(two.near.census().values()) == {0}


# Connection


def test_connection_knows_its_ends(two: Pair) -> None:
    host, port = two.listener.local_address
    near = two.near.connect(host, port, two.far_identity.peer_id)
    assert two.take(near.connected_nowait, near.connected) is True
    far = two.take(two.listener.accept_nowait, two.listener.acceptable)
    for end, expected in ((near, two.far_identity), (far, two.near_identity)):
        assert (end.peer_id, end.public_key) == (expected.peer_id, expected.public_key)
    assert (near.is_initiator, far.is_initiator) == (True, False)
    assert near.remote_address == two.listener.local_address
    assert far.remote_address[1] == near.local_address[1]
    assert near.tls == far.tls
    assert near.tls is not None
    assert near.tls[0] in ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
    assert near.tls[1:] == ("X25519MLKEM768", "libp2p")
    assert set(near.statistics()) == set(ConnectionStatistics._fields)
    assert 0 < near.statistics()["handshake"] < 20


def test_dial_without_an_expected_peer(two: Pair) -> None:
    near = two.near.connect(*two.listener.local_address, None)
    two.take(near.connected_nowait, near.connected)
    assert near.peer_id == two.far_identity.peer_id


def test_wrong_peer(two: Pair) -> None:
    near = two.near.connect(*two.listener.local_address, identity().peer_id)
    with pytest.raises(ConnectionLostError) as refused:
        two.take(near.connected_nowait, near.connected)
    assert (refused.value.kind, refused.value.by) == ("peer_id_mismatch", "local")
    assert two.listener.accept_nowait() is None
    # The listener accepts the second dial, and would have accepted the first one before it.
    two.connected()
    assert two.listener.statistics()["connections_accepted"] == 1


def test_first_datagrams_of_a_new_socket_are_sent() -> None:
    """A dial opens a socket and uses it at once; the handshake must not wait for a retry."""
    for _ in range(30):
        # The first retry comes after three times the assumed round trip (RFC 9002, 6.2).
        with pair(near={"initial_rtt": 5.0, "handshake_timeout": 60.0}) as two:
            near, _ = two.connected()
            assert near.statistics()["handshake"] < 15
            assert near.statistics()["packets_lost"] == 0


def test_handshake_timeout() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute,
        pair(near={"handshake_timeout": 0.2}) as two,
    ):
        mute.bind(("127.0.0.1", 0))
        near = two.near.connect("127.0.0.1", mute.getsockname()[1], two.far_identity.peer_id)
        assert near.connected_nowait() is None
        # The expected peer id is not the verified one.
        assert (near.peer_id, near.public_key) == (None, None)
        with pytest.raises(ConnectionLostError) as late:
            two.take(near.connected_nowait, near.connected)
    assert (late.value.kind, late.value.by) == ("handshake_timeout", "network")
    assert late.value.code is None


def test_close_carries_code_and_reason(two: Pair) -> None:
    near, far = two.connected()
    assert near.closed_nowait() is None
    near.close(4711, b"enough")
    near.close(1, b"too late")
    ours = two.take(near.closed_nowait, near.closed)
    theirs = two.take(far.closed_nowait, far.closed)
    assert isinstance(ours, ConnectionLostError)
    assert (ours.by, ours.kind, ours.code) == ("local", "closed", 4711)
    assert (theirs.by, theirs.kind, theirs.code, theirs.reason) == ("peer", "closed", 4711, "enough")
    for connection in (near, far):
        with pytest.raises(ConnectionLostError):
            connection.open_stream_nowait()
        with pytest.raises(ConnectionLostError):
            connection.accept_stream_nowait()
        connection.close(0, b"")


def test_an_idle_timeout_is_attributed_to_the_network() -> None:
    silent = {"idle_timeout": 1.5, "keep_alive_interval": None}
    with pair(near=silent, far=silent) as two:
        near, far = two.connected()
        for connection in (near, far):
            lost = two.take(connection.closed_nowait, connection.closed)
            assert (lost.by, lost.kind, lost.code) == ("network", "idle_timeout", None)


# Tokens and the ready queue


def test_tokens_are_all_different(two: Pair) -> None:
    near, far = two.connected()
    ours, theirs = two.streams(near, far)
    tokens = [two.near.closed, two.far.closed, two.listener.acceptable]
    for connection in (near, far):
        tokens += [connection.connected, connection.openable, connection.acceptable, connection.closed]
    for stream in (ours, theirs):
        tokens += [stream.readable, stream.writable, stream.finished]
    assert len(set(tokens)) == len(tokens)


def test_ready_queue_is_empty_until_an_event(two: Pair) -> None:
    ours, theirs = two.streams(*two.connected())
    assert ours.read_nowait(1) is None
    two.ready_queue.drain()
    assert two.ready_queue.drain() == []
    assert not select.select([two.ready_queue.fileno()], [], [], 0)[0]
    two.write(theirs, b"x")
    assert select.select([two.ready_queue.fileno()], [], [], PATIENCE)[0]
    assert ours.readable in two.ready_queue.drain()
    assert not select.select([two.ready_queue.fileno()], [], [], 0)[0]
    assert ours.read_nowait(1) == b"x"


def test_methods_work_from_any_thread(two: Pair) -> None:
    ours, theirs = two.streams(*two.connected())

    def write() -> None:
        assert ours.write_nowait(b"from a thread") == 13
        two.near.flush()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(PATIENCE)
    assert two.read(theirs, 100) == b"from a thread"


def test_version_is_that_of_the_project() -> None:
    assert _engine.__version__.count(".") == 2
