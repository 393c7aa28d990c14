"""Every hook of py-libp2p that this package leans on, by behavior: what a new release must still do, or
the package has to follow.

A failure here names what changed. The defects that this package repairs are listed at the end: a test
that fails there means that py-libp2p has mended itself, and that the repair may go. The hooks that only hole
punching has are in `test_py_libp2p_hooks_hole_punching.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from traceback import walk_tb
from types import SimpleNamespace
from typing import Any

import libp2p
import libp2p.host.basic_host
import libp2p.transport.manager
import libp2p.transport.webtransport
import libp2p.transport.webtransport.transport
import pytest
import trio
from libp2p import new_host
from libp2p.abc import (
    IHost,
    IListener,
    IMuxedConn,
    IMuxedStream,
    INetConn,
    INetStream,
    INetwork,
    IRawConnection,
    ITransport,
)
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import MultiError
from libp2p.host.autonat import autonat
from libp2p.host.observed_addr_manager import ObservedAddrManager
from libp2p.identity.identify import identify
from libp2p.identity.identify_push import identify_push
from libp2p.metrics.swarm import SwarmEvent
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection import swarm_connection
from libp2p.network.exceptions import SwarmDialAllFailedError
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.network.stream.net_stream import StreamState
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.rcmgr.cidr_limits import CIDRLimiter
from libp2p.rcmgr.manager import new_resource_manager
from libp2p.relay.circuit_v2 import dcutr
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.stream_muxer.yamux.yamux import Yamux, YamuxStream
from libp2p.transport.quic import listener as stock_listener
from libp2p.transport.quic import transport as stock_transport
from libp2p.transport.quic.config import QUICTransportConfig
from libp2p.transport.quic.stream import _QUICStreamEOF
from libp2p.transport.webtransport.config import WebTransportConfig
from libp2p.utils.address_validation import get_available_interfaces, has_public_ipv6, is_public_ipv6_address
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICStream, QUICTransport, _host_events, _host_stream
from libp2p_quic._addr import PeerAddresses
from libp2p_quic._hole_punching._autonat import _believes_an_old_connection
from libp2p_quic._hole_punching._identify import _PROBED, _reported_by_stock
from libp2p_quic._hole_punching._tls import _knows_its_connection, _patch
from libp2p_quic._hole_punching._yamux import _updates_for_a_byte
from libp2p_quic._hole_punching._yamux_locks import _is_taken_at_once
from libp2p_quic._host_events import Notifee, _is_told_in_same_task
from testkit.census import PATIENCE, collected, eventually
from testkit.near import IP4, connected_hosts, inbound, near_host, new_stream, swarm, transport_of
from testkit.near import connection as connection_to


def abstract(interface: type) -> set[str]:
    return set(getattr(interface, "__abstractmethods__", ()))


def parameters(call: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(call).parameters)


@pytest.fixture(autouse=True)
def no_host_of_an_earlier_test() -> None:
    """Repairs of py-libp2p's classes end with the last host that wanted them."""
    collected(lambda: not (_patch.is_applied or _host_events._patch.is_applied))


# What py-libp2p calls


@pytest.mark.parametrize(
    ("ours", "interfaces"),
    [
        (QUICTransport, (ITransport,)),
        (QUICListener, (IListener,)),
        (QUICConnection, (IMuxedConn, IRawConnection)),
        (QUICStream, (IMuxedStream,)),
    ],
)
def test_every_abstract_method_is_there(ours: type, interfaces: tuple[type, ...]) -> None:
    for interface in interfaces:
        assert abstract(interface), f"{interface.__name__} has no abstract methods any more"
        missing = {name for name in abstract(interface) if getattr(ours, name, None) is None}
        assert not missing, f"{ours.__name__} lacks {missing} of {interface.__name__}"
    assert not abstract(ours)


def test_new_host_takes_what_the_readme_gives() -> None:
    known = set(parameters(new_host))
    assert {"key_pair", "transports", "enable_quic", "quic_transport_opt", "listen_addrs"} <= known
    assert "enable_webtransport" in known


