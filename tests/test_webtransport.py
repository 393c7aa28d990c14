"""WebTransport beside QUIC on one port: hosts of py-libp2p, its own WebTransport as the peer, and asyncio.

Browsers and go-libp2p are in tools/interop. HTTP/3 itself is tested in crates/webtransport, and the
session under bad networks in the engine's simulation.
"""

from __future__ import annotations

import base64
import gc
import socket
from dataclasses import replace

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.ping import PingService
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.webtransport import transport as stock
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, WebTransportTransport
from libp2p_quic._addr import QUICAddress
from libp2p_quic._webtransport_address import WEBTRANSPORT, certificate_hash_text, parse_certificate_hash
from libp2p_quic.asyncio import (
    Address,
    DialError,
    Endpoint,
    HandshakeRefusedError,
    Identity,
    InvalidAddressError,
    PeerIdMismatchError,
    StreamReset,
)
from libp2p_quic.exceptions import ConnectionClosed
from libp2p_quic.exceptions import DialError as HostDialError
from libp2p_quic.exceptions import HandshakeRefusedError as HostRefusedError
from testkit.asyncio_ends import raw_streams
from testkit.loops import on_both

BROWSERS = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport"
HASH = b"\x12\x20" + bytes(range(32))
OTHER = b"\x12\x20" + bytes(32)


# Addresses


@pytest.mark.parametrize(
    "text",
    [
        certificate_hash_text(HASH),
        "m" + base64.b64encode(HASH).decode().rstrip("="),
        "M" + base64.b64encode(HASH).decode(),
        "b" + base64.b32encode(HASH).decode().rstrip("=").lower(),
        "f" + HASH.hex(),
        "F" + HASH.hex().upper(),
    ],
)
def test_certificate_hash_in_every_base(text: str) -> None:
    assert parse_certificate_hash(text) == HASH


@pytest.mark.parametrize("text", ["", "u", "u!", "zQm", "uAAAA", "f12", "u" + "A" * 46, "m" + "é" * 46])
def test_other_certificate_hashes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="/certhash/"):
        parse_certificate_hash(text)


def test_addresses_of_webtransport() -> None:
    peer = Identity.generate().peer_id
    hashes = f"/certhash/{certificate_hash_text(HASH)}/certhash/{certificate_hash_text(OTHER)}"
    text = f"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport{hashes}/p2p/{peer}"
    address = Address.parse(text)
    assert (address.is_webtransport, address.certificate_hashes) == (True, (HASH, OTHER))
    assert str(address) == text
    assert str(replace(address, host="192.0.2.2").at("192.0.2.1")) == text
    host_address = QUICAddress.parse(Multiaddr(text))
    assert (host_address.protocol, host_address.certificate_hashes) == (WEBTRANSPORT, (HASH, OTHER))
    assert host_address.at("192.0.2.1") == Multiaddr(text)
    assert host_address.at("192.0.2.9") == Multiaddr(text.replace("192.0.2.1", "192.0.2.9"))
    for wrong in (
        "/ip4/192.0.2.1/udp/4001/webtransport",
        "/ip4/192.0.2.1/udp/4001/quic/webtransport",
        f"/ip4/192.0.2.1/udp/4001/quic-v1{hashes}",
        f"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport/p2p/{peer}{hashes}",
        "/ip4/192.0.2.1/udp/4001/quic-v1/webtransport/certhash/uAAAA",
    ):
        with pytest.raises(InvalidAddressError):
            Address.parse(wrong)
    with pytest.raises(InvalidAddressError, match="certhash"):
        Address.parse_literal(f"/ip4/192.0.2.1/udp/4001/quic-v1/webtransport{hashes}")


# asyncio


@on_both
async def test_asyncio_serves_quic_and_webtransport_on_one_port() -> None:
    async with Endpoint(Identity.generate()) as far, Endpoint(Identity.generate()) as near:
        listener = await far.listen(BROWSERS)
        address = listener.webtransport_address
        assert address is not None
        assert address.startswith(f"{listener.address}/webtransport/certhash/u")
        for dialed, alpn in ((listener.address, "libp2p"), (address, "h3")):
            ours = await near.connect(f"{dialed}/p2p/{far.peer_id}")
            theirs = await listener.accept()
            assert (ours.peer_id, theirs.peer_id) == (far.peer_id, near.peer_id)
            assert ours.tls.alpn == theirs.tls.alpn == alpn
            assert ("/webtransport" in theirs.remote_address) is (alpn == "h3")
            stream, other = await raw_streams(ours, theirs)
            data = bytes(range(256)) * 4096
            await stream.write(data)
            stream.finish()
            assert await other.read_to_end() == data
            back, answer = await raw_streams(theirs, ours)
            back.reset(77)
            with pytest.raises(StreamReset) as seen:
                await answer.read()
            assert seen.value.error_code == 77
            ours.close()


@on_both
async def test_asyncio_dials_that_webtransport_refuses() -> None:
    async with Endpoint(Identity.generate()) as far, Endpoint(Identity.generate()) as near:
        listener = await far.listen(BROWSERS)
        right = Address.parse(listener.webtransport_address)
        with pytest.raises(DialError, match="/certhash"):
            await near.connect(f"{listener.address}/webtransport")
        with pytest.raises(HandshakeRefusedError, match="hash"):
            await near.connect(str(replace(right, certificate_hashes=(OTHER,))))
        with pytest.raises(PeerIdMismatchError):
            await near.connect(str(replace(right, peer_id=near.peer_id)))
        plain = await far.listen("/ip4/127.0.0.1/udp/0/quic-v1")
        assert plain.webtransport_address is None
        port = Address.parse(plain.address).port
        with pytest.raises(HandshakeRefusedError):
            await near.connect(str(replace(right, port=port)))


