"""The identity of a peer: proven by both sides in the handshake, before any stream.

Two host processes, and QUIC programs that have no libp2p identity. Faulty certificates are in the engine's
own tests (crates/engine/tests/certificates.rs).
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trio
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.asymmetric import ec
from libp2p.crypto import ecc
from libp2p.crypto.ed25519 import Ed25519PrivateKey, create_new_key_pair
from libp2p.crypto.keys import KeyPair, KeyType, PrivateKey
from libp2p.host.ping import PingService
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.quic.exceptions import (
    QUICHandshakeError,
    QUICPeerVerificationError,
    QUICSecurityError,
)
from multiaddr import Multiaddr

from libp2p_quic import QUICListener, QUICTransport
from libp2p_quic.exceptions import PeerIdMismatchError
from testkit.census import PATIENCE, eventually
from testkit.far import far_host
from testkit.h3 import call, serve
from testkit.near import (
    IP4,
    addresses,
    answers,
    connection,
    inbound,
    near_host,
    near_transport,
    reasons,
    swarm,
)
from tools.interop.ours import ecdsa


def another_peer() -> ID:
    return ID.from_pubkey(create_new_key_pair().public_key)


KEYS = ["ed25519", "secp256k1", "rsa", "ecdsa", "ecdsa-p384", "ecdsa-p521"]


@pytest.mark.parametrize("key", KEYS)
async def test_handshake_proves_both_peers(key: str) -> None:
    async with far_host(key=key) as far, near_host() as near:
        await near.connect(far.info)
        proven = connection(near, far.peer_id)
        assert proven.peer_id == far.peer_id
        assert proven.is_initiator
        assert proven.is_established
        assert proven.get_transport_addresses() == far.info.addrs
        # The peer id that the other process verified.
        with trio.fail_after(PATIENCE):
            while await far.do("connections") != [str(near.get_id())]:
                await trio.lowlevel.checkpoint()


async def test_listener_learns_who_dialed() -> None:
    async with far_host() as far, near_host(IP4) as near:
        await far.do("connect", address=addresses(near)[0])
        dialed_us = await inbound(near, far.peer_id)
        assert dialed_us.peer_id == far.peer_id
        assert not dialed_us.is_initiator
        host, port = dialed_us.get_remote_address()
        assert host == "127.0.0.1"
        # It dialed from its listening socket.
        assert far.addresses[0].startswith(f"/ip4/{host}/udp/{port}/quic-v1")


@pytest.mark.parametrize("key", [key for key in KEYS if key.startswith("ecdsa")])
async def test_a_peer_with_an_ecdsa_key_on_the_stock_transport_is_proven_in_both_roles(key: str) -> None:
    """py-libp2p's own certificates of such a key: it can sign, although it cannot verify."""
    async with far_host(transport="stock", key=key) as far, near_host(IP4) as near:
        await near.connect(far.info)
        assert connection(near, far.peer_id).is_initiator
    async with far_host(transport="stock", key=key) as far, near_host(IP4) as near:
        await far.do("connect", address=addresses(near)[0])
        assert not (await inbound(near, far.peer_id)).is_initiator


async def test_a_peer_with_a_key_on_another_curve_is_refused_with_the_reason_in_both_roles() -> None:
    async with far_host(transport="stock", key="ecdsa-p224") as far, near_host(IP4) as near:
        dialer = near_transport()
        with pytest.raises(QUICHandshakeError, match=r"curve 1\.3\.132\.0\.33 is none of P-256"):
            await dialer.dial(far.info.addrs[0])
        await dialer.close()
        # The stock transport's dial returns before its certificate is verified.
        await far.do("connect", address=addresses(near)[0])
        (listener,) = (each for each in swarm(near).listeners.values() if isinstance(each, QUICListener))
        assert await eventually(lambda: listener.get_stats()["connections_rejected"] == 1, 10)
        assert not swarm(near).connections


@pytest.mark.parametrize("key", KEYS)
async def test_a_host_with_any_type_of_key_carries_streams(key: str) -> None:
    """Above the handshake py-libp2p signs and serializes the key too."""
    async with far_host(key=key) as far, near_host() as near:
        await near.connect(far.info)
        assert len(await PingService(near).ping(far.peer_id, 2)) == 2


async def test_wrong_peer_id_is_refused_and_named() -> None:
    async with far_host() as far, near_host() as near:
        wrong = PeerInfo(another_peer(), [far.info.addrs[0].decapsulate_code(421)])
        with pytest.raises(SwarmException) as refused:
            await near.connect(wrong)
        (mismatch,) = (each for each in reasons(refused.value) if isinstance(each, PeerIdMismatchError))
        assert "Peer ID mismatch" in str(mismatch)
        # The swarm handled the error: it dialed once and deleted the address.
        assert near.get_peerstore().peer_info(wrong.peer_id).addrs == []
        assert not swarm(near).get_connections(wrong.peer_id)
        assert await eventually(lambda: not swarm(near).connections)