def test_install_finds_the_names_to_replace() -> None:
    assert libp2p.QUICTransport.__name__ == "QUICTransport"  # type: ignore[attr-defined]
    assert stock_transport.QUICTransport.__name__ == "QUICTransport"
    assert stock_transport.QUICListener.__name__ == "QUICListener"  # type: ignore[attr-defined]
    assert stock_listener.QUICListener.__name__ == "QUICListener"
    webtransport = libp2p.transport.webtransport
    assert webtransport.WebTransportTransport.__name__ == "WebTransportTransport"
    assert webtransport.transport.WebTransportTransport.__name__ == "WebTransportTransport"
    # The host recognizes a QUIC transport by this name.
    assert QUICTransport.__name__ == "QUICTransport"


async def test_the_swarm_attaches_its_transports_before_it_listens() -> None:
    told: list[str] = []

    class Watched(QUICTransport):
        def set_background_nursery(self, nursery: trio.Nursery) -> None:
            told.append("nursery")
            super().set_background_nursery(nursery)

        def set_swarm(self, swarm: Swarm) -> None:
            told.append("swarm")
            super().set_swarm(swarm)

        def create_listener(self, handler_function: Any) -> QUICListener:
            told.append("listener")
            return super().create_listener(handler_function)

    key_pair = create_new_key_pair()
    host = new_host(key_pair=key_pair, transports=[Watched(key_pair.private_key)])
    async with host.run(listen_addrs=[Multiaddr(IP4)]):
        assert told == ["nursery", "swarm", "listener"]
        # `install(hole_punching=True)` finds the host by it.
        handler = swarm(host).common_stream_handler
        assert handler.__self__ is host  # type: ignore[attr-defined]


async def test_the_swarm_sets_what_a_connection_calls() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        connection = await inbound(far, near.get_id())
        assert connection.on_close is not None
        assert connection.swarm is swarm(far)  # type: ignore[attr-defined]
        (dialed,) = swarm(near).get_connections(far.get_id())
        assert dialed.direction.name == "OUTBOUND"  # type: ignore[attr-defined]
        (accepted,) = swarm(far).get_connections(near.get_id())
        assert accepted.direction.name == "INBOUND"  # type: ignore[attr-defined]
        assert accepted.muxed_conn is connection
        assert connection.on_close.__self__ is accepted  # type: ignore[attr-defined]


async def test_the_swarm_takes_new_addresses_for_a_connection() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        connection = await inbound(far, near.get_id())
        (listed,) = swarm(far).get_connections(near.get_id())
        assert listed.get_transport_addresses() == connection.get_transport_addresses()
        moved = [Multiaddr("/ip4/192.0.2.1/udp/1/quic-v1")]
        listed.set_transport_info(moved, ConnectionType.DIRECT)  # type: ignore[attr-defined]
        assert listed.get_transport_addresses() == moved


async def test_the_swarm_lists_a_stream_before_it_has_a_protocol() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        await inbound(far, near.get_id())
        # No byte of the negotiation is sent.
        stream = await connection_to(near, far.get_id()).open_stream()
        await stream.write(b"\x13")
        (listed,) = swarm(far).get_connections(near.get_id())
        assert await eventually(lambda: any(each.protocol_id is None for each in listed.streams))  # type: ignore[attr-defined]
        await stream.reset()


def test_the_configuration_has_the_fields_that_ours_maps() -> None:
    for name in ("idle_timeout", "CONNECTION_HANDSHAKE_TIMEOUT", "STREAM_OPEN_TIMEOUT", "max_connections"):
        assert hasattr(QUICTransportConfig(), name), name
    for name in ("max_connections", "min_connections", "max_connections_per_peer", "connection_timeout"):
        assert hasattr(ConnectionConfig(), name), name
    for config in (QUICTransportConfig(), ConnectionConfig()):
        assert config.outbound_upgrade_timeout > 0
    for name in ("cert_manager", "handshake_timeout", "idle_timeout", "max_concurrent_streams"):
        assert hasattr(WebTransportConfig(), name), name


