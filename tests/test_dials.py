"""How long a dial takes: racing addresses of a name, peers that start late, and that unneeded attempts leave
nothing.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.transport.quic.exceptions import QUICConnectionClosedError
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICTransport
from libp2p_quic._engine import Connection
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._error_mapping import joint_dial_error
from libp2p_quic._happy_eyeballs import AllFailedError, Race, interleaved
from libp2p_quic.exceptions import (
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    PeerIdMismatchError,
    UnreachableError,
)
from testkit.census import eventually
from testkit.far import far_host
from testkit.linked import listening, transport_behind
from testkit.names import Names, free_port
from testkit.near import connection, near_host, near_transport

PEER = ID.from_pubkey(create_new_key_pair().public_key)
DEAD = ["127.0.0.66", "127.0.0.67", "127.0.0.68"]
GOOD = "127.0.0.1"
# Attempts of which at least one meets no other work on a busy machine of two cores.
TRIES = 20


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def dead(port: int) -> Iterator[list[socket.socket]]:
    """Sockets that never answer, on this port of the unreachable addresses."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in DEAD]
        for each, host in zip(made, DEAD, strict=True):
            each.bind((host, port))
            each.setblocking(False)
        yield made


def has_heard(sock: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        return bool(sock.recv(2000))
    return False


@contextlib.asynccontextmanager
async def good_peer(port: int) -> AsyncIterator[QUICListener]:
    async with (
        listening(f"/ip4/{GOOD}/udp/{port}/quic-v1") as (listener, connections),
        trio.open_nursery() as nursery,
    ):

        async def take() -> None:
            async for _ in connections:
                pass

        nursery.start_soon(take)
        yield listener
        nursery.cancel_scope.cancel()


def named(port: int, *hosts: str) -> Multiaddr:
    """An address with a name that resolves to these hosts."""
    trio.socket.set_custom_hostname_resolver(Names(node_test=list(hosts)))
    return Multiaddr(f"/dns/node.test/udp/{port}/quic-v1")


async def quickest(dial: Callable[[], Awaitable[Any]], enough: float) -> float:
    """Seconds of the fastest of `TRIES` attempts, because other work on this machine only adds time.

    The first that takes at most ``enough`` seconds is the last.
    """
    took: list[float] = []
    while len(took) < TRIES and min(took, default=float("inf")) > enough:
        began = trio.current_time()
        await dial()
        took.append(trio.current_time() - began)
    return min(took)


@pytest.mark.parametrize(("before", "least", "most"), [(0, 0, 0.25), (1, 0.25, 0.3), (2, 0.5, 0.6)])
async def test_unreachable_addresses_before_the_good_one_take_250_ms_each(
    port: int, dead: list[socket.socket], before: int, least: float, most: float
) -> None:
    async with good_peer(port):
        # The timeout ends no attempt that lost while the test waits for its end.
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=60)
        address = named(port, *DEAD[:before], GOOD)
        made: list[QUICConnection] = []

        async def dial() -> None:
            dialed = await dialer.dial(address)
            made.append(dialed)
            assert dialed.get_remote_address() == (GOOD, port)
            assert str(dialed.get_transport_addresses()[0]) == f"/ip4/{GOOD}/udp/{port}/quic-v1"

        took = await quickest(dial, most)
        assert least <= took <= most
        assert all(has_heard(each) for each in dead[:before])
        # The attempts that lost have ended, the connections have not.
        engine = dialer._open_endpoint().engine
        assert await eventually(lambda: engine.census()["connections"] == len(made))
        await dialer.close()


async def test_the_second_address_gets_no_packet_where_the_first_answers(
    port: int, dead: list[socket.socket]
) -> None:
    async with good_peer(port):
        dialer = near_transport()
        for _ in range(10):
            began = trio.current_time()
            await dialer.dial(named(port, GOOD, *DEAD))
            took = trio.current_time() - began
            await trio.sleep(0.5)  # scenario: longer than the delay between attempts
            heard = [has_heard(each) for each in dead]
            if took < 0.2:
                break
            # So slow a handshake lets the next attempt begin.
            for each in dead:
                while has_heard(each):
                    pass
        assert took < 0.2
        assert heard == [False] * len(dead)
        await dialer.close()


@pytest.mark.usefixtures("dead")
async def test_unreachable_addresses_share_one_timeout_and_all_are_reported(port: int) -> None:
    # Three in a row would take 12 s, and together they take 4.5 s: the rest is for a busy machine.
    timeout = 4
    dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=timeout)
    began = trio.current_time()
    with pytest.raises(HandshakeTimeoutError) as caught:
        await dialer.dial(named(port, *DEAD))
    assert trio.current_time() - began < 2.9 * timeout
    # They are in the order of failing, which is not decided if the engine's thread is late for several.
    causes = sorted(caught.value.causes, key=str)
    for host, cause in zip(DEAD, causes, strict=True):
        assert isinstance(cause, HandshakeTimeoutError)
        assert isinstance(cause.__cause__, ConnectionLostError)
        assert host in str(cause)
        assert host in str(caught.value)
    await dialer.close()


