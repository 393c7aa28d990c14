"""Many concurrent dials are canceled at random moments: to a listener, to an unused port, and to a socket
that never answers. Afterwards neither side has anything left, and the listener accepts within a second.
"""

from __future__ import annotations

import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport
from libp2p_quic._connection import LIMIT_REACHED
from libp2p_quic.exceptions import DialError
from testkit.far import FarHost, far_host
from testkit.near import IP4, answers, near_host, near_transport, transport_of
from tools.soak.trial import Trial, Usages, Watch

LIVE, DEAD, HOLE = "a live listener", "a dead port", "a black hole"
TARGETS = (LIVE, DEAD, HOLE)
WAYS = {"shared": 60, "bare": 20, "fresh": 10, "swarm": 8, "name": 2}
"""How many of a hundred dials use each method of `_Dials`."""

_LATEST = 0.03
"""The longest time in seconds until a cancellation; a handshake takes a tenth of it."""
_SERVES = 1.0
_RELEASE = 25.0
"""Seconds to release everything: a closing period is at most 10 s, as long as trio keeps idle threads."""
_DATAGRAMS = 10
"""Datagrams that the listener may receive for a dial on average. A complete connection takes about 12."""
_TELL_EVERY = 200


@dataclass(frozen=True)
class Plan:
    target: str
    count: int
    seed: int = 0
    at_once: int = 100


@dataclass
class _Dials:
    plan: Plan
    trial: Trial
    near: IHost
    """A host that listens, so that its dials leave from its listening socket."""
    bare: QUICTransport
    to: Multiaddr
    peer: ID
    dice: random.Random
    others: list[IHost] = field(default_factory=list)
    """A host that does not listen and dials through its swarm."""
    keys: list[bytes] = field(default_factory=lambda: [bytes([number]) * 32 for number in range(1, 17)])

    async def shared(self) -> None:
        # A cancellation inside of this cancels a close.
        await (await transport_of(self.near).dial(self.to)).close()

    async def bare_one(self) -> None:
        await (await self.bare.dial(self.to)).close()

    async def fresh(self) -> None:
        """A transport and its socket for this dial only."""
        transport = QUICTransport(create_new_key_pair(self.dice.choice(self.keys)).private_key)
        try:
            await transport.dial(self.to)
        finally:
            with trio.CancelScope(shield=True):
                await transport.close()

    async def swarm(self) -> None:
        (other,) = self.others
        await other.connect(PeerInfo(self.peer, [self.to]))
        await other.disconnect(self.peer)

    async def name(self) -> None:
        """Sometimes canceled while the name is resolved."""
        port = self.to.value_for_protocol("udp")
        host = "localhost" if self.plan.target != HOLE else "127.0.0.66"
        await (await self.bare.dial(Multiaddr(f"/dns4/{host}/udp/{port}/quic-v1"))).close()

    async def one(self) -> None:
        (way,) = self.dice.choices([*WAYS], [*WAYS.values()])
        dial: Callable[[], Awaitable[None]] = getattr(self, "bare_one" if way == "bare" else way)
        with trio.move_on_after(self.dice.uniform(0, _LATEST)) as moment:
            try:
                await dial()
                self.trial.counts["connected"] += 1
            except (DialError, BaseLibp2pError) as error:
                self.trial.counts["refused"] += 1
                # The listener's swarm accepts eight connections of one peer, and the others are closed
                # with 0x1001 or 0; at a listener no other failure of a dial is right.
                is_surplus = getattr(error, "error_code", None) in (0, LIMIT_REACHED)
                if self.plan.target == LIVE and not is_surplus:
                    self.trial.failures.append(f"{way}: {type(error).__name__}: {error}")
        self.trial.counts["canceled"] += moment.cancelled_caught

    async def run(self, count: int, watch: Watch) -> None:
        left = count

        async def dialer() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.one()
                self.trial.done += 1
                if self.trial.done % _TELL_EVERY == 0:
                    watch(self.trial)

        # Closed before the end, because its swarm connects to known peers at any time.
        async with near_host() as other:
            self.others.append(other)
            async with trio.open_nursery() as nursery:
                for _ in range(self.plan.at_once):
                    nursery.start_soon(dialer)
            self.others.remove(other)


@asynccontextmanager
async def _target(kind: str, far: FarHost) -> AsyncIterator[Multiaddr]:
    if kind == LIVE:
        yield Multiaddr(far.addresses[0].split("/p2p/")[0])
        return
    ip = "127.0.0.66" if kind == HOLE else "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind((ip, 0))
        port = hole.getsockname()[1]
        if kind == DEAD:
            hole.close()
        yield Multiaddr(f"/ip4/{ip}/udp/{port}/quic-v1")


async def dials(plan: Plan, watch: Watch) -> Trial:
    """Failures are recorded in the trial, and not raised."""
    trial = Trial(f"canceled dials at {plan.target}", plan.count, "dials")
    async with (
        far_host() as far,
        near_host(IP4) as near,
        _target(plan.target, far) as to,
    ):
        bare = near_transport()
        dice = random.Random(plan.seed)
        nobody = ID.from_pubkey(create_new_key_pair(bytes(32)).public_key)
        peer = far.peer_id if plan.target == LIVE else nobody
        all_dials = _Dials(plan, trial, near, bare, to, peer, dice)
        # First, so that objects made once and kept exist before the measurement.
        await all_dials.run(plan.count // 10, watch)
        usages = Usages({"dialer": near}, {"listener": far})
        before = await usages.idle()
        heard = await far.do("received")

        began = trio.current_time()
        await all_dials.run(plan.count - plan.count // 10, watch)
        took = trio.current_time() - began
        trial.figures["rate"] = f"{(plan.count - plan.count // 10) / took:.0f}/s, {plan.at_once} at once"
        await _serves(trial, far, near)
        each = (await far.do("received") - heard) / (plan.count - plan.count // 10)
        trial.figures["datagrams at the listener for each dial"] = f"{each:.1f}"
        if each > _DATAGRAMS:
            trial.failures.append(f"{each:.1f} datagrams arrived at the listener for each dial")
        more, after = await usages.grown(before, _RELEASE)
        trial.failures += more
        watch(trial)
        for process, kinds in after.items():
            then = before[process]
            trial.figures[process] = (
                f"descriptors {then['descriptors']} and {kinds['descriptors']}, threads {then['threads']} "
                f"and {kinds['threads']}, tasks {then['tasks']} and {kinds['tasks']}, connections "
                f"{then['connections']} and {kinds['connections']}, allocated "
                f"{then['allocated'] / 2**20:.1f} and {kinds['allocated'] / 2**20:.1f} MiB"
            )
        await bare.close()
    return trial


async def _serves(trial: Trial, far: FarHost, near: IHost) -> None:
    """Both listeners accept a new peer within a second of the last cancellation."""
    addresses = {"the listener": (Multiaddr(far.addresses[0].split("/p2p/")[0]), far.peer_id)}
    addresses["the dialer's own listener"] = (near.get_addrs()[0], near.get_id())
    for name, (address, peer) in addresses.items():
        began = trio.current_time()
        with trio.move_on_after(10):
            if not await answers(address, peer):
                trial.failures.append(f"another peer than {name} answered")
        took = trio.current_time() - began
        trial.figures[f"{name} accepts again after"] = f"{1000 * took:.0f} ms"
        if took > _SERVES:
            trial.failures.append(f"{name} accepted only after {took:.1f} s")
