"""Hole punching with real hosts: behind routers in network namespaces, whose tests need root; and on
loopback what punching lets a peer do.
"""

from __future__ import annotations

import gc
import logging
import weakref
from contextlib import suppress
from typing import Any, cast

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.autonat.autonat import AutoNATService
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import PingService
from libp2p.identity.identify import identify
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.relay.circuit_v2.dcutr import read_dcutr_msg
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from libp2p.relay.circuit_v2.utils import write_delimited_msg
from libp2p.stream_muxer.yamux.yamux import DEFAULT_WINDOW_SIZE
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, enable_hole_punching
from libp2p_quic._hole_punching._exchange import ExchangeError, begin_exchange, join_exchange
from libp2p_quic._hole_punching._tls import _knows_its_connection
from libp2p_quic._repair import is_circuit, is_relayed
from testkit.census import PATIENCE, eventually
from testkit.circuit import circuit, upgrades_of
from testkit.near import IP4, IP6, connected_hosts, near_host, new_stream, quic, swarm, transport_of
from tools.nat.network import missing
from tools.nat.trial import Cell, attempt
from tools.nat.watch import Watch

_needs_laboratory = pytest.mark.skipif(missing() is not None, reason=str(missing()))


async def answered(host: IHost, peer: ID) -> Identify:
    """The peer's answer to identify."""
    stream = await new_stream(host, peer, IDENTIFY)
    answer = b""
    while part := await _read(stream):
        answer += part
    return parse_identify_response(answer)


async def identified(host: IHost, peer: ID) -> Multiaddr:
    """The address of ``host`` that the peer reports."""
    return Multiaddr((await answered(host, peer)).observed_addr)


async def _read(stream: object) -> bytes:
    try:
        part: bytes = await stream.read(65_536)  # type: ignore[attr-defined]
    except StreamError:
        return b""
    return part


# Behind routers


@_needs_laboratory
@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize(
    ("routers", "is_shared"),
    [
        (("drop", "drop"), False),
        (("forwarded", "symmetric"), False),
        (("forwarded", "forwarded"), True),
        (("hairpin", "hairpin"), True),
        (("firewall", "firewall"), False),
        (("firewall6", "firewall6"), False),
        (("short", "short"), False),
    ],
)
async def test_two_homes_get_a_direct_connection(routers: tuple[str, str], is_shared: bool) -> None:
    outcome = await attempt(Cell("ours", "ours", "ours", routers, is_shared))
    assert not outcome.error
    assert outcome.seconds is not None
    assert outcome.is_usable
    assert not outcome.left


@_needs_laboratory
@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_homes_behind_symmetric_routers_stay_relayed_and_usable() -> None:
    outcome = await attempt(Cell("ours", "ours", "ours", ("symmetric", "symmetric")))
    assert not outcome.error
    assert outcome.seconds is None
    assert outcome.is_usable
    assert not outcome.left


# Relayed connections


async def test_a_peer_without_a_relayed_connection_is_not_served() -> None:
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        # The stream is reset, during its negotiation or after it.
        with pytest.raises((StreamError, StreamFailure)):
            stream = await new_stream(near, far.get_id(), DCUTR)
            await stream.read(1)


async def test_the_laboratory_times_an_upgrade_from_the_relayed_connection() -> None:
    async with circuit() as (asking, asked, dial):
        watch = Watch(None)
        swarm(asking).register_notifee(watch)
        began = trio.current_time()
        await dial()
        relayed, watched = trio.current_time(), watch.began
        assert watched is not None
        assert began < watched <= relayed
        assert not watch.direct.is_set()
        await swarm(asking).dial_addr(asked.get_addrs()[0], asked.get_id())
        assert watch.direct.is_set()
        assert watch.began == watched


async def test_a_relayed_connection_may_ask_six_times() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()

        async def ask() -> None:
            (relayed,) = swarm(asking).get_connections(asked.get_id())
            await begin_exchange(await relayed.new_stream(), [])

        for _ in range(6):
            await ask()
        with pytest.raises((ExchangeError, BaseLibp2pError)):
            await ask()


