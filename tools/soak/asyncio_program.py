"""An asyncio program of a soak run: an event loop in a thread of its own, whose endpoints exchange bytes with
each other and with `home`, a py-libp2p host.

It ends in one of three ways (`WAYS`). A wrong byte, a task or a wait that is left, a message to the
loop's exception handler, or an error that is not part of the scenario, is a failure.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

from libp2p_quic._driver._asyncio import current
from libp2p_quic.asyncio import (
    Connection,
    Endpoint,
    EndpointConfig,
    Identity,
    Stream,
    StreamReset,
    reader_writer,
)
from testkit.asyncio_ends import LOOPBACK
from testkit.host import ECHO
from testkit.loops import run
from testkit.payload import MIB, payload

FICKLE = "/soak/fickle"
"""Its handler reads a little, then resets the stream."""

CLOSED, CANCELED, LEFT_OPEN = WAYS = ("closed", "canceled", "left open")
"""All is closed in order; every task is canceled at a random moment, and then all is closed; the main
function returns at a random moment, and `asyncio.run` ends the rest."""

CONFIG = EndpointConfig(idle_timeout=3.0, keep_alive_interval=0.5)
_PATIENCE = 15.0
_MOST = MIB
"""Bytes of an exchange."""
_STREAMS = 24
"""At once on a connection, at most."""


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


async def fickle(stream: Stream) -> None:
    await stream.read(1000)
    stream.reset()


HANDLERS = {ECHO: echo, FICKLE: fickle}


class AsyncioProgram:
    """``home`` is the address of a host that serves ECHO and FICKLE, ``key`` the Ed25519 secret with which
    it is dialed, and ``way`` one of WAYS."""

    patience = _PATIENCE
    """Seconds until tasks that end by themselves have ended."""

    def __init__(self, home: str, key: bytes, seed: int, way: str) -> None:
        self.done: Counter[str] = Counter()
        """How many bytes, and how often each kind of stream."""
        self._home = home
        self._key = key
        self._dice = random.Random(seed)
        self._way = way
        self._complaints: list[str] = []

    def run(self, loop: str) -> Counter[str]:
        """Run on "asyncio" or "uvloop", and block until the loop has ended. Returns what was done."""
        run(loop, self._main())
        assert not self._complaints, "; ".join(self._complaints)
        return self.done

    async def _main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._complain)
        near = Endpoint(Identity.from_secret("ed25519", self._key), CONFIG)
        far = Endpoint(Identity.generate(), CONFIG)
        listener = await far.listen(LOOPBACK)
        own = f"{listener.address}/p2p/{far.peer_id}"
        serving = asyncio.ensure_future(listener.serve(HANDLERS))
        # A host of py-libp2p keeps few connections to one peer.
        peers = [self._home, *[own] * self._dice.randint(0, 2)]
        working = [asyncio.ensure_future(self._work(near, peer)) for peer in peers]
        if self._way == CLOSED:
            await asyncio.wait_for(asyncio.gather(*working), _PATIENCE)
        else:
            await asyncio.sleep(self._dice.random())  # scenario: a random moment
        self._check([task for task in working if task.done()])
        if self._way == LEFT_OPEN:
            return
        for task in working:
            task.cancel()
        await asyncio.wait(working, timeout=_PATIENCE)
        self._check(working)
        listener.close()
        await near.close()
        await far.close()
        await asyncio.wait_for(serving, _PATIENCE)
        await self._check_nothing_is_left()

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._complaints.append(f"{context['message']}: {context.get('exception')!r}")

    def _check(self, tasks: list[asyncio.Task[None]]) -> None:
        """Raise what a task raised. Canceled ones have done nothing wrong."""
        for task in tasks:
            assert task.done(), "a canceled task goes on"
            if not task.cancelled():
                task.result()

    async def _check_nothing_is_left(self) -> None:
        # Servers of connections that a canceled task closed end by themselves.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, late = await asyncio.wait(others, timeout=self.patience)
            assert not late, f"a task is left: {late}"
        assert current()._waiting == {}, "a wait is left"

    # Connections and streams

    async def _work(self, near: Endpoint, address: str) -> None:
        if self._dice.random() < 0.2:
            await self._dial_for_a_moment(near, address)
            return
        connection = await near.connect(address)
        serving = asyncio.ensure_future(connection.serve(HANDLERS))
        try:
            kinds = (self._exchange, self._exchange, self._exchange_canceled, self._lines, self._reset)
            count = self._dice.randint(1, _STREAMS)
            await asyncio.gather(*(self._dice.choice(kinds)(connection) for _ in range(count)))
        finally:
            connection.close()
        await connection.closed()
        await serving

    async def _dial_for_a_moment(self, near: Endpoint, address: str) -> None:
        try:
            connection = await asyncio.wait_for(near.connect(address), self._dice.random() * 0.02)
        except asyncio.TimeoutError:
            self.done["dials canceled"] += 1
        else:
            connection.close()

    async def _exchange(self, connection: Connection) -> None:
        # Sizes over all magnitudes.
        data = payload(self._dice.getrandbits(32), int(_MOST ** self._dice.random()))

        async def send() -> None:
            await stream.write(data)
            stream.finish()

        async with await connection.open_stream(ECHO) as stream:
            _, got = await asyncio.gather(send(), stream.read_to_end(len(data)))
        assert got == data, "other bytes came back"
        self.done["exchanges"] += 1
        self.done["bytes"] += 2 * len(data)

    async def _exchange_canceled(self, connection: Connection) -> None:
        # Moments over all magnitudes: some exchanges take a millisecond.
        moment = self._dice.choice((0.001, 0.01, 0.1)) * self._dice.random()
        try:
            await asyncio.wait_for(self._exchange(connection), moment)
        except asyncio.TimeoutError:
            self.done["exchanges canceled"] += 1

    async def _lines(self, connection: Connection) -> None:
        """By asyncio's own reader and writer."""
        reader, writer = reader_writer(await connection.open_stream(ECHO))
        try:
            for _ in range(self._dice.randint(1, 20)):
                line = b"%d\n" % self._dice.getrandbits(64)
                writer.write(line)
                await writer.drain()
                assert await reader.readline() == line, "another line came back"
        finally:
            writer.close()
        await writer.wait_closed()
        self.done["lines"] += 1

    async def _reset(self, connection: Connection) -> None:
        async with await connection.open_stream(FICKLE) as stream:
            # A reset overtakes the answer to the proposal.
            await stream.negotiated()
            try:
                await stream.write(bytes(2000))
                await stream.read_to_end()
            except StreamReset:
                self.done["resets"] += 1
            else:
                raise AssertionError("a stream that the peer reset ended cleanly")