@on_both
async def test_address_is_the_same_after_a_restart() -> None:
    identity, seen = Identity.generate(), set()
    for _ in range(2):
        async with Endpoint(identity) as far:
            listener = await far.listen(BROWSERS)
            seen.add(Address.parse(listener.webtransport_address).certificate_hashes)
    assert len(seen) == 1


# py-libp2p


def host_of(kind: type = QUICTransport) -> IHost:
    pair = create_new_key_pair()
    return new_host(key_pair=pair, transports=[kind(pair.private_key)])


def address_of(host: IHost, part: str) -> PeerInfo:
    """The host's address with, or without, this part."""
    is_wanted = part == "webtransport"
    found = [each for each in host.get_addrs() if ("/webtransport" in str(each)) is is_wanted]
    return PeerInfo(host.get_id(), [Multiaddr(str(each).partition("/p2p/")[0]) for each in found])


async def pinged(host: IHost, peer: ID) -> None:
    assert len(await PingService(host).ping(peer, 3)) == 3


@pytest.mark.parametrize("is_quic_first", [True, False])
async def test_hosts_share_a_port(is_quic_first: bool) -> None:
    far = host_of()
    async with far.run(listen_addrs=[]):
        network = far.get_network()
        kinds = ["quic-v1", WEBTRANSPORT] if is_quic_first else [WEBTRANSPORT, "quic-v1"]
        assert await network.listen(Multiaddr(f"/ip4/127.0.0.1/udp/0/{kinds[0]}"))
        (first,) = far.get_addrs()
        port = QUICAddress.parse(first).port
        assert await network.listen(Multiaddr(f"/ip4/127.0.0.1/udp/{port}/{kinds[1]}"))
        assert len(far.get_addrs()) == 2
        for part in ("webtransport", "quic-v1"):
            near = host_of()
            async with near.run(listen_addrs=[]):
                await near.connect(address_of(far, part))
                await pinged(near, far.get_id())
                (connection,) = near.get_network().connections[far.get_id()]
                (reached,) = connection.get_transport_addresses()
                assert ("/webtransport/certhash/" in str(reached)) is (part == "webtransport")


async def test_webtransport_alone_refuses_quic() -> None:
    far, near = host_of(WebTransportTransport), host_of()
    async with far.run(listen_addrs=[Multiaddr(BROWSERS)]), near.run(listen_addrs=[]):
        await near.connect(address_of(far, "webtransport"))
        await pinged(near, far.get_id())
        (address,) = far.get_addrs()
        transport = QUICTransport(create_new_key_pair().private_key)
        port = QUICAddress.parse(address).port
        # The refusal comes before the dial has returned, or after.
        with pytest.raises((HostRefusedError, ConnectionClosed), match=r"by the peer .* not served here"):
            connection = await transport.dial(Multiaddr(f"/ip4/127.0.0.1/udp/{port}/quic-v1"))
            raise await connection.closed()
        await transport.close()


async def test_peer_with_both_addresses_is_dialed_over_quic() -> None:
    far, near = host_of(), host_of()
    async with far.run(listen_addrs=[Multiaddr(BROWSERS)]), near.run(listen_addrs=[]):
        port = QUICAddress.parse(far.get_addrs()[0]).port
        await far.get_network().listen(Multiaddr(f"/ip4/127.0.0.1/udp/{port}/quic-v1"))
        await near.connect(PeerInfo(far.get_id(), far.get_addrs()))
        await pinged(near, far.get_id())


async def test_dial_without_a_certificate_hash_says_what_is_missing() -> None:
    transport = QUICTransport(create_new_key_pair().private_key)
    with pytest.raises(HostDialError, match="/certhash"):
        await transport.dial(Multiaddr("/ip4/127.0.0.1/udp/4001/quic-v1/webtransport"))
    await transport.close()


@pytest.mark.parametrize("is_ours_dialing", [True, False])
async def test_py_libp2ps_own_webtransport(is_ours_dialing: bool) -> None:
    # Kept, so that none of the new ones gets the identity of one of these.
    before = open_sockets()
    kinds = [stock.WebTransportTransport, QUICTransport]
    if not is_ours_dialing:
        kinds.reverse()
    far, near = map(host_of, kinds)
    try:
        with trio.fail_after(30):
            async with far.run(listen_addrs=[Multiaddr(BROWSERS)]), near.run(listen_addrs=[]):
                await near.connect(PeerInfo(far.get_id(), [far.get_addrs()[0]]))
                await pinged(near, far.get_id())
    finally:
        # py-libp2p 0.8.1 leaves its sockets to the garbage collector, which would warn in a later test.
        for each in open_sockets():
            if each not in before:
                each.close()


def open_sockets() -> list[socket.socket]:
    """Python's sockets in this process; the engine has its own."""
    found = [each for each in gc.get_objects() if issubclass(type(each), socket.socket)]
    return [each for each in found if each.fileno() != -1]