def advertise(host: IHost) -> None:
    """Give it a public address, which it offers in exchanges."""
    cast(Any, host)._addrs_factory = lambda _: quic("11.0.2.2|4001")


def refuse_exchanges(host: IHost) -> list[ID]:
    """The peers that ask ``host`` to exchange addresses. Their streams are reset."""
    asking: list[ID] = []

    async def refuse(stream: INetStream) -> None:
        asking.append(stream.muxed_conn.peer_id)
        await stream.reset()

    host.set_stream_handler(DCUTR, refuse)
    return asking


async def direct_to(asked: IHost, asking: IHost) -> None:
    """Connect ``asking`` to ``asked`` without the relay."""
    address: Multiaddr = cast(Any, asked).get_transport_addrs()[0]
    await swarm(asking).dial_addr(address, asked.get_id())
    assert await eventually(lambda: upgrades_of(asked).direct(asking.get_id()) is not None)


async def test_a_peer_whose_stored_addresses_have_expired_is_upgraded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade._PATIENCE", ())
    async with circuit("asked") as (asking, asked, dial):
        advertise(asked)
        exchanges = refuse_exchanges(asking)
        asked.get_peerstore().add_addrs(asking.get_id(), quic("11.0.3.2|4001"), ttl=1)
        cast(Any, asked.get_peerstore()).peer_data_map[asking.get_id()].last_identified -= 10
        await dial()
        assert await eventually(lambda: exchanges == [asked.get_id()])
    assert not [
        each for each in caplog.records if each.levelno >= logging.ERROR and "libp2p_quic" in each.name
    ]