async def test_the_host_takes_its_limit_of_a_negotiation_from_the_transport() -> None:
    async with near_host(config={"NEGOTIATE_TIMEOUT": 7.0}) as host:
        assert host.negotiate_timeout == 7  # type: ignore[attr-defined]


def test_an_ed25519_key_is_written_as_its_seed() -> None:
    assert len(create_new_key_pair().private_key.to_bytes()) == 32


def test_the_interfaces_of_the_machine_are_given_as_addresses() -> None:
    found = [str(each) for each in get_available_interfaces(4001, "udp")]
    assert all(each.startswith(("/ip4/", "/ip6/")) for each in found)
    assert all(each.endswith("/udp/4001") for each in found)


# Connections and their streams


async def test_a_connection_of_the_swarm_tells_its_end_by_an_event() -> None:
    async with connected_hosts() as (near, far):
        listed: Any = swarm(near).get_connections(far.get_id())[0]
        assert not listed.event_closed.is_set()
        await connection_to(far, near.get_id()).close()
        with trio.fail_after(PATIENCE):
            await listed.event_closed.wait()
        assert listed.is_closed


async def test_the_swarm_forgets_a_connection_without_closing_it() -> None:
    async with connected_hosts() as (near, far):
        network: Any = swarm(near)
        (listed,) = network.get_connections(far.get_id())
        network.remove_conn(listed)
        assert network.get_connections(far.get_id()) == []
        assert not listed.is_closed
        assert not listed.muxed_conn.is_closed


async def test_the_swarm_counts_its_connections() -> None:
    async with connected_hosts() as (near, far):
        for host, inbound_count in ((near, 0), (far, 1)):
            counts = swarm(host).get_metrics()
            assert (counts["inbound"], counts["total"]) == (inbound_count, 1)


async def test_notifees_of_an_inbound_connection_run_below_its_handler() -> None:
    """By that it is known when the handler may be canceled."""
    may_end = trio.Event()

    class Slow(Notifee):
        async def connected(self, network: INetwork, conn: INetConn) -> None:
            await may_end.wait()

    async with near_host(IP4) as near, near_host(IP4) as far:
        swarm(far).register_notifee(Slow())
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        accepted: Any = await inbound(far, near.get_id())
        assert await eventually(lambda: bool(accepted._handler_task.child_nurseries))
        may_end.set()
        assert await eventually(lambda: not accepted._handler_task.child_nurseries)


async def test_the_end_of_a_stream_is_told_by_an_exception_of_the_stock_transport() -> None:
    assert issubclass(_QUICStreamEOF, MuxedStreamEOF)
    async with connected_hosts() as (near, far):

        async def finish(stream: INetStream) -> None:
            await stream.close()

        far.set_stream_handler(TProtocol("/test/end"), finish)
        stream = await new_stream(near, far.get_id(), "/test/end")
        with pytest.raises(StreamEOF) as ended:
            await stream.read(1)
        assert isinstance(ended.value.__cause__, _QUICStreamEOF)


async def test_the_streams_of_a_connection_that_is_over_raise_no_error_of_ours() -> None:
    """The cause is found by the stream in the traceback."""
    may_end = trio.Event()
    async with connected_hosts() as (near, far):

        async def hold(_: INetStream) -> None:
            await may_end.wait()

        far.set_stream_handler(TProtocol("/test/hold"), hold)
        stream = await new_stream(near, far.get_id(), "/test/hold")
        await connection_to(far, near.get_id()).close()
        assert await eventually(lambda: stream._state is StreamState.RESET)
        with pytest.raises(StreamReset) as refused:
            await stream.read(1)
        assert refused.value.__cause__ is None
        found = [frame.f_locals.get("self") for frame, _ in walk_tb(refused.value.__traceback__)]
        assert stream in found
        assert stream.muxed_stream.muxed_conn is stream.muxed_conn
        may_end.set()


