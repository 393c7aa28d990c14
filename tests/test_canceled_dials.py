"""A dial that the program's own time limit ends keeps its cause: in the log, and in `last_failure`.

Real sockets, on trio and on asyncio. The errors of dials that end by themselves are in test_failed_dials.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic.asyncio
from libp2p_quic import DialError, HandshakeTimeoutError, PeerIdMismatchError, QUICTransport
from libp2p_quic._dial_progress import DialProgress
from libp2p_quic._last_failures import LastFailures
from libp2p_quic._peer_dial import dial_all_addresses
from libp2p_quic.asyncio import EndpointConfig
from testkit.asyncio_ends import ends
from testkit.cancel import cancel_soon
from testkit.census import PATIENCE, eventually
from testkit.linked import listening
from testkit.names import Names, free_port
from testkit.near import near_host, near_transport, swarm, transport_of

OTHER = ID.from_pubkey(create_new_key_pair().public_key)
UNANSWERED = r"the peer did not answer within \d+\.\d s \([1-9]\d* datagrams sent, 0 received\)"
CLOSED_PORT = (
    r"; port unreachable: nothing listens there, or a firewall rejects it \(ECONNREFUSED\), (once|\d+ times)"
)
NAME = "/dns4/node.test/udp/4001/quic-v1"


@pytest.fixture(autouse=True)
def at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A socket that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound


def address_of(bound: socket.socket) -> str:
    return f"/ip4/127.0.0.1/udp/{bound.getsockname()[1]}/quic-v1"


def closed_port() -> str:
    return f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == f"libp2p_quic.{name}"]


async def canceled_when_it_arrives(bound: socket.socket, dial: Callable[[], Awaitable[object]]) -> None:
    """Dial, and cancel it once ``bound`` has a third datagram of it.

    The first flight has two, and may arrive before the engine has counted it.
    """
    async with trio.open_nursery() as nursery:

        async def cancel() -> None:
            for _ in range(3):
                await trio.lowlevel.wait_readable(bound.fileno())
                bound.recv(2048)
            scope.cancel()

        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            await dial()
        assert scope.cancelled_caught


async def told(transport: QUICTransport, address: str, limited: Callable[[float], Awaitable[object]]) -> str:
    """Call ``limited`` with longer and longer limits, until the failure has an ICMP message."""
    for attempt in count():
        assert 0.1 * 2**attempt < PATIENCE
        with pytest.raises(trio.TooSlowError):
            await limited(0.1 * 2**attempt)
        failure = transport.last_failure(Multiaddr(address))
        if failure is None or "before its first datagram was sent" in str(failure):
            continue
        assert type(failure) is HandshakeTimeoutError
        if "ECONNREFUSED" in str(failure):
            break
    return str(failure)


# trio


async def test_a_canceled_dial_says_what_came_of_it(
    silent: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    address, dialer = address_of(silent), near_transport()
    assert dialer.last_failure(Multiaddr(address)) is None
    await canceled_when_it_arrives(silent, partial(dialer.dial, Multiaddr(f"{address}/p2p/{OTHER}")))
    failure = dialer.last_failure(Multiaddr(address))
    assert type(failure) is HandshakeTimeoutError
    expected = f"failed to dial {re.escape(address)}/p2p/{OTHER}: canceled by this program: {UNANSWERED}"
    assert re.fullmatch(expected, str(failure))
    assert lines(caplog, "transport") == [str(failure)]
    await dialer.close()


async def test_a_time_limit_around_a_dial_to_a_closed_port() -> None:
    address, dialer = closed_port(), near_transport()

    async def limited(seconds: float) -> None:
        with trio.fail_after(seconds):
            await dialer.dial(Multiaddr(address))

    text = await told(dialer, address, limited)
    expected = f"failed to dial {address}: canceled by this program: {UNANSWERED}{CLOSED_PORT}"
    assert re.fullmatch(expected, text)
    await dialer.close()


def connect(host: IHost, addresses: list[str]) -> Callable[[float], Awaitable[None]]:
    async def limited(seconds: float) -> None:
        with trio.fail_after(seconds):
            await host.connect(PeerInfo(OTHER, [Multiaddr(each) for each in addresses]))

    return limited


async def test_a_time_limit_around_the_connect_of_a_host() -> None:
    address = closed_port()
    async with near_host() as host:
        text = await told(transport_of(host), address, connect(host, [address]))
    assert re.search(f"{address}/p2p/{OTHER}: canceled by this program: {UNANSWERED}{CLOSED_PORT}$", text)


async def test_a_time_limit_around_a_connect_to_several_addresses(silent: socket.socket) -> None:
    closed = closed_port()
    async with near_host() as host:
        undo = dial_all_addresses(swarm(host), transport_of(host))
        text = await told(transport_of(host), closed, connect(host, [closed, address_of(silent)]))
        undo()
        assert str(transport_of(host).last_failure(Multiaddr(address_of(silent)))) == text
    assert text.startswith("failed to dial 2 addresses: canceled by this program: ")
    assert re.search(f"{closed}/p2p/{OTHER}: {UNANSWERED}{CLOSED_PORT}", text)


async def test_a_gate_that_is_too_slow_for_the_limit() -> None:
    asked = trio.Event()

    async def gate(_peer: ID, _address: Multiaddr) -> bool:
        asked.set()
        await trio.sleep_forever()
        raise AssertionError

    async with listening() as (listener, _):
        (address,), dialer = listener.get_addrs(), near_transport(gate_peer=gate)
        async with trio.open_nursery() as nursery:

            async def cancel() -> None:
                await asked.wait()
                scope.cancel()

            nursery.start_soon(cancel)
            with trio.CancelScope() as scope:
                await dialer.dial(address)
        failure = dialer.last_failure(address)
        assert type(failure) is DialError
        assert str(failure).endswith(
            "canceled by this program: the handshake was complete, and a gate had not decided"
        )
        await dialer.close()


class Never(trio.abc.HostnameResolver):
    def __init__(self) -> None:
        self.asked = trio.Event()

    async def getaddrinfo(self, *_rest: Any, **_more: Any) -> Any:
        self.asked.set()
        await trio.sleep_forever()

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


async def test_a_name_that_is_not_resolved_within_the_limit() -> None:
    names, dialer = Never(), near_transport()
    trio.socket.set_custom_hostname_resolver(names)
    async with trio.open_nursery() as nursery:

        async def cancel() -> None:
            await names.asked.wait()
            scope.cancel()

        nursery.start_soon(cancel)
        with trio.CancelScope() as scope:
            await dialer.dial(Multiaddr(NAME))
    expected = "canceled by this program before its first datagram was sent while its name was resolved"
    assert str(dialer.last_failure(Multiaddr(NAME))) == f"failed to dial {NAME}: {expected}"
    await dialer.close()


async def test_a_dial_canceled_in_any_pass_has_a_failure(silent: socket.socket) -> None:
    dialer, address = near_transport(), Multiaddr(address_of(silent))
    async with trio.open_nursery() as nursery:
        for passes in range(6):
            with trio.CancelScope() as scope:
                cancel_soon(nursery, scope, passes)
                await dialer.dial(address)
            assert scope.cancelled_caught
            text = str(dialer.last_failure(address))
            assert text.startswith(f"failed to dial {address}: canceled by this program")
            assert "None" not in text
    await dialer.close()


async def test_the_last_failure_is_that_of_the_last_dial() -> None:
    async with listening() as (listener, connections):
        (address,), dialer = listener.get_addrs(), near_transport()
        with pytest.raises(PeerIdMismatchError) as caught:
            await dialer.dial(Multiaddr(f"{address}/p2p/{OTHER}"))
        failure = dialer.last_failure(address)
        assert type(failure) is PeerIdMismatchError
        assert (str(failure), failure.error_code) == (str(caught.value), 0x12E)
        # Its frames would keep the objects of the dial alive.
        assert failure.__traceback__ is None
        assert dialer.last_failure(address) is not failure
        await dialer.dial(address)
        await connections.receive()
        assert dialer.last_failure(address) is None
        await dialer.close()


def test_the_number_of_failures_is_limited() -> None:
    failures: LastFailures[libp2p_quic.asyncio.DialError] = LastFailures()
    for address in range(1000):
        failures.record([address], libp2p_quic.asyncio.DialError(f"no answer from {address}"))
    assert len(failures) == 256
    assert failures.get(743) is None
    assert str(failures.get(744)) == "no answer from 744"


class SilentNames(Names):
    """No name has an answer; literals have theirs."""

    async def getaddrinfo(self, host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if "test" in str(host):
            await trio.sleep_forever()
        return await super().getaddrinfo(host, port, *rest, **more)


async def test_a_cancellation_in_the_moment_of_success_leaves_no_connection_without_an_owner() -> None:
    """The lookup of another address has to end before the dial returns."""
    trio.socket.set_custom_hostname_resolver(SilentNames())
    async with listening() as (listener, _):
        dialer = near_transport()

        class Canceling(DialProgress):
            def connected(self, way: object) -> None:
                super().connected(way)
                outer.cancel()

        dialed = None
        with trio.CancelScope() as outer:
            addresses = [listener.get_addrs()[0], Multiaddr(NAME)]
            dialed = await dialer._dialer.dial_any(addresses, progress=Canceling("both"))
        assert outer.cancel_called
        if dialed is not None:
            await dialed.close()
        assert await eventually(lambda: dialer.statistics().connections_open == 0)
        await dialer.close()


# asyncio


def test_a_timeout_of_asyncio_has_the_cause_of_the_dial(
    silent: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    address = address_of(silent)

    async def main() -> BaseException:
        loop = asyncio.get_running_loop()
        async with ends() as both:
            assert both.near.last_failure(address) is None
            arrived: asyncio.Queue[bytes] = asyncio.Queue()
            loop.add_reader(silent, lambda: arrived.put_nowait(silent.recv(2048)))
            dialing = asyncio.ensure_future(both.near.connect(f"{address}/p2p/{both.far.peer_id}"))
            # The first flight has two, and may arrive before the engine has counted it.
            for _ in range(3):
                await arrived.get()
            loop.remove_reader(silent)
            with pytest.raises(asyncio.TimeoutError) as caught:
                await asyncio.wait_for(dialing, 0)
            failure = both.near.last_failure(address)
            assert type(failure) is libp2p_quic.asyncio.HandshakeTimeoutError
            expected = f"failed to dial {re.escape(address)}/p2p/{both.far.peer_id}: canceled by this program"
            assert re.fullmatch(f"{expected}: {UNANSWERED}", str(failure))
            assert str(failure) in lines(caplog, "endpoint")
            assert str(failure) in [str(each) for each in chain(caught.value)]
        return caught.value

    asyncio.run(main())


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """What a traceback of ``error`` shows."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_an_endpoints_last_failure_is_that_of_the_last_dial() -> None:
    async def main() -> None:
        async with ends() as both:
            address = both.listener.address
            with pytest.raises(libp2p_quic.asyncio.PeerIdMismatchError) as caught:
                await both.near.connect(f"{address}/p2p/{OTHER}")
            assert str(both.near.last_failure(address)) == str(caught.value)
            await both.connected()
            assert both.near.last_failure(address) is None

    asyncio.run(main())


def test_a_gate_of_an_endpoint_that_is_too_slow_for_the_limit() -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def gate(_peer: object, _address: str) -> bool:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with ends(EndpointConfig(gate_peer=gate)) as both:
            dialing = asyncio.ensure_future(both.near.connect(both.address))
            await asked.wait()
            dialing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialing
            assert str(both.near.last_failure(both.address)) == (
                f"failed to dial {both.address}: canceled by this program: "
                "the handshake was complete, and a gate had not decided"
            )

    asyncio.run(main())
