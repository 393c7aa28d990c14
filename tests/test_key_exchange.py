"""Which key exchange two peers agree on, read from their hellos on the way by interop's tap.

The engine's own tests do this without a network; here stands what a peer sees.
"""

from __future__ import annotations

import pytest
from multiaddr import Multiaddr

from interop.tap import Tap, joined, tapped
from peers.far import far_host
from peers.near import IP4, addresses, answers, inbound, near_host

HYBRID = "X25519MLKEM768"


async def test_between_ourselves_it_is_post_quantum() -> None:
    async with far_host() as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    assert tap.offered == [HYBRID, "X25519"]
    assert tap.agreed == HYBRID


async def test_we_send_no_server_name() -> None:
    async with far_host() as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    # The hello was read, so the name is not merely unseen.
    assert tap.offered
    assert tap.server_name is None


async def test_a_listener_without_it_takes_what_came_along() -> None:
    async with far_host(transport="stock") as far, tapped(far.addresses[0]) as tap:
        assert await answers(tap.address, far.peer_id)
    assert tap.offered == [HYBRID, "X25519"]
    assert tap.agreed == "X25519"
    assert not tap.was_retried


async def test_a_dialer_without_it_is_taken_as_before() -> None:
    async with (
        far_host(transport="stock") as far,
        near_host(IP4) as near,
        tapped(str(addresses(near)[0])) as tap,
    ):
        await far.do("connect", address=tap.address)
        await inbound(near, far.peer_id)
    assert tap.agreed in tap.offered
    assert HYBRID not in tap.offered


@pytest.mark.parametrize(
    "pieces", [{0: b"abcd", 4: b"ef"}, {0: b"abcd", 2: b"cdef"}, {0: b"abcdef", 2: b"cd"}]
)
def test_hellos_that_come_in_pieces_are_joined(pieces: dict[int, bytes]) -> None:
    assert joined(pieces) == b"abcdef"


def test_a_gap_ends_what_can_be_read() -> None:
    assert joined({0: b"ab", 3: b"d"}) == b"ab"


def test_datagrams_that_are_no_handshake_are_no_error() -> None:
    tap = Tap(str(Multiaddr(IP4)))
    for datagram in (b"", b"\x00", b"\xff" * 1200, bytes(1200), b"\xc0\x00\x00\x00\x01\x08" + bytes(40)):
        tap.read(datagram, is_dialers=True)
        tap.read(datagram, is_dialers=False)
    assert (tap.offered, tap.agreed) == ([], None)