# What hole punching and dials of all addresses call


def test_the_swarm_has_the_methods_that_are_called_or_wrapped() -> None:
    assert parameters(Swarm.dial_peer) == ["self", "peer_id"]
    assert parameters(Swarm.dial_addr) == ["self", "addr", "peer_id", "source"]
    assert parameters(Swarm.dial_addr_as_responder) == ["self", "addr", "peer_id", "source"]
    assert parameters(Swarm.add_conn) == ["self", "muxed_conn", "direction"]
    for name in ("register_notifee", "remove_notifee", "get_connections"):
        assert callable(getattr(Swarm, name)), name


async def test_the_swarm_has_the_state_that_a_dial_of_all_addresses_shares() -> None:
    async with near_host() as host:
        network: Any = swarm(host)
        assert network._ongoing_dials == {}
        cache = network._negative_peer_cache
        assert cache.is_blocked("nobody") is False
        cache.mark_failed("nobody")
        assert cache.is_blocked("nobody") is True
        cache.evict("nobody")
        assert cache.is_blocked("nobody") is False
        assert network.psk is None
        assert await network.connection_gate.is_allowed(Multiaddr("/ip4/192.0.2.1/udp/1/quic-v1"))
        assert network._global_dial_limiter.total_tokens > 0
        assert network.metric_send_channel is None
        assert network.retry_config.max_retries >= 0
        maddr = Multiaddr("/ip4/192.0.2.1/udp/1/quic-v1")
        assert isinstance(network.transport_manager.transport_for_dialing(maddr), QUICTransport)


async def test_a_swarm_has_a_manager_from_its_start_on() -> None:
    key_pair = create_new_key_pair()
    host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])
    network: Any = swarm(host)
    # A dial of a host that was never run fails with this error.
    with pytest.raises(AttributeError, match="'Swarm' object has no attribute '_manager'"):
        assert network.manager
    async with host.run(listen_addrs=[]):
        assert network._manager is network.get_manager()
        assert network._manager.is_running
    assert not network._manager.is_running


def test_the_swarm_has_the_resource_manager_of_the_host() -> None:
    key_pair, manager = create_new_key_pair(), new_resource_manager()
    transports = [QUICTransport(key_pair.private_key)]
    host: Any = new_host(key_pair=key_pair, transports=transports, resource_manager=manager)
    assert host.get_network()._resource_manager is manager


async def test_a_host_dials_by_the_method_that_its_swarm_has_now() -> None:
    asked: list[ID] = []
    async with near_host() as near, near_host(IP4) as far:
        network: Any = swarm(near)
        dial = network.dial_peer

        async def noting(peer_id: ID) -> Any:
            asked.append(peer_id)
            return await dial(peer_id)

        network.dial_peer = noting
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        assert asked == [far.get_id()]


async def test_the_swarm_has_its_listeners_and_notifees() -> None:
    async with near_host() as deaf, near_host(IP4) as listening:
        assert not swarm(deaf).listeners
        assert len(swarm(listening).listeners) == 1
        for network in map(swarm, (deaf, listening)):
            notifee = Notifee()
            network.register_notifee(notifee)
            assert notifee in network.notifees
            network.remove_notifee(notifee)
            assert notifee not in network.notifees


async def test_a_swarm_that_closes_says_so_to_the_notifees_of_its_connections() -> None:
    told: list[bool] = []

    class Noting(Notifee):
        async def disconnected(self, network: INetwork, conn: INetConn) -> None:
            told.append(network._closing)  # type: ignore[attr-defined]

    async with connected_hosts() as (near, _far):
        assert swarm(near)._closing is False
        swarm(near).register_notifee(Noting())
        await near.close()
    assert told == [True]


