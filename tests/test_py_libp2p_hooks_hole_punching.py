"""The hooks of py-libp2p that hole punching leans on beside those of `test_py_libp2p_hooks.py`, by behavior.

A failure names what a new release of py-libp2p has changed. The defects at the end are repaired while they
are there. The hosts of these tests do not punch holes: they show what py-libp2p does by itself.
"""

from __future__ import annotations

import ssl
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.autonat.autonat import AutoNATService
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.identity.identify import identify
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.protocol_muxer.multiselect_client import MULTISELECT_PROTOCOL_ID
from libp2p.rcmgr.metrics import Direction
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID as DCUTR
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.security.tls.io import TLSReadWriter
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import decode_varint_with_size, encode_delim, encode_varint_prefixed
from multiaddr import Multiaddr
from trio.testing import wait_all_tasks_blocked

from libp2p_quic import QUICTransport
from libp2p_quic._hole_punching._tls import _raw_connection
from testkit.census import PATIENCE, eventually
from testkit.circuit import circuit
from testkit.near import IP4, connected_hosts, connection, near_host, new_stream, quic, swarm

PUBLIC = quic("11.0.2.2|4001")[0]


def made(**options: Any) -> Any:
    """A host that does not run."""
    key_pair = create_new_key_pair()
    return new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)], **options)


# The host's addresses


async def test_the_host_tells_where_it_listens_without_its_id() -> None:
    async with near_host(IP4) as near:
        host: Any = near
        (plain,) = host.get_transport_addrs()
        assert host.get_addrs() == [plain.encapsulate(Multiaddr(f"/p2p/{host.get_id()}"))]


async def test_the_host_keeps_the_factory_of_its_addresses() -> None:
    def factory(_: list[Multiaddr]) -> list[Multiaddr]:
        return [PUBLIC]

    assert made()._addrs_factory is None
    assert made(addrs_factory=factory)._addrs_factory is factory
    assert made(announce_addrs=[PUBLIC])._addrs_factory is not None
    async with near_host(IP4) as near:
        host: Any = near
        host._addrs_factory = factory
        assert host.get_addrs() == [PUBLIC.encapsulate(Multiaddr(f"/p2p/{host.get_id()}"))]
        assert PUBLIC not in host.get_transport_addrs()


def test_a_host_without_address_discovery_has_no_manager_of_observations() -> None:
    assert made()._observed_addr_manager is not None
    assert made(disable_identify_address_discovery=True)._observed_addr_manager is None


async def test_an_observation_is_kept_with_the_connection_of_the_swarm() -> None:
    async with connected_hosts() as (near, far):
        host: Any = near
        manager = host._observed_addr_manager
        (listed,) = swarm(near).get_connections(far.get_id())
        manager.record_observation(listed, PUBLIC, host.get_transport_addrs())
        _, reported, _, reference = manager._conn_observations[id(listed)]
        assert (reported, reference()) == ("/ip4/11.0.2.2/udp/4001", listed)
        # One observer suffices to offer it, with the protocol of the listener.
        assert PUBLIC in manager.addrs(min_observers=1)


def test_a_host_can_be_a_key_without_being_kept() -> None:
    host = made()
    known = weakref.WeakKeyDictionary({host: "its repairs"})
    assert known[host] == "its repairs"


# Identify


async def test_the_signed_record_is_renewed_when_the_addresses_change() -> None:
    """An answer to identify is used again while the record, the addresses and the protocols are the same."""
    async with near_host(IP4) as near:
        host: Any = near
        store = host.get_peerstore()
        identify._mk_identify_protobuf(host, None)
        record = store.get_local_record()
        identify._mk_identify_protobuf(host, None)
        assert record is not None
        assert store.get_local_record() == record
        host._addrs_factory = lambda _: [PUBLIC]
        answer = identify._mk_identify_protobuf(host, None)
        assert store.get_local_record() != record
        assert answer.signedPeerRecord == store.get_local_record().marshal_envelope()
        protocols = [each for each in host.get_mux().get_protocols() if each is not None]
        assert list(answer.protocols) == protocols


async def test_answers_to_identify_differ_in_the_observed_address_only() -> None:
    async with near_host(IP4) as near:
        answer = identify._mk_identify_protobuf(near, PUBLIC)
        assert answer.observed_addr == PUBLIC.to_bytes()
        answer.observed_addr = b""
        assert answer == identify._mk_identify_protobuf(near, None)


async def test_the_peerstore_raises_for_a_peer_that_it_does_not_know() -> None:
    nobody = ID.from_pubkey(create_new_key_pair().public_key)
    async with near_host() as host:
        store: Any = host.get_peerstore()
        for call in (store.addrs, store.get_protocols):
            with pytest.raises(PeerStoreError):
                call(nobody)


# Streams


async def test_a_stream_of_the_host_knows_who_opened_it() -> None:
    taken: list[Any] = []
    may_end = trio.Event()

    async def take(stream: INetStream) -> None:
        taken.append(stream)
        await may_end.wait()

    async with connected_hosts() as (near, far):
        far.set_stream_handler(TProtocol("/test/taken"), take)
        (listed,) = swarm(near).get_connections(far.get_id())
        stream = await new_stream(near, far.get_id(), "/test/taken")
        assert await eventually(lambda: bool(taken))
        assert stream._direction == Direction.OUTBOUND
        assert taken[0]._direction == Direction.INBOUND
        assert stream.get_protocol() == "/test/taken"
        assert stream in listed.get_streams()
        await stream.reset()
        assert stream not in listed.get_streams()
        may_end.set()