@pytest.mark.parametrize("is_asked_first", [False, True])
async def test_addresses_that_a_peer_tells_during_its_upgrade_are_dialed(
    is_asked_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that comes through a relay for the first time is identified after its upgrade has begun."""
    async with circuit("asked") as (asking, asked, dial):
        # Those of loopback are not dialed.
        told: list[Multiaddr] = cast(Any, asking).get_transport_addrs()
        literals = [(each.value_for_protocol("ip4"), int(each.value_for_protocol("udp"))) for each in told]
        upgrade = "libp2p_quic._hole_punching._upgrade"
        monkeypatch.setattr(f"{upgrade}.public_addresses", lambda known: literals if known else [])
        if is_asked_first:
            monkeypatch.setattr(f"{upgrade}._PATIENCE", ())
            monkeypatch.setattr("libp2p_quic._hole_punching._identify_delay._LONGEST", PATIENCE)
            advertise(asked)

            async def tell(stream: INetStream) -> None:
                asked.get_peerstore().add_addrs(asking.get_id(), told, ttl=100)
                await stream.reset()

            asking.set_stream_handler(DCUTR, tell)
        await dial()
        assert await eventually(lambda: upgrades_of(asked).direct(asking.get_id()) is not None)


async def test_a_relayed_connection_is_upgraded_once_a_dead_direct_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade._PATIENCE", ())
    async with circuit("asked") as (asking, asked, dial):
        advertise(asked)
        exchanges = refuse_exchanges(asking)
        await direct_to(asked, asking)
        upgrades = upgrades_of(asked)
        direct = upgrades.direct(asking.get_id())
        assert direct is not None
        await dial()
        assert await eventually(lambda: bool(upgrades._relayed(asking.get_id())))
        assert exchanges == []
        await direct.close()
        assert await eventually(lambda: exchanges == [asked.get_id()])
        # At most twice.
        begun: list[ID] = []
        monkeypatch.setattr(upgrades, "_spawn_upgrade", begun.append)
        for _ in range(2):
            await upgrades.disconnected(swarm(asked), direct)
        assert begun == [asking.get_id()]


async def test_an_upgrade_ends_only_the_relayed_connections_that_it_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade.GRACE", 0)
    async with circuit("asked") as (asking, asked, dial):
        await direct_to(asked, asking)
        upgrades = upgrades_of(asked)
        direct = upgrades.direct(asking.get_id())
        assert direct is not None
        for _ in range(2):
            await dial()
        assert await eventually(lambda: len(upgrades._relayed(asking.get_id())) == 2)
        first, second = upgrades._relayed(asking.get_id())
        await upgrades._end_relayed(direct, [first])
        assert upgrades._relayed(asking.get_id()) == [second]
        await direct.close()
        await upgrades._end_relayed(direct, [second])
        assert upgrades._relayed(asking.get_id()) == [second]


async def test_a_peer_that_never_answers_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "libp2p_quic.hole_punching")
    monkeypatch.setattr("libp2p_quic._hole_punching._exchange._LIMIT", 0.5)
    async with circuit("asked") as (asking, asked, dial):
        advertise(asked)
        exchanges: list[INetStream] = []

        async def wait(stream: INetStream) -> None:
            exchanges.append(stream)
            await trio.sleep_forever()

        asking.set_stream_handler(DCUTR, wait)
        await dial()
        assert await eventually(lambda: "it stays relayed" in caplog.text)
        assert len(exchanges) == 1


async def test_an_attempt_that_takes_long_has_both_sides_ask_for_their_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that they offered may be outdated."""
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade._SLOW", 0)
    # Nothing is sent to the address that is offered.
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade.usable", lambda *_: [])
    renewing: list[IHost] = []
    async with circuit("asking", "asked") as (asking, asked, dial):
        for each in (asking, asked):

            async def renew(host: IHost = each) -> None:
                renewing.append(host)

            monkeypatch.setattr(upgrades_of(each), "_renew_addresses", renew)
        advertise(asked)
        await dial()
        assert await eventually(lambda: asking in renewing and asked in renewing)


async def test_a_peer_that_has_a_direct_connection_may_not_ask() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        await direct_to(asked, asking)
        relayed = next(each for each in swarm(asking).get_connections(asked.get_id()) if is_relayed(each))
        with pytest.raises((ExchangeError, BaseLibp2pError)):
            await begin_exchange(await relayed.new_stream(), [])


class Unprinted(Multiaddr):  # type: ignore[misc] # py-multiaddr has no types
    def __str__(self) -> str:
        raise AssertionError("its text is not needed")


def test_a_circuit_is_told_by_its_protocols() -> None:
    peer = ID.from_pubkey(create_new_key_pair().public_key)
    assert is_circuit(Unprinted(f"/p2p/{peer}/p2p-circuit/p2p/{peer}"))
    # The bytes of the code of p2p-circuit are those of this port.
    assert not is_circuit(Unprinted(f"/ip4/127.0.0.1/udp/{0xA202}/quic-v1"))


# Repairs of py-libp2p


async def test_reads_over_a_relayed_connection_send_no_frame_for_each_byte() -> None:
    async with circuit("asked") as (asking, asked, dial):
        await dial()
        size, read = 2 * DEFAULT_WINDOW_SIZE, trio.Event()
        found: list[Any] = []

        async def slowly(stream: INetStream) -> None:
            found.append(cast(NetStream, stream).muxed_stream)
            count = 0
            while count < size:
                # As py-libp2p reads lengths, until the window has to grow.
                count += len(await stream.read(1 if count < 100 else 65_536))
                if count == 100:
                    read.set()
            await stream.write(b"all")

        asked.set_stream_handler(TProtocol("/test/slowly"), slowly)
        stream = await new_stream(asking, asked.get_id(), "/test/slowly")
        await stream.write(bytes(100))
        with trio.fail_after(PATIENCE):
            await read.wait()
            # Each update would have doubled it.
            assert found[0].target_recv_window == DEFAULT_WINDOW_SIZE
            # What was owed is announced when it is due.
            await stream.write(bytes(size - 100))
            assert await stream.read(3) == b"all"


async def test_a_relayed_peer_is_identified_after_its_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p_quic._hole_punching._identify_delay._LONGEST", PATIENCE)
    async with circuit("asking") as (asking, asked, dial):
        requests: list[ID] = []
        handler = asked.get_mux().handlers[IDENTIFY]

        async def noting(stream: INetStream) -> None:
            requests.append(stream.muxed_conn.peer_id)
            assert handler is not None
            await handler(stream)

        asked.set_stream_handler(IDENTIFY, noting)
        await dial()
        # A round trip over the connection, after which a request would have arrived.
        await PingService(asking).ping(asked.get_id(), 1)
        assert asking.get_id() not in requests
        await swarm(asking).dial_addr(asked.get_addrs()[0], asked.get_id())
        assert await eventually(lambda: asking.get_id() in requests)


async def test_a_peer_that_stays_relayed_is_identified() -> None:
    async with circuit("asking") as (asking, asked, dial):
        await dial()
        assert await eventually(lambda: asked.get_id() in cast(Any, asking)._identified_peers)


async def test_the_messages_of_an_exchange_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[float] = []
    monkeypatch.setattr("libp2p_quic._hole_punching._upgrade.gather_writes", gathered.append)
    async with circuit("asked") as (asking, asked, dial):
        before = len(gathered)
        await dial()
        (relayed,) = swarm(asking).get_connections(asked.get_id())
        for _ in range(8):
            await begin_exchange(await relayed.new_stream(), [])
            if len(gathered) - before >= 6:
                break
        assert len(gathered) - before == 6
        # No further stream of this connection delays what the host writes.
        with suppress(ExchangeError, BaseLibp2pError):
            await begin_exchange(await relayed.new_stream(), [])
        assert len(gathered) - before == 6


async def test_identify_reports_udp_addresses() -> None:
    async with connected_hosts() as (near, far):
        (connection,) = swarm(far).get_connections(near.get_id())
        assert isinstance(connection.muxed_conn, QUICConnection)
        seen = Multiaddr("/ip4/127.0.0.1/udp/{1}/quic-v1".format(*connection.muxed_conn.get_remote_address()))
        before = await identified(near, far.get_id())
        assert before.value_for_protocol("tcp")
        enabled = enable_hole_punching(far)
        assert enable_hole_punching(far) is enabled
        assert await identified(near, far.get_id()) == seen
        enabled.undo()
        assert await identified(near, far.get_id()) == before


async def test_identify_answers_without_an_address_that_it_cannot_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: INetStream) -> None:
        raise ValueError("no address")

    monkeypatch.setattr("libp2p_quic._hole_punching._identify.observed_address", fail)
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        assert (await identified(near, far.get_id())).to_bytes() == b""