def test_the_errors_and_events_of_a_dial_have_their_fields() -> None:
    error = SwarmDialAllFailedError("text", peer_id="peer", num_addrs_tried=2)
    assert (str(error), error.peer_id, error.num_addrs_tried) == ("text", "peer", 2)
    assert MultiError([error]).errors == [error]
    event: Any = SwarmEvent()
    assert (event.dial_attempt, event.dial_attempt_error) == (False, False)
    vars(event).update(dial_attempt=True, dial_attempt_error=True)
    assert (event.dial_attempt, event.dial_attempt_error) == (True, True)


def test_ipv6_addresses_are_told_apart_as_the_swarm_does() -> None:
    quic = [Multiaddr(f"/ip6/{ip}/udp/4001/quic-v1") for ip in ("2a00::1", "fe80::1", "::1")]
    quic.append(Multiaddr("/ip4/11.0.2.2/udp/4001/quic-v1"))
    assert [is_public_ipv6_address(each) for each in quic] == [True, False, False, False]
    assert has_public_ipv6() in (True, False)


async def test_the_swarm_passes_an_address_with_a_peer_id_on_unchanged() -> None:
    """A dial of all addresses is told by the class of the multiaddr."""
    async with near_host() as near, near_host(IP4) as far:
        passed: list[Multiaddr] = []
        dial = transport_of(near).dial

        async def noting(maddr: Multiaddr) -> QUICConnection:
            passed.append(maddr)
            return await dial(maddr)

        transport_of(near).dial = noting  # type: ignore[method-assign]
        addresses = PeerAddresses(list(far.get_addrs()))
        await swarm(near).dial_addr(addresses, far.get_id())
        assert len(passed) == 1
        assert passed[0] is addresses


async def test_the_host_has_the_state_that_hole_punching_reads() -> None:
    async with near_host(IP4) as host:
        anything: Any = host
        assert anything._observed_addr_manager.addrs(min_observers=1) == []
        assert identify.ID in host.get_mux().handlers
        dcutr.DCUtRProtocol(host)
        assert isinstance(anything._dcutr_protocol, dcutr.DCUtRProtocol)
        for name in ("run", "initiate_hole_punch", "_handle_dcutr_stream", "_auto_drive_loop"):
            assert callable(getattr(anything._dcutr_protocol, name)), name
        # By its name the task is known that begins upgrades by itself.
        assert "initiate_hole_punch" in dcutr.DCUtRProtocol._auto_drive_loop.__code__.co_names
        assert not anything._dcutr_protocol.event_started.is_set()