async def test_wrong_peer_id_has_its_own_error_class() -> None:
    transport = near_transport()
    async with far_host() as far:
        wrong = far.info.addrs[0].decapsulate_code(421).encapsulate(f"/p2p/{another_peer()}")
        with pytest.raises(PeerIdMismatchError, match="Peer ID mismatch") as refused:
            await transport.dial(wrong)
        assert isinstance(refused.value, QUICPeerVerificationError)
        await transport.close()
        # The listener does not keep a connection to a dialer that closed.
        assert await far.do("connections") == []


async def test_dial_without_a_peer_id_accepts_any_verified_peer() -> None:
    async with far_host() as far:
        dialer = near_transport()
        dialed = await dialer.dial(far.info.addrs[0].decapsulate_code(421))
        assert dialed.peer_id == far.peer_id
        await dialer.close()


class UnreadableKey(PrivateKey):
    """A private key of an unknown type."""

    def to_bytes(self) -> bytes:
        return b"\x00" * 7

    def get_type(self) -> KeyType:
        return KeyType.Ed25519

    def sign(self, data: bytes) -> bytes:
        raise NotImplementedError

    def get_public_key(self) -> Any:
        raise NotImplementedError


def test_a_private_key_that_cannot_be_used_is_refused_with_the_reason() -> None:
    with pytest.raises(QUICSecurityError, match=r"cannot read the private key: .* not 7$"):
        QUICTransport(UnreadableKey())
    # py-libp2p's own ECC keys are no libp2p host keys: they can neither sign nor verify.
    with pytest.raises(QUICSecurityError, match=r"type 4 is none of .* ECDSA \(3\)"):
        QUICTransport(ecc.create_new_key_pair("P-256").private_key)
    with pytest.raises(QUICSecurityError, match=r"1\.3\.132\.0\.33 is none of P-256, P-384 and P-521"):
        QUICTransport(ecdsa.create_new_key_pair(ec.SECP224R1()).private_key)


class LongEd25519Key(Ed25519PrivateKey):
    """In the form of 96 bytes (libp2p's peer-ids specification, "Ed25519"), or with a mistake in it."""

    form: tuple[int, ...] = (0, 1, 1)

    def to_bytes(self) -> bytes:
        other = create_new_key_pair().public_key.to_bytes()
        parts = (super().to_bytes(), self.get_public_key().to_bytes(), other)
        return b"".join(parts[each] for each in self.form)


async def test_an_ed25519_key_of_96_bytes_is_the_key_that_it_repeats() -> None:
    pair = create_new_key_pair()
    long = LongEd25519Key.from_bytes(pair.private_key.to_bytes())
    assert len(long.to_bytes()) == 96
    async with near_host(IP4, key_pair=KeyPair(long, pair.public_key)) as near:
        assert await answers(addresses(near)[0], ID.from_pubkey(pair.public_key))


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ((0, 1, 2), "differ"),
        ((0, 2, 1), "differ"),
        ((0, 2, 2), "does not belong"),
        ((0, 2), "does not belong"),
    ],
)
def test_an_ed25519_key_whose_parts_do_not_belong_together_is_refused(
    form: tuple[int, ...], reason: str
) -> None:
    key = LongEd25519Key(create_new_key_pair().private_key.impl)  # type: ignore[attr-defined]
    key.form = form
    with pytest.raises(QUICSecurityError, match=reason):
        QUICTransport(key)


async def test_a_peer_keeps_its_identity_over_a_restart() -> None:
    seed = bytes(range(1, 33))
    async with far_host(seed=seed) as far:
        first = far.peer_id
    async with far_host(seed=seed) as far, near_host() as near:
        await near.connect(far.info)
        assert connection(near, first).peer_id == first


async def test_a_listener_whose_certificate_names_no_peer_is_refused(nursery: trio.Nursery) -> None:
    """It speaks libp2p's ALPN; its certificate lacks libp2p's extension (libp2p TLS spec)."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    await sock.bind(("127.0.0.1", 0))
    nursery.start_soon(serve, sock, QuicConfiguration(is_client=False, alpn_protocols=["libp2p"]))
    dialer = near_transport()
    with pytest.raises(QUICHandshakeError, match="extension") as refused:
        await dialer.dial(Multiaddr(f"/ip4/127.0.0.1/udp/{sock.getsockname()[1]}/quic-v1"))
    # RFC 9000 section 20.1: CRYPTO_ERROR plus a TLS alert.
    assert refused.value.error_code is not None
    assert 0x100 < refused.value.error_code < 0x200
    await dialer.close()
    nursery.cancel_scope.cancel()
    sock.close()


async def test_a_dialer_without_a_certificate_is_refused_before_it_is_accepted() -> None:
    async with near_host(IP4) as near:
        port = int(near.get_addrs()[0].value_for_protocol("udp") or 0)
        configuration = QuicConfiguration(alpn_protocols=["libp2p"], verify_mode=ssl.CERT_NONE)
        ended = await call(("127.0.0.1", port), configuration)
        # RFC 8446 section 6.2: certificate_required.
        assert ended.error_code == 0x100 + 116
        assert not swarm(near).connections
