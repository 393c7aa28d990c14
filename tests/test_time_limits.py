"""An error of the program's own time limit is explained by the dials that failed within it, and by no other.

Real sockets, on trio and on asyncio. What a canceled dial tells is in test_canceled_dials.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic.asyncio
from libp2p_quic import DialError, HandshakeTimeoutError, causes, explain
from libp2p_quic._limited_dials import LimitedDials
from testkit.asyncio_ends import ends
from testkit.census import PATIENCE
from testkit.linked import listening
from testkit.near import near_host, near_transport

OTHER = ID.from_pubkey(create_new_key_pair().public_key)
WITHIN = r"within \d+\.\d s \([1-9]\d* datagrams sent, 0 received\)"
UNANSWERED = f"canceled by this program: the peer did not answer {WITHIN}"
STEP = ": check the address, whether the peer runs, and firewalls; a longer time limit helps only a slow peer"
NO_DIAL = r"a time limit of the program ended \(TooSlowError\), and no dial is known that it canceled; .*"


def silent_socket() -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a socket that answers nothing."""
    with silent_socket() as bound:
        yield address_of(bound)


def address_of(bound: socket.socket) -> str:
    return f"/ip4/127.0.0.1/udp/{bound.getsockname()[1]}/quic-v1"


# trio


async def test_a_limit_around_a_dial(silent: str) -> None:
    dialer = near_transport()
    with pytest.raises(trio.TooSlowError) as caught:
        with trio.fail_after(0.5):
            await dialer.dial(Multiaddr(silent))
    assert re.fullmatch(f"failed to dial {silent}: {UNANSWERED}{STEP}", explain(caught.value))
    (cause,) = causes(caught.value)
    assert type(cause) is HandshakeTimeoutError
    await dialer.close()


async def test_a_limit_around_the_connect_of_a_host(silent: str) -> None:
    async with near_host() as host:
        with pytest.raises(trio.TooSlowError) as caught:
            with trio.fail_at(trio.current_time() + 0.5):
                await host.connect(PeerInfo(OTHER, [Multiaddr(silent)]))
    assert re.fullmatch(f"failed to dial {silent}/p2p/{OTHER}: {UNANSWERED}{STEP}", explain(caught.value))


async def test_a_limit_that_ends_between_two_tries_of_the_swarm(silent: str) -> None:
    async with near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 0.2}) as host:
        # The swarm waits between its tries for more than 0.1 s, and the first ends after 0.2 s.
        swarm_retry = host.get_network().retry_config  # type: ignore[attr-defined]
        swarm_retry.initial_delay = swarm_retry.max_delay = PATIENCE
        with pytest.raises(trio.TooSlowError) as caught:
            with trio.fail_after(1):
                await host.connect(PeerInfo(OTHER, [Multiaddr(silent)]))
    text = explain(caught.value)
    assert text.startswith(
        f"failed to dial {silent}/p2p/{OTHER}: no handshake in time: the peer did not answer"
    )


def test_a_limit_that_ends_the_whole_run(silent: str) -> None:
    async def main() -> None:
        dialer = near_transport()
        with trio.fail_after(0.5):
            await dialer.dial(Multiaddr(silent))

    with pytest.raises(trio.TooSlowError) as caught:
        trio.run(main)
    assert re.fullmatch(f"failed to dial {silent}: {UNANSWERED}{STEP}", explain(caught.value))


async def test_a_limit_around_several_dials(silent: str) -> None:
    with silent_socket() as other:
        dialer, addresses = near_transport(), [silent, address_of(other)]
        with pytest.raises(trio.TooSlowError) as caught:
            with trio.fail_after(0.5):
                async with trio.open_nursery() as nursery:
                    for each in addresses:
                        nursery.start_soon(dialer.dial, Multiaddr(each))
        assert {type(each) for each in causes(caught.value)} == {HandshakeTimeoutError}
        assert all(f"failed to dial {each}: canceled" in explain(caught.value) for each in addresses)
        await dialer.close()


async def test_the_limit_is_told_apart_from_one_around_it_and_one_within(silent: str) -> None:
    dialer = near_transport()
    with pytest.raises(trio.TooSlowError) as caught:
        with trio.fail_after(PATIENCE):
            with trio.fail_after(0.5):
                with trio.move_on_after(0.1):
                    await dialer.dial(Multiaddr(silent))
                await dialer.dial(Multiaddr(silent))
    (cause,) = causes(caught.value)
    assert str(cause).startswith(f"failed to dial {silent}: {UNANSWERED[:40]}")
    assert "within 0.1 s" not in str(cause)
    await dialer.close()


async def test_a_limit_of_something_else_blames_no_dial(silent: str) -> None:
    dialer = near_transport()
    with trio.move_on_after(0.1):
        await dialer.dial(Multiaddr(silent))
    with pytest.raises(trio.TooSlowError) as caught:
        with trio.fail_after(0.1):
            await trio.sleep_forever()
    assert causes(caught.value) == []
    assert re.fullmatch(NO_DIAL, explain(caught.value))
    await dialer.close()


async def test_a_dial_that_succeeded_in_the_end_is_not_blamed(silent: str) -> None:
    async with listening() as (listener, connections):
        # Long enough for the dial that succeeds.
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=1.5)
        with pytest.raises(trio.TooSlowError) as caught:
            with trio.fail_after(PATIENCE) as scope:
                with pytest.raises(HandshakeTimeoutError):
                    await dialer.dial(Multiaddr(silent))
                await dialer.dial(listener.get_addrs()[0])
                await connections.receive()
                # The deadline that the dials had: the rest of the time would be idle.
                scope.cancel()
                await trio.sleep_forever()
        assert causes(caught.value) == []
        await dialer.close()


def test_the_number_of_failures_is_limited() -> None:
    dials = LimitedDials()
    for deadline in range(1000):
        dials.record(float(deadline), "address", libp2p_quic.asyncio.DialError(f"no answer by {deadline}"))
    dials.record(float("inf"), "address", libp2p_quic.asyncio.DialError("without a limit"))
    assert len(dials) == 256
    assert dials.within(743) == []
    assert [str(each) for each in dials.within(999)] == ["no answer by 999"]


# asyncio


def test_a_limit_of_asyncio_around_a_dial(silent: str) -> None:
    async def main() -> BaseException:
        async with ends() as both:
            with pytest.raises(asyncio.TimeoutError) as caught:
                await asyncio.wait_for(both.near.connect(silent), 0.5)
        return caught.value

    error = asyncio.run(main())
    assert re.fullmatch(f"failed to dial {silent}: {UNANSWERED}{STEP}", libp2p_quic.asyncio.explain(error))
    (cause,) = causes(error)
    assert type(cause) is libp2p_quic.asyncio.HandshakeTimeoutError
    assert not isinstance(cause, DialError)


def test_a_limit_of_asyncio_around_something_else() -> None:
    async def main() -> None:
        await asyncio.wait_for(asyncio.Event().wait(), 0.01)

    with pytest.raises(asyncio.TimeoutError) as caught:
        asyncio.run(main())
    assert re.fullmatch(NO_DIAL.replace("TooSlowError", "TimeoutError"), explain(caught.value))
