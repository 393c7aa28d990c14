"""A host alternates between listening and not: it listens, closes the listener, listens on the same port
or another, while it dials and is dialed. Connections of earlier rounds stay open. No port stays in use,
and nothing is left.
"""

from __future__ import annotations

import random
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICListener, QUICTransport
from libp2p_quic.exceptions import DialError, ListenError, StreamEOF
from testkit.census import eventually
from testkit.names import free_port
from testkit.near import IP4, near_host, near_transport, transport_of
from tools.soak.run import shown
from tools.soak.trial import Trial, Usages, Watch

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # type: ignore[import-not-found, unused-ignore]

_LIVING = 6
"""The number of connections of earlier rounds that stay open."""
_PATIENCE = 10.0
_PORTS = 4


@dataclass(frozen=True)
class Plan:
    rounds: int
    seed: int = 0


@dataclass
class _Open:
    """A connection with both its ends."""

    dialed: QUICConnection
    accepted: QUICConnection


@dataclass
class _Alternation:
    trial: Trial
    host: IHost
    """The transport that alternates."""
    stays: Multiaddr
    """The address of another transport that always listens."""
    dice: random.Random
    dialer: QUICTransport
    """The ends of the connections that stay open."""
    others: list[QUICTransport]
    living: deque[_Open] = field(default_factory=deque)
    ports: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.transport = transport_of(self.host)
        self._arrived, self._arrivals = trio.open_memory_channel[QUICConnection](1000)

    async def listen(self) -> QUICListener:
        """Listen on an earlier port or a new one; sometimes canceled once before."""
        port = self.dice.choice([free_port(), *self.ports[-_PORTS:]])
        address = Multiaddr(f"/ip4/127.0.0.1/udp/{port}/quic-v1")
        if self.dice.random() < 0.2:
            canceled = self.transport.create_listener(self._arrived.send)
            with trio.CancelScope() as scope:
                scope.cancel()
                await canceled.listen(address)
            if canceled.is_listening():
                self.trial.failures.append("a canceled listen call has opened a listener")
        listener = self.transport.create_listener(self._arrived.send)
        await listener.listen(address)
        is_new = port not in self.ports
        if is_new:
            self.ports.append(port)
        self.trial.counts["listened on a new port" if is_new else "listened on a port again"] += 1
        return listener

    async def dial_in(self, listener: QUICListener) -> None:
        """The connection joins the list of open ones."""
        (address,) = listener.get_addrs()
        dialed = await self.dialer.dial(address)
        # The others are from `dial_at_the_switch` and close by themselves.
        while (accepted := await self._arrivals.receive()).peer_id != self.dialer._peer_id:
            await accepted.close()
        self.living.append(_Open(dialed, accepted))
        self.trial.counts["dialed in"] += 1

    async def dial_at_the_switch(self, listener: QUICListener) -> None:
        """Dial while the listener closes: the connection works or is refused."""
        (address,) = listener.get_addrs()
        with trio.move_on_after(self.dice.uniform(0, 0.02)):  # scenario: a random moment
            try:
                dialed = await self.dice.choice(self.others).dial(address)
                await dialed.close()
                self.trial.counts["connected at a switch"] += 1
            except DialError:
                self.trial.counts["refused at a switch"] += 1

    async def dial_out(self) -> None:
        dialed = await self.transport.dial(self.stays)
        await dialed.close()
        self.trial.counts["dialed out"] += 1

    async def speak(self, living: _Open) -> None:
        data = self.dice.randbytes(self.dice.randint(1, 20_000))
        stream = await living.dialed.open_stream()
        await stream.write(data)
        await stream.close()
        theirs = await living.accepted.accept_stream()
        got = b""
        with suppress(StreamEOF):
            while True:
                got += await theirs.read(len(data))
        await theirs.close()
        if got != data:
            self.trial.failures.append(f"{len(got)} bytes of {len(data)} on a connection that stayed open")
        self.trial.counts["echoed on one that stayed open"] += 1

    async def let_go(self) -> None:
        """The oldest connection is closed by either side; a port without connections is free again."""
        gone = self.living.popleft()
        first, second = (gone.dialed, gone.accepted)
        if self.dice.random() < 0.5:
            first, second = second, first
        await first.close()
        await second.close()

    async def round(self) -> None:
        listener = await self.listen()
        await self.dial_in(listener)
        async with trio.open_nursery() as nursery:
            for _ in range(self.dice.randint(0, 3)):
                nursery.start_soon(self.dial_at_the_switch, listener)
            if self.dice.random() < 0.5:
                nursery.start_soon(self.dial_out)
            await self.dial_in(listener)
            # scenario: the dials above are at any moment of their handshakes
            await trio.sleep(self.dice.uniform(0, 0.01))
            await listener.close()
            nursery.start_soon(self.dial_out)
        # A connection accepted at the switch has no owner, and its dialer has closed it.
        while self._arrivals.statistics().current_buffer_used:
            await (await self._arrivals.receive()).close()
        await self.speak(self.dice.choice(self.living))
        while len(self.living) > _LIVING:
            await self.let_go()

    async def end(self) -> None:
        while self.living:
            await self.let_go()
        for port in self.ports:
            if not await eventually(lambda port=port: _is_free(port), _PATIENCE):  # type: ignore[misc]
                self.trial.failures.append(f"port {port} is still in use")


async def _ignore(accepted: QUICConnection) -> None:
    """A handler that does nothing."""


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attempt:
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def relisten(plan: Plan, watch: Watch) -> Trial:
    trial = Trial("listening and not", plan.rounds, "rounds")
    async with near_host() as host:
        stays = near_transport()
        listener = stays.create_listener(_ignore)
        await listener.listen(Multiaddr(IP4))
        dialers = [near_transport() for _ in range(3)]
        dialer, *others = dialers
        run = _Alternation(trial, host, listener.get_addrs()[0], random.Random(plan.seed), dialer, others)
        await run.dial_out()
        for dialer in dialers:
            await (await dialer.dial(listener.get_addrs()[0])).close()
        usages = Usages({"home": host}, {})
        before = await usages.idle()
        try:
            while trial.done < plan.rounds:
                with trio.fail_after(_PATIENCE):
                    await run.round()
                trial.done += 1
                watch(trial)
        except (DialError, ListenError, trio.TooSlowError, ExceptionGroup) as error:
            # A dial that fails in the nursery of a round comes as a group.
            trial.failures.append(f"in round {trial.done}: {shown(error)}")
        trial.figures["rate"] = f"{trial.done / trial.seconds:.0f} rounds/s"
        await run.end()
        more, after = await usages.grown(before, 25)
        trial.failures += more
        for process, kinds in after.items():
            then = before[process]
            trial.figures[process] = ", ".join(
                f"{kind} {then[kind]} and {kinds[kind]}" for kind in ("descriptors", "threads", "tasks")
            )
        for each in (stays, *dialers):
            await each.close()
    return trial