async def test_an_answer_to_identify_is_built_again_once_the_host_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[IHost] = []
    stock = identify._mk_identify_protobuf

    def noting(host: IHost, observed: Multiaddr | None) -> Identify:
        built.append(host)
        return stock(host, observed)

    monkeypatch.setattr(identify, "_mk_identify_protobuf", noting)
    async with connected_hosts() as (near, far):
        enable_hole_punching(far)
        before = await answered(near, far.get_id())
        count = built.count(far)
        assert await answered(near, far.get_id()) == before
        assert built.count(far) == count
        protocol = TProtocol("/test/later")

        async def nothing(_: INetStream) -> None:
            return None

        far.set_stream_handler(protocol, nothing)
        assert protocol in (await answered(near, far.get_id())).protocols
        await far.get_network().listen(Multiaddr(IP6))
        assert len((await answered(near, far.get_id())).listen_addrs) == 2
        advertise(far)
        told = (await answered(near, far.get_id())).listen_addrs
        assert [Multiaddr(each) for each in told] == quic("11.0.2.2|4001")


async def test_undoing_leaves_nothing_in_the_host() -> None:
    async with near_host(IP4) as host:
        network = swarm(host)
        before = (dict(host.get_mux().handlers), list(network.notifees), set(vars(network)))
        handler = network.common_stream_handler
        enabled = enable_hole_punching(host)
        assert len(enabled.repairs) == 15
        enabled.undo()
        enabled.undo()
        assert (dict(host.get_mux().handlers), list(network.notifees), set(vars(network))) == before
        assert network.common_stream_handler == handler


