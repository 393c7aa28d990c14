"""Which key exchange two peers agree on, read from their hellos by interop's tap.

The engine's own tests do this without a network; here it is what a peer sees.
"""

from __future__ import annotations

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicProtocolVersion, encode_quic_retry
from multiaddr import Multiaddr

from testkit.far import far_host
from testkit.linked import linked
from testkit.near import IP4, addresses, answers, inbound, near_host, near_transport
from tools.interop.tap import Tap, joined, tapped

HYBRID = "X25519MLKEM768"


async def test_between_two_of_our_hosts_it_is_post_quantum() -> None:
    async with far_host() as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    assert not tap.sent_retry
    assert tap.offered == [HYBRID, "X25519"]
    assert tap.agreed == HYBRID


async def test_both_ends_of_a_connection_tell_it() -> None:
    async with linked() as link:
        assert link.dialed.tls == link.accepted.tls
        assert (link.dialed.tls.key_exchange, link.dialed.tls.alpn) == (HYBRID, "libp2p")
        assert link.dialed.tls.cipher_suite in ("TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")


async def test_a_connection_tells_what_another_listener_chose() -> None:
    async with far_host(transport="stock") as far, tapped(far.addresses[0]) as tap:
        dialer = near_transport()
        told = (await dialer.dial(Multiaddr(tap.address))).tls
        await dialer.close()
    # aioquic's own order.
    assert told.cipher_suite == "TLS_AES_256_GCM_SHA384"
    assert (told.key_exchange, tap.agreed) == ("x25519", "X25519")


async def test_a_retry_is_followed_and_we_answer_it_with_the_same_hello() -> None:
    async with far_host(config={"retry_above": 0}) as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    assert tap.sent_retry
    assert tap.offered == [HYBRID, "X25519"]
    assert tap.agreed == HYBRID


async def test_the_stock_transport_answers_our_retry() -> None:
    async with (
        far_host(transport="stock") as far,
        near_host(IP4, config={"retry_above": 0}) as near,
        tapped(str(addresses(near)[0])) as tap,
    ):
        await far.do("connect", address=tap.address)
        await inbound(near, far.peer_id)
    assert tap.sent_retry
    assert tap.agreed in tap.offered


async def test_we_send_no_server_name() -> None:
    async with far_host() as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    # The hello was read, so the name is absent.
    assert tap.offered
    assert tap.server_name is None


async def test_a_listener_without_it_uses_the_other_key_share() -> None:
    async with far_host(transport="stock") as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    assert tap.offered == [HYBRID, "X25519"]
    assert tap.agreed == "X25519"
    assert not tap.was_retried


async def test_a_dialer_without_it_is_accepted() -> None:
    async with (
        far_host(transport="stock") as far,
        near_host(IP4) as near,
        tapped(str(addresses(near)[0])) as tap,
    ):
        await far.do("connect", address=tap.address)
        await inbound(near, far.peer_id)
    assert tap.agreed in tap.offered
    assert HYBRID not in tap.offered


class Dialer:
    """aioquic's client without a network: what it sends, and a Retry packet that it follows."""

    def __init__(self) -> None:
        self.connection = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["libp2p"]))
        self.connection.connect(("127.0.0.1", 4001), now=0)

    def sends(self) -> list[bytes]:
        return [datagram for datagram, _ in self.connection.datagrams_to_send(now=0)]

    def retry(self, source: bytes = b"proven??") -> bytes:
        return encode_quic_retry(
            QuicProtocolVersion.VERSION_1,
            source_cid=source,
            destination_cid=self.connection.host_cid,
            original_destination_cid=self.connection.original_destination_connection_id,
            retry_token=b"token",
        )


def follows(tap: Tap, datagram: bytes, is_dialers: bool = False) -> bool:
    tap.read(datagram, is_dialers)
    return tap.sent_retry


def test_a_retry_changes_the_keys_of_initial_packets() -> None:
    dialer, tap = Dialer(), Tap(IP4)
    for datagram in dialer.sends():
        tap.read(datagram, is_dialers=True)
    first, tap.offered = tap.offered, []
    assert first

    retry = dialer.retry()
    assert follows(tap, retry)
    dialer.connection.receive_datagram(retry, ("127.0.0.1", 4001), now=0)
    for datagram in dialer.sends():
        tap.read(datagram, is_dialers=True)
    assert tap.offered == first


def test_a_retry_that_no_dialer_follows_is_not_followed() -> None:
    """RFC 9000 section 17.2.5.2: without a valid tag, or after another one."""
    dialer, tap = Dialer(), Tap(IP4)
    early = dialer.retry()
    assert not follows(tap, early), "there was no dial yet"
    hello = dialer.sends()
    tap.read(hello[0], is_dialers=True)
    assert tap.offered

    damaged = dialer.retry()[:-1] + bytes([dialer.retry()[-1] ^ 1])
    assert not follows(tap, damaged)
    assert not follows(tap, early, is_dialers=True)
    # The keys have not changed.
    tap.offered = []
    tap.read(hello[0], is_dialers=True)
    assert tap.offered

    assert follows(tap, early)
    dialer.connection.receive_datagram(early, ("127.0.0.1", 4001), now=0)
    tap.read(dialer.retry(b"another?"), is_dialers=False)
    tap.offered = []
    for datagram in dialer.sends():
        tap.read(datagram, is_dialers=True)
    assert tap.offered, "the second Retry was followed"


@pytest.mark.parametrize(
    "pieces", [{0: b"abcd", 4: b"ef"}, {0: b"abcd", 2: b"cdef"}, {0: b"abcdef", 2: b"cd"}]
)
def test_hellos_in_several_frames_are_joined(pieces: dict[int, bytes]) -> None:
    assert joined(pieces) == b"abcdef"


def test_a_gap_ends_the_readable_data() -> None:
    assert joined({0: b"ab", 3: b"d"}) == b"ab"


def test_datagrams_that_are_no_handshake_are_no_error() -> None:
    tap = Tap(str(Multiaddr(IP4)))
    for datagram in (b"", b"\x00", b"\xff" * 1200, bytes(1200), b"\xc0\x00\x00\x00\x01\x08" + bytes(40)):
        tap.read(datagram, is_dialers=True)
        tap.read(datagram, is_dialers=False)
    assert (tap.offered, tap.agreed) == ([], None)