def test_what_a_peer_observes_is_noted_for_its_connection() -> None:
    class Connection:
        is_closed = False
        muxed_conn = SimpleNamespace(get_remote_address=lambda: ("11.0.1.2", 4001))

    manager: Any = ObservedAddrManager()
    connection: Any = Connection()
    local = [Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")]
    for port in (4001, 7001):
        manager.record_observation(connection, Multiaddr(f"/ip4/11.0.2.2/udp/{port}/quic-v1"), local)
        # The later report replaces the earlier one.
        ((key, (_, reported, _, reference)),) = manager._conn_observations.items()
        assert (key, reported) == (id(connection), f"/ip4/11.0.2.2/udp/{port}")
        assert reference() is connection


def test_the_messages_of_dcutr_are_there() -> None:
    message = HolePunch(type=HolePunch.CONNECT, ObsAddrs=[b"x"])
    assert HolePunch.FromString(message.SerializeToString()) == message
    assert HolePunch.SYNC != HolePunch.CONNECT
    assert dcutr.PROTOCOL_ID == "/libp2p/dcutr"
    assert callable(dcutr.read_dcutr_msg)


def test_identify_builds_its_message_for_an_observed_address() -> None:
    assert parameters(identify._mk_identify_protobuf) == ["host", "observed_multiaddr"]


async def test_identify_push_tells_whether_the_peer_took_it() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far, near_host(IP4) as other:
        for each in (far, other):
            await near.connect(PeerInfo(each.get_id(), list(each.get_addrs())))
            identified = each._identified_peers  # type: ignore[attr-defined]
            # Its own identify would write them again.
            assert await eventually(lambda known=identified: near.get_id() in known)  # type: ignore[misc]
            each.get_peerstore().clear_addrs(near.get_id())
        assert identify_push.ID_PUSH in far.get_mux().handlers
        limit = trio.CapacityLimiter(1)
        assert await identify_push.push_identify_to_peer(near, far.get_id(), limit=limit) is True
        told = far.get_peerstore()
        assert await eventually(lambda: near.get_id() in told.peers_with_addrs())
        assert set(told.addrs(near.get_id())) >= set(near.get_addrs())
        assert near.get_id() not in other.get_peerstore().peers_with_addrs()
        other.remove_stream_handler(identify_push.ID_PUSH)
        assert await identify_push.push_identify_to_peer(near, other.get_id(), limit=limit) is False
        assert limit.borrowed_tokens == 0


async def test_identify_begins_by_a_method_of_the_host() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        begun: list[tuple[object, str]] = []
        host: Any = near
        stock = host._schedule_identify
        assert parameters(stock) == ["peer_id", "reason"]
        host._schedule_identify = lambda peer_id, *, reason: begun.append((peer_id, reason))
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        assert await eventually(lambda: any(each[0] == far.get_id() for each in begun))
        stock(far.get_id(), reason="test")
        assert await eventually(lambda: far.get_id() in host._identified_peers)


def test_a_resource_manager_has_limits_for_networks() -> None:
    assert new_resource_manager().cidr_limiter is None
    assert parameters(CIDRLimiter([]).allow) == ["endpoint_ip"]
    assert CIDRLimiter([("10.0.0.0/8", 0)]).allow("10.0.0.1") is False


def test_autonat_dials_by_a_method_of_its_own() -> None:
    assert parameters(autonat.AutoNATService._try_dial) == ["self", "peer_id", "addrs"]


# Defects that are repaired while they are there


def test_identify_still_calls_udp_addresses_tcp() -> None:
    assert _reported_by_stock() != _PROBED


def test_autonat_still_believes_an_old_connection() -> None:
    assert _believes_an_old_connection()


def test_yamux_still_announces_each_byte_that_is_read() -> None:
    assert _updates_for_a_byte()


def test_yamux_still_waits_for_free_locks() -> None:
    assert not _is_taken_at_once()
    stand_in: Any = SimpleNamespace(is_initiator=True)
    connection, stream = Yamux(stand_in, ID(b"")), YamuxStream(1, stand_in, True)
    locks = (connection.streams_lock, connection._write_lock, stream.window_lock)
    assert {type(each) for each in locks} == {trio.Lock}
    assert type(connection.stream_backlog_semaphore) is trio.Semaphore


def test_tls_still_forgets_the_connection_below_it() -> None:
    assert not _knows_its_connection()


async def test_the_stock_dial_still_takes_250_ms() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        began = trio.current_time()
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        assert trio.current_time() - began >= 0.25


async def test_a_read_still_takes_a_lock_that_waits() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        (connection,) = swarm(near).get_connections(far.get_id())
        stream = await connection.new_stream()
        # A stream is made by the name that `install` replaces, and has one lock.
        assert type(stream) is vars(swarm_connection)["NetStream"]
        assert type(vars(stream)["_state_lock"]) is trio.Lock
        await stream.reset()
    assert not _host_stream._is_mended()


async def test_an_event_still_begins_a_task_for_each_notifee() -> None:
    assert await _is_told_in_same_task() is False
    assert vars(Swarm)["_notify"] is _host_events._stock


async def test_a_stream_still_takes_its_place_of_the_limit_in_a_pass() -> None:
    async with near_host() as host:
        assert type(vars(swarm(host))["_stream_semaphore"]) is trio.Semaphore


async def test_a_host_is_an_ihost() -> None:
    async with near_host() as host:
        assert isinstance(host, IHost)