async def test_a_stream_of_a_connection_is_not_negotiated() -> None:
    async with connected_hosts() as (near, far):
        (listed,) = swarm(near).get_connections(far.get_id())
        stream = await listed.new_stream()
        assert stream.get_protocol() is None
        assert stream.muxed_conn is connection(near, far.get_id())
        await stream.reset()


async def test_a_stream_over_a_relay_has_the_window_that_updates_are_counted_by() -> None:
    async with circuit() as (asking, asked, dial):
        await dial()
        (relayed,) = swarm(asking).get_connections(asked.get_id())
        stream: Any = await relayed.new_stream()
        muxed = stream.muxed_stream
        assert isinstance(muxed, YamuxStream)
        unread = len(muxed.conn.stream_buffers.get(muxed.stream_id, b""))
        assert muxed.target_recv_window - muxed.recv_window - unread == 0
        assert 0 < muxed._grow_threshold() < muxed.target_recv_window
        await stream.reset()


def test_a_connection_under_tls_is_found_by_its_writer() -> None:
    raw: Any = SimpleNamespace()
    assert _raw_connection(TLSReadWriter(raw, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), b"")) is raw


def test_messages_have_their_length_before_them() -> None:
    assert MULTISELECT_PROTOCOL_ID == "/multistream/1.0.0"
    assert encode_delim(b"/a") == b"\x03/a\n"
    assert encode_varint_prefixed(b"ab") == b"\x02ab"
    assert decode_varint_with_size(b"\x80\x01\x05") == (128, 2)
    # A length that has not arrived as a whole raises nothing.
    assert decode_varint_with_size(b"") == (0, 0)
    assert decode_varint_with_size(b"\x80") == (0, 1)


# DCUtR


async def test_a_service_tells_its_end_and_its_host() -> None:
    async with near_host(IP4) as host:
        service = DCUtRProtocol(host)
        assert service.host is host
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery, background_trio_service(service):
                await service.event_started.wait()
                nursery.start_soon(service.manager.wait_finished)
                await wait_all_tasks_blocked()
                assert nursery.child_tasks
                assert DCUTR in host.get_mux().handlers
            assert DCUTR not in host.get_mux().handlers


async def test_dcutr_dials_by_the_methods_that_the_swarm_has_now() -> None:
    called: list[str] = []
    async with near_host(IP4) as host:
        network: Any = swarm(host)

        def noting(name: str) -> Any:
            async def call(*_: object) -> None:
                called.append(name)

            return call

        names = ["dial_addr_as_responder", "dial_addr"]
        for name in names:
            setattr(network, name, noting(name))
        for as_responder in (True, False):
            await DCUtRProtocol(host)._dial_peer(host.get_id(), PUBLIC, as_responder=as_responder)
    assert called == names


# AutoNAT


class Noting(AutoNATService):
    """Notes the addresses that it is to dial, and dials none."""

    def __init__(self, host: Any) -> None:
        super().__init__(host)
        self.tried: list[list[bytes]] = []

    async def _try_dial(self, peer_id: ID, addrs: list[bytes]) -> bytes | None:
        self.tried.append(addrs)
        return None


async def test_autonat_dials_no_other_ip_address_than_that_of_the_peer() -> None:
    """Our dials rely on it: they ask for no other reason to dial an address."""
    async with connected_hosts() as (near, far):
        asking: Any = near
        service, client = Noting(far), AutoNATService(asking, serve=False)
        own, other = near.get_addrs()[0].to_bytes(), PUBLIC.to_bytes()
        status, _ = await client.query_server(far.get_id(), [other, own, b"\xff"])
        assert (status, service.tried) == (Message.E_DIAL_ERROR, [[own]])
        status, _ = await client.query_server(far.get_id(), [other])
        assert (status, service.tried) == (Message.E_DIAL_REFUSED, [[own]])


async def test_autonat_dials_nothing_for_a_peer_that_comes_through_a_relay() -> None:
    async with circuit() as (near, asked, dial):
        asking: Any = near
        service, client = Noting(asked), AutoNATService(asking, serve=False)
        await dial()
        status, _ = await client.query_server(asked.get_id(), [near.get_addrs()[0].to_bytes()])
        assert (status, service.tried) == (Message.E_DIAL_REFUSED, [])


# Defects that are repaired while they are there


async def test_a_responder_still_closes_its_connection_over_quic() -> None:
    async with near_host(IP4) as near, near_host(IP4) as far:
        (address,) = far.get_transport_addrs()
        with pytest.raises(SwarmException, match="not supported"):
            await swarm(near).dial_addr_as_responder(address, far.get_id())
        assert not swarm(near).get_connections(far.get_id())
        assert await eventually(lambda: not swarm(far).get_connections(near.get_id()))


async def test_the_service_of_dcutr_still_removes_the_handler_of_another() -> None:
    async def handle(_: INetStream) -> None:
        return None

    async with near_host(IP4) as host:
        service = DCUtRProtocol(host)
        async with background_trio_service(service):
            await service.event_started.wait()
            host.set_stream_handler(DCUTR, handle)
        assert DCUTR not in host.get_mux().handlers


async def test_the_service_of_dcutr_still_offers_no_udp_address_that_peers_observe() -> None:
    async with connected_hosts() as (near, far):
        host: Any = near
        listening = host.get_transport_addrs()
        (listed,) = swarm(near).get_connections(far.get_id())
        host._observed_addr_manager.record_observation(listed, PUBLIC, listening)
        offered = await DCUtRProtocol(near)._get_observed_addrs()
        assert offered == [each.to_bytes() for each in listening]