async def test_after_a_refusal_the_next_address_is_dialed_at_once(port: int) -> None:
    async with (
        good_peer(port),
        listening(f"/ip4/127.0.0.2/udp/{port}/quic-v1") as (listener, _),
    ):
        transport_behind(listener).deny_addresses(["127.0.0.0/8"])
        dialer = near_transport()
        took = await quickest(lambda: dialer.dial(named(port, "127.0.0.2", GOOD)), 0.2)
        assert took <= 0.2
        assert listener.get_stats()["connections_rejected"] >= 1
        await dialer.close()


async def test_after_an_unreachable_address_the_next_is_dialed_at_once(port: int) -> None:
    async with good_peer(port):
        dialer = near_transport()
        took = await quickest(lambda: dialer.dial(named(port, "ff02::1", "255.255.255.255", GOOD)), 0.2)
        assert took <= 0.2
        with pytest.raises(UnreachableError, match=r"255\.255\.255\.255.*broadcast") as caught:
            await dialer.dial(named(port, "ff02::1", "255.255.255.255"))
        assert "multicast" in str(caught.value)
        await dialer.close()


async def test_a_closed_port_brings_the_next_address_at_once(port: int) -> None:
    async with good_peer(port):
        dialer = near_transport()
        # Nothing listens there, and the system says so (ICMP port unreachable).
        took = await quickest(lambda: dialer.dial(named(port, *DEAD, GOOD)), 0.2)
        assert took <= 0.2
        await dialer.close()


async def test_an_address_whose_port_was_closed_is_still_dialed_and_may_win(port: int) -> None:
    """A peer that restarts, whose other addresses are dead."""
    dead = ["127.0.0.67", "127.0.0.68"]
    with contextlib.ExitStack() as stack:
        for host in dead:
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((host, port))
        dialer, connected = near_transport(), trio.Event()
        async with trio.open_nursery() as nursery:
            address = named(port, GOOD, *dead)

            async def dial() -> None:
                assert (await dialer.dial(address)).get_remote_address() == (GOOD, port)
                connected.set()

            nursery.start_soon(dial)
            engine = dialer._open_endpoint().engine
            # All three are in flight: the first has learned that its port is closed.
            assert await eventually(lambda: engine.census()["connections"] >= 3)
            async with good_peer(port):
                await connected.wait()
        await dialer.close()


@pytest.mark.usefixtures("dead")
async def test_another_peer_at_one_address_does_not_stop_the_others(port: int) -> None:
    async with (
        good_peer(port) as good,
        listening(f"/ip4/127.0.0.2/udp/{port}/quic-v1") as (other, _),
        listening(f"/ip4/127.0.0.3/udp/{port}/quic-v1") as (refusing, _),
    ):
        transport_behind(refusing).deny_addresses(["127.0.0.0/8"])
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=1)

        async def dial(*hosts: str, peer: ID) -> ID:
            return (await dialer.dial(Multiaddr(f"{named(port, *hosts)}/p2p/{peer}"))).peer_id

        peer = transport_behind(good)._peer_id
        assert await dial("127.0.0.2", GOOD, peer=peer) == peer
        with pytest.raises(PeerIdMismatchError, match="Peer ID mismatch"):
            await dial("127.0.0.2", DEAD[0], GOOD, peer=PEER)
        # Not every address belonged to another peer, so the swarm must keep the peer's addresses.
        with pytest.raises(HandshakeRefusedError, match="another peer answered") as caught:
            await dial("127.0.0.2", "127.0.0.3", peer=PEER)
        assert "Peer ID mismatch" not in f"{caught.value}{caught.value.__cause__}"
        assert [type(each) for each in caught.value.causes] == [PeerIdMismatchError, HandshakeRefusedError]
        assert transport_behind(other)._peer_id != peer
        await dialer.close()


@pytest.mark.usefixtures("dead")
async def test_a_canceled_race_leaves_nothing(port: int) -> None:
    # The timeout ends no attempt while the test waits for its end.
    dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=60)
    with trio.move_on_after(0.7) as scope:
        await dialer.dial(named(port, *DEAD))
    assert scope.cancelled_caught
    engine = dialer._open_endpoint().engine
    assert await eventually(lambda: engine.census()["connections"] == 0)
    driver = dialer._open_endpoint().driver
    assert set(driver._waiting) == {driver._log.arrived}  # type: ignore[attr-defined]
    await dialer.close()