async def test_relayed_connections_under_tls_are_told_apart_while_a_host_wants_it() -> None:
    # Hosts of earlier tests that nobody undid.
    assert await eventually(lambda: gc.collect() >= 0 and not _knows_its_connection())
    async with near_host(IP4) as one, near_host(IP4) as other:
        assert not _knows_its_connection()
        enabled = [enable_hole_punching(one), enable_hole_punching(other)]
        assert _knows_its_connection()
        enabled[0].undo()
        assert _knows_its_connection()
        enabled[1].undo()
        assert not _knows_its_connection()


async def test_a_host_that_is_gone_leaves_nothing_in_py_libp2p() -> None:
    # Hosts of earlier tests that nobody undid.
    assert await eventually(lambda: gc.collect() >= 0 and not _knows_its_connection())
    stock = AutoNATService._try_dial
    async with near_host(IP4) as host:
        enable_hole_punching(host)
        assert _knows_its_connection()
        assert AutoNATService._try_dial is not stock
        alive = weakref.ref(host)
    del host
    assert await eventually(lambda: gc.collect() >= 0 and alive() is None)
    assert not _knows_its_connection()
    assert AutoNATService._try_dial is stock


async def test_a_host_without_our_transport_is_told() -> None:
    from libp2p import new_host

    with pytest.raises(ValueError, match="no QUIC transport of libp2p_quic"):
        enable_hole_punching(new_host())


async def test_autonat_tells_a_dead_address_from_a_live_one() -> None:
    async with connected_hosts() as (near, far):
        service = AutoNATService(far)  # type: ignore[arg-type]
        alive = near.get_addrs()[0].decapsulate(Multiaddr(f"/p2p/{near.get_id()}")).to_bytes()
        dead = Multiaddr("/ip4/127.0.0.1/udp/9/quic-v1").to_bytes()
        # py-libp2p's own: connected is reachable.
        assert await service._try_dial(near.get_id(), [dead]) == dead
        enabled = enable_hole_punching(far)
        assert await service._try_dial(near.get_id(), [dead]) is None
        assert await service._try_dial(near.get_id(), [dead, alive]) == alive
        # Nothing came of the dial in the swarm but the connection that was there.
        assert len(swarm(far).get_connections(near.get_id())) == 1
        status, _ = await AutoNATService(near, serve=False).query_server(far.get_id(), [alive])  # type: ignore[arg-type]
        assert status == Message.OK
        enabled.undo()
        assert await service._try_dial(near.get_id(), [dead]) == dead


async def test_a_reset_after_connect_stands_for_sync() -> None:
    """rust-libp2p resets its stream half a round trip after SYNC; the reset may overtake it."""
    offered = quic("11.0.2.2|4001")
    async with connected_hosts() as (near, far):
        joined = trio.Event()
        found: list[Multiaddr] = []

        async def join(stream: INetStream) -> None:
            await join_exchange(stream, quic("11.0.3.2|4001"), found.extend, lambda _: joined.set())

        far.set_stream_handler(TProtocol("/test/join"), join)
        stream = await new_stream(near, far.get_id(), TProtocol("/test/join"))
        connect = HolePunch(type=HolePunch.CONNECT, ObsAddrs=[each.to_bytes() for each in offered])
        await write_delimited_msg(stream, connect)
        await read_dcutr_msg(stream, HolePunch)
        await stream.reset()
        with trio.fail_after(PATIENCE):
            await joined.wait()
    assert found == offered


async def test_dial_addr_as_responder_gives_the_connection_that_comes_in() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        enable_hole_punching(far)
        address = near.get_addrs()[0]
        found = []

        async def serve() -> None:
            found.append(await swarm(far).dial_addr_as_responder(address, near.get_id()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        (connection,) = found
        assert connection in swarm(far).get_connections(near.get_id())
        assert not connection.muxed_conn.is_initiator


@pytest.mark.slow
async def test_dial_addr_as_responder_ends_without_a_connection() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        enable_hole_punching(far)
        with pytest.raises(SwarmException, match="did not come in"):
            await swarm(far).dial_addr_as_responder(near.get_addrs()[0], near.get_id())
        assert transport_of(far)._open_endpoint().engine.census()["connections"] == 0
