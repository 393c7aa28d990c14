"""Five hundred operations are canceled at random moments, by seed.

Afterwards everything works, and the descriptors, threads and tasks are the same as before.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from libp2p.abc import IHost
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.ping import PingService
from libp2p.transport.quic.exceptions import QUICError
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICStream
from testkit.cancel import cancel_soon
from testkit.census import census, eventually
from testkit.far import FarHost, far_host
from testkit.linked import linked
from testkit.near import IP4, connection, near_host, near_transport, new_stream
from testkit.payload import Drained, echoed, payload, sha256

ECHO = TProtocol("/test/echo")
PARK = TProtocol("/test/park")
COUNT = 500
OPERATIONS = ["dial", "open", "read", "write", "accept", "close"]


class Canceler:
    """Starts operations and cancels each at a moment that the seed decides."""

    def __init__(self, near: IHost, far: FarHost, seed: int) -> None:
        self.near = near
        self.far = far
        self.dice = random.Random(seed)
        self.canceled: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()

    async def dial(self) -> None:
        # A transport of its own: the host would return its existing connection.
        transport = near_transport()
        try:
            await transport.dial(self.far.info.addrs[0])
        finally:
            with trio.CancelScope(shield=True):
                await transport.close()

    async def open(self) -> None:
        stream = await new_stream(self.near, self.far.peer_id, ECHO)
        await stream.close()

    async def accept(self) -> None:
        # Nobody opens a stream here, so only a cancellation ends this.
        await connection(self.near, self.far.peer_id).accept_stream()

    async def close(self) -> None:
        stream = await self.raw()
        await stream.write(b"never a protocol")
        await stream.close()

    async def read(self) -> None:
        stream = await self.raw()
        try:
            await stream.read(1)
        finally:
            with trio.CancelScope(shield=True):
                await stream.reset(1)

    async def write(self) -> None:
        stream = await self.raw()
        try:
            await stream.write(bytes(2_000_000))
        finally:
            with trio.CancelScope(shield=True):
                await stream.reset(1)

    async def raw(self) -> QUICStream:
        return await connection(self.near, self.far.peer_id).open_stream()

    async def one(self, name: str) -> None:
        operation: Callable[[], Awaitable[None]] = getattr(self, name)
        # From before its start to well after its end.
        delay = self.dice.choice([0.0, self.dice.uniform(0, 0.002), self.dice.uniform(0, 0.02)])
        with trio.move_on_after(delay) as scope:
            try:
                await operation()
            except (BaseLibp2pError, QUICError):
                # Refused by the far host, whose operations are canceled, too.
                assert name in ("open", "read", "write", "close", "dial")
        (self.canceled if scope.cancelled_caught else self.finished)[name] += 1

    async def run(self) -> None:
        names = OPERATIONS * (COUNT // len(OPERATIONS) + 1)
        self.dice.shuffle(names)
        limit = trio.CapacityLimiter(8)

        async def limited(name: str) -> None:
            async with limit:
                await self.one(name)

        async with trio.open_nursery() as nursery:
            for name in names[:COUNT]:
                nursery.start_soon(limited, name)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_five_hundred_canceled_operations_leave_nothing(seed: int) -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        ours = connection(near, far.peer_id)
        canceler = Canceler(near, far, seed)
        # A dial, a stream of each kind: so that objects made once and kept exist before the count.
        await canceler.dial()
        await canceler.open()
        await PingService(near).ping(far.peer_id, 1)
        await trio.to_thread.run_sync(lambda: None)
        # Identify, which the host runs by itself, has ended by then.
        assert await eventually(lambda: ours.statistics().streams_open == 0)
        before = census()
        far_before = await far.census_of(connections=1)

        await canceler.run()

        assert sum(canceler.canceled.values()) + sum(canceler.finished.values()) == COUNT
        # Every operation was canceled at least once while it ran, and finished at least once.
        assert set(canceler.canceled) == set(OPERATIONS), canceler.canceled
        assert sum(canceler.finished.values()) > 20, canceler.finished

        assert connection(near, far.peer_id) is ours
        data = payload(seed, 300_000)
        stream = await new_stream(near, far.peer_id, ECHO)
        assert await echoed(stream, data) == Drained(len(data), sha256(data), "StreamEOF")
        await stream.close()
        assert len(await PingService(near).ping(far.peer_id, 3)) == 3

        assert await eventually(lambda: not census().beyond(before)), census().beyond(before)
        assert await far.left_since(far_before) == {}


async def test_canceled_read_loses_no_byte() -> None:
    data = payload(7, 200_000)
    dice = random.Random(7)
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        got = bytearray()
        canceled = 0
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await far.do("write", stream=there, seed=7, size=len(data))

            nursery.start_soon(write)
            while len(got) < len(data):
                with trio.CancelScope() as scope:
                    cancel_soon(nursery, scope, dice.randrange(5))
                    got += await stream.read(dice.randrange(1, 5000))
                canceled += scope.cancelled_caught
        assert bytes(got) == data
        assert canceled > 5


async def test_canceled_accept_loses_no_stream() -> None:
    """Between two transports without hosts, because a swarm would accept the streams itself."""
    dice = random.Random(8)
    dialer = near_transport()
    send, receive = trio.open_memory_channel[QUICConnection](1)
    listening = near_transport()
    listener = listening.create_listener(send.send)
    await listener.listen(Multiaddr(IP4))
    outgoing = await dialer.dial(listener.get_addrs()[0])
    incoming = await receive.receive()
    numbers: list[int] = []

    async def open_streams() -> None:
        for number in range(200):
            stream = await outgoing.open_stream()
            await stream.write(number.to_bytes(2, "big"))
            await stream.close_write()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_streams)
            while len(numbers) < 200:
                stream = None
                with trio.CancelScope() as scope:
                    cancel_soon(nursery, scope, dice.randrange(5))
                    stream = await incoming.accept_stream()
                if stream is not None:
                    numbers.append(int.from_bytes(await stream.read(2), "big"))
                    await stream.close()
    assert numbers == list(range(200))
    await dialer.close()
    await listening.close()


async def test_opening_canceled_at_the_limit_takes_no_stream() -> None:
    """While the peer allows no further stream, and at the moment when it does again."""
    dice = random.Random(9)
    async with linked(far={"MAX_INCOMING_STREAMS": 8}) as both:
        held = [await both.stream() for _ in range(8)]
        opened = 0
        for number in range(300):
            stream = None
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope()
                if number % 10 == 9:
                    for end in (*held.pop(0), *held.pop(0)):
                        nursery.start_soon(end.close)
                with scope:
                    # From before a stream is allowed again to long after that, and sometimes never.
                    if number % 50 != 49:
                        cancel_soon(nursery, scope, dice.choice((0, 1, 10, 100, 1000)))
                    stream = await both.dialed.open_stream()
            if stream is not None:
                opened += 1
                await stream.write(b".")
                theirs = await both.accepted.accept_stream()
                assert await theirs.read(1) == b"."
                held.append((stream, theirs))
            while len(held) < 8 and number % 10 == 9:
                # The credit of a canceled operation goes to the next one.
                with trio.fail_after(10):
                    held.append(await both.stream())
        assert opened >= 6, "those that nothing canceled"
        assert both.accepted.statistics().streams_open <= 8
        assert await eventually(lambda: both.dialed.statistics().streams_open == 8)
