"""Addresses of real hosts: listening on wildcards, dialing names."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport
from libp2p_quic.exceptions import DialError, PeerIdMismatchError
from testkit.names import Names, free_port
from testkit.near import addresses, answers, connection, near_host, near_transport, swarm

PEER = ID.from_pubkey(create_new_key_pair().public_key)


# Wildcards


async def test_wildcards_are_published_as_addresses_that_can_be_dialed() -> None:
    port = free_port()
    listen = [f"/ip4/0.0.0.0/udp/{port}/quic-v1", f"/ip6/::/udp/{port}/quic-v1"]
    async with near_host(*listen) as host:
        published = addresses(host)
        hosts = [each.split("/")[2] for each in published]
        assert {"127.0.0.1", "::1"} <= set(hosts)
        assert not {"0.0.0.0", "::"} & set(hosts)
        assert len(set(published)) == len(published)
        for each in published:
            assert f"/udp/{port}/quic-v1/p2p/" in each
            assert await answers(each, host.get_id())


async def test_a_wildcard_socket_answers_from_the_address_that_was_dialed() -> None:
    """127.0.0.2 is not an address of an interface; an answer from 127.0.0.1 would be ignored."""
    async with near_host("/ip4/0.0.0.0/udp/0/quic-v1") as host:
        port = host.get_addrs()[0].value_for_protocol("udp")
        assert await answers(f"/ip4/127.0.0.2/udp/{port}/quic-v1", host.get_id())


async def test_addresses_keep_the_name_of_the_protocol() -> None:
    async with near_host("/ip4/0.0.0.0/udp/0/quic") as host:
        assert all("/quic/p2p/" in each for each in addresses(host))


# Dials without a peer id, and by name


@asynccontextmanager
async def two_families() -> AsyncIterator[tuple[IHost, int]]:
    """A host on the same port over IPv4 and IPv6."""
    port = free_port()
    async with near_host(f"/ip4/127.0.0.1/udp/{port}/quic-v1", f"/ip6/::1/udp/{port}/quic-v1") as host:
        yield host, port


@pytest.mark.parametrize(("name", "remote"), [("dns", "::1"), ("dns4", "127.0.0.1")])
async def test_a_name_is_dialed(name: str, remote: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names(node_test=["::1", "127.0.0.1"]))
    async with two_families() as (host, port), near_host() as near:
        named = Multiaddr(f"/{name}/node.test/udp/{port}/quic-v1")
        await near.connect(PeerInfo(host.get_id(), [named]))
        dialed = connection(near, host.get_id())
        assert dialed.get_remote_address() == (remote, port)
        # The address that was reached, as in go-libp2p: a name may resolve to another one later.
        literal = f"/ip{4 if '.' in remote else 6}/{remote}/udp/{port}/quic-v1/p2p/{host.get_id()}"
        assert dialed.get_transport_addresses() == [Multiaddr(literal)]
        assert literal in repr(dialed)


async def test_an_ipv6_name_is_dialed() -> None:
    """By the transport: the swarm dials such a name only on a machine with a public IPv6 address."""
    trio.socket.set_custom_hostname_resolver(Names(node_test=["::1", "127.0.0.1"]))
    async with two_families() as (host, port):
        assert await answers(f"/dns6/node.test/udp/{port}/quic-v1", host.get_id())


async def test_a_canceled_lookup_holds_no_thread_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver cannot be interrupted, and waits for half a minute without a server."""
    began, end = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        began.set()
        end.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no server answers")

    dialer = near_transport()
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialer.dial, Multiaddr("/dns/node.test/udp/1/quic-v1"))
        await trio.to_thread.run_sync(began.wait)
        nursery.cancel_scope.cancel()
    assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    end.set()
    await dialer.close()


async def test_localhost_is_dialed_by_the_system_resolver() -> None:
    async with near_host("/ip4/127.0.0.1/udp/0/quic-v1") as host:
        port = host.get_addrs()[0].value_for_protocol("udp")
        assert await answers(f"/dns4/localhost/udp/{port}/quic-v1/p2p/{host.get_id()}", host.get_id())


async def test_each_address_of_a_name_is_tried() -> None:
    trio.socket.set_custom_hostname_resolver(Names(node_test=["127.0.0.9", "127.0.0.3", "127.0.0.1"]))
    port = free_port()
    # The second address answers, too, but belongs to another peer.
    async with (
        near_host(f"/ip4/127.0.0.1/udp/{port}/quic-v1") as host,
        near_host(f"/ip4/127.0.0.3/udp/{port}/quic-v1"),
    ):
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=1, initial_rtt=0.01)
        named = f"/dns/node.test/udp/{port}/quic-v1"
        dialed = await dialer.dial(Multiaddr(f"{named}/p2p/{host.get_id()}"))
        assert dialed.get_remote_address()[0] == "127.0.0.1"
        with pytest.raises(PeerIdMismatchError, match="Peer ID mismatch"):
            await dialer.dial(Multiaddr(f"{named}/p2p/{PEER}"))
        await dialer.close()


async def test_an_unknown_name_is_a_failed_dial() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    with pytest.raises(DialError, match=r"cannot resolve /dns4/nobody\.test") as failed:
        await near_transport().dial(Multiaddr("/dns4/nobody.test/udp/4001/quic-v1"))
    assert isinstance(failed.value, OpenConnectionError)


async def test_an_invalid_name_is_a_failed_dial() -> None:
    """py-multiaddr refuses to read it, or the system's resolver to encode it."""
    with pytest.raises(DialError, match=r"unreadable multiaddr|cannot resolve"):
        await near_transport().dial(Multiaddr(b"\x36\x46" + b"a" * 70 + b"\x91\x02\x0f\xa1\xcd\x03"))


async def test_a_name_does_not_bypass_the_deny_list() -> None:
    """The swarm admits a name if one of its addresses may be dialed, and does not know /dns."""
    trio.socket.set_custom_hostname_resolver(Names(node_test=["127.0.0.1", "127.0.0.2"]))
    config = ConnectionConfig(deny_list=["127.0.0.1"])
    port = free_port()
    async with near_host(f"/ip4/127.0.0.1/udp/{port}/quic-v1") as denied:
        key_pair = create_new_key_pair()
        host = new_host(
            key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)], connection_config=config
        )
        named = Multiaddr(f"/dns/node.test/udp/{port}/quic-v1")
        async with host.run(listen_addrs=[]), near_host(f"/ip4/127.0.0.2/udp/{port}/quic-v1") as allowed:
            await host.connect(PeerInfo(allowed.get_id(), [named]))
            assert connection(host, allowed.get_id()).get_remote_address()[0] == "127.0.0.2"
            with pytest.raises(SwarmException):
                await host.connect(PeerInfo(denied.get_id(), [named]))
            assert swarm(denied).connections == {}


async def test_dial_that_waits_for_a_name_can_be_canceled() -> None:
    class Slow(Names):
        async def getaddrinfo(self, *arguments: Any, **more: Any) -> Any:
            await trio.sleep_forever()

    trio.socket.set_custom_hostname_resolver(Slow())
    dialer = near_transport()
    with trio.move_on_after(0.1) as scope:
        await dialer.dial(Multiaddr("/dns4/node.test/udp/4001/quic-v1"))
    assert scope.cancelled_caught
    await dialer.close()