async def test_of_two_that_connect_at_once_one_wins_and_the_other_is_closed(port: int) -> None:
    """The second attempt starts, and this thread is blocked until both are connected."""
    far, dialer = near_transport(), near_transport()
    arrived, accepted = trio.open_memory_channel[Any](10)
    endpoint = dialer._open_endpoint()
    begun: list[Connection] = []

    async def begin(host: str) -> Connection:
        if begun:
            for each in (GOOD, "127.0.0.2"):
                await far.create_listener(arrived.send).listen(Multiaddr(f"/ip4/{each}/udp/{port}/quic-v1"))
        begun.append(endpoint.engine.connect(host, port, None))
        endpoint.engine.flush()
        deadline = trio.current_time() + 5
        while len(begun) == 2 and not all(each.connected_nowait() for each in begun):
            assert trio.current_time() < deadline
        return begun[-1]

    async def finish(host: str, attempt: Connection) -> tuple[str, Connection]:
        return host, attempt

    race = Race(endpoint.driver, begin, finish, endpoint.close_connection, (DialError,))
    host, winner = await race.run([GOOD, "127.0.0.2"])
    assert (host, winner) == (GOOD, begun[0])
    assert winner.closed_nowait() is None
    lost = begun[1].closed_nowait()
    assert lost is not None
    assert (lost.by, lost.code) == ("local", 0)
    # The peer sees one connection closed and one that stays open.
    both = [await accepted.receive() for _ in range(2)]
    assert await eventually(lambda: sum(each.is_closed for each in both) == 1)
    (closed,) = (each for each in both if each.is_closed)
    with pytest.raises(QUICConnectionClosedError) as caught:
        await closed.accept_stream()
    assert caught.value.error_code == 0
    assert await eventually(lambda: endpoint.engine.census()["connections"] == 1)
    await dialer.close()
    await far.close()


async def test_a_race_without_addresses_fails() -> None:
    endpoint = near_transport()._open_endpoint()

    async def never(*_: object) -> Connection:
        raise AssertionError("there is no attempt")

    race: Race[str, Connection, Connection] = Race(
        endpoint.driver, never, never, endpoint.close_connection, (DialError,)
    )
    with pytest.raises(AllFailedError):
        await race.run([])


@pytest.mark.parametrize(
    ("hosts", "order"),
    [
        (["10.0.0.1", "10.0.0.2", "fd00::1"], ["fd00::1", "10.0.0.1", "10.0.0.2"]),
        (["fd00::1", "fd00::2", "10.0.0.1"], ["fd00::1", "10.0.0.1", "fd00::2"]),
        (["fe80::1%2", "10.0.0.1"], ["fe80::1%2", "10.0.0.1"]),
        ([], []),
    ],
)
def test_families_take_turns_and_ipv6_is_first(hosts: Sequence[str], order: Sequence[str]) -> None:
    assert interleaved(hosts) == order


@pytest.mark.parametrize(
    ("kinds", "most_telling"),
    [
        ([HandshakeTimeoutError, UnreachableError], HandshakeTimeoutError),
        ([UnreachableError, DialError], UnreachableError),
        ([HandshakeTimeoutError, PeerIdMismatchError], PeerIdMismatchError),
        ([PeerIdMismatchError, HandshakeRefusedError], HandshakeRefusedError),
        ([DialError], DialError),
    ],
)
def test_several_causes_have_the_most_specific_class(
    kinds: list[type[DialError]], most_telling: type[DialError]
) -> None:
    causes = [kind(f"failed to dial {n}: why {n}", n) for n, kind in enumerate(kinds)]
    joint = joint_dial_error("a name", causes)
    assert type(joint) is most_telling
    assert joint.causes == tuple(causes)
    assert all(f"{n}: why {n}" in str(joint) for n in range(len(kinds)))


@pytest.mark.slow
@pytest.mark.parametrize("late", [0.5, 2.5, 5])
async def test_a_peer_that_starts_late_is_connected_within_a_second(port: int, late: float) -> None:
    async with far_host("/ip6/::1/udp/0/quic-v1") as far, near_host() as near, trio.open_nursery() as nursery:
        connected = trio.Event()
        address = Multiaddr(f"/ip4/{GOOD}/udp/{port}/quic-v1")

        async def dial() -> None:
            await near.connect(PeerInfo(far.peer_id, [address]))
            connected.set()

        nursery.start_soon(dial)
        await trio.sleep(late)  # scenario: the peer starts late
        await far.do("listen", address=str(address))
        # Attempts begin 0.8 s apart; the next probe of the first one would come 2 s after `late`, or later.
        with trio.fail_after(1.9):
            await connected.wait()
        assert connection(near, far.peer_id).get_remote_address() == (GOOD, port)


@pytest.mark.usefixtures("dead")
async def test_closing_the_transport_ends_the_race(port: int) -> None:
    dialer: QUICTransport = near_transport()
    address = named(port, *DEAD)
    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            with pytest.raises(DialError):
                await dialer.dial(address)

        nursery.start_soon(dial)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            await dialer.close()
