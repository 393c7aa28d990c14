"""A transfer between two far hosts through a network that misbehaves, and mixtures of what a
network can do, drawn by seed. Says what happened; the tests and `mixtures` judge.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio
from multiaddr import Multiaddr

from peers.census import Census
from peers.far import FarHost, far_host
from peers.payload import payload, sha256
from peers.relay import Relay

PARK = "/test/park"
PATIENCE = 60.0
"""Seconds that a transfer may take; the smaller ones here take a few."""


@dataclass(frozen=True)
class Network:
    """Options of the relay by their names, without dashes."""

    conditions: dict[str, str]
    seed: int = 0

    @property
    def options(self) -> list[str]:
        words = ["--seed", str(self.seed)]
        for name, value in self.conditions.items():
            words += [f"--{name}", value]
        return words

    def __str__(self) -> str:
        return " ".join(self.options)


# Each condition: in how many mixtures of ten it is, and how it is drawn.
_DRAWN: dict[str, tuple[int, Callable[[random.Random], str]]] = {
    "delay": (8, lambda dice: f"{dice.randint(1, 40)}ms"),
    "jitter": (4, lambda dice: f"{dice.randint(100, 8000)}us"),
    "loss": (5, lambda dice: f"{dice.uniform(0.1, 5):.1f}%"),
    "duplicate": (4, lambda dice: f"{dice.uniform(0.1, 10):.1f}%"),
    "corrupt": (4, lambda dice: f"{dice.uniform(0.1, 3):.1f}%"),
    "reorder": (4, lambda dice: f"{dice.uniform(0.1, 10):.1f}%"),
    "rate": (4, lambda dice: f"{dice.randint(5, 100)}Mbit/s"),
    "mtu": (4, lambda dice: f"{dice.randint(1200, 1450)}"),
    "blackout": (3, lambda dice: f"{dice.randint(0, 600)}ms+{dice.randint(50, 2500)}ms"),
    "rebind": (4, lambda dice: f"{dice.randint(100, 1000)}ms"),
}


def drawn(seed: int) -> tuple[Network, int]:
    """A mixture, and how many bytes go each way."""
    dice = random.Random(seed)
    conditions = {name: draw(dice) for name, (share, draw) in _DRAWN.items() if dice.randrange(10) < share}
    if "rate" in conditions and dice.random() < 0.5:
        conditions["queue"] = f"{dice.randint(8, 128)}KiB"
    # What shrinks in an outage is found out too slowly: docs/reliability.md.
    if "mtu" in conditions and not {"blackout", "rebind"} & {*conditions}:
        conditions["mtu-after"] = f"{dice.randint(0, 600)}ms"
    return Network(conditions, seed), dice.randint(1, 1024 * 1024)


@dataclass
class Hosts:
    """A listener and a dialer, each in a process of its own, and what they had at first."""

    listener: FarHost
    dialer: FarHost
    before: list[Census] = field(default_factory=list)

    async def left(self, within: float = 10) -> list[dict[str, list[str]]]:
        """What they have now and had not at first, once it had time to go."""
        left: list[dict[str, list[str]]] = []
        with trio.move_on_after(within):
            while not left or any(left):
                now = [await each.census() for each in (self.listener, self.dialer)]
                left = [there.beyond(then) for there, then in zip(now, self.before, strict=True)]
        return left


@asynccontextmanager
async def hosts(**config: Any) -> AsyncIterator[Hosts]:
    async with far_host(config=config) as listener, far_host(config=config) as dialer:
        both = Hosts(listener, dialer)
        both.before = [await listener.census(), await dialer.census()]
        yield both
        await dialer.leave()
        await listener.leave()


@dataclass(frozen=True)
class Transferred:
    seconds: float
    totals: dict[str, Any]
    """The relay's own count of datagrams."""

    def count(self, what: str) -> int:
        return sum(int(self.totals[direction][what]) for direction in ("to_target", "to_client"))


async def transfer(both: Hosts, network: Network, size: int) -> Transferred:
    """Bytes both ways at once on one stream, with their checksums compared. Raises
    AssertionError where they differ or do not come in time, FarError where a host failed."""
    listener, dialer = both.listener, both.dialer
    async with Relay.to(Multiaddr(listener.addresses[0]), *network.options) as relay:
        # Of an earlier transfer it knows the listener's own address, which leads past the relay.
        await dialer.do("forget", peer=listener.peer)
        began = time.monotonic()
        await dialer.do("connect", PATIENCE, address=f"{relay.address}/p2p/{listener.peer}")
        ours = await dialer.do("open", PATIENCE, peer=listener.peer, protocol=PARK)
        theirs = await listener.do("arrived", PATIENCE)

        async def send(host: FarHost, stream: int, seed: int) -> None:
            await host.do("write", PATIENCE, stream=stream, seed=seed, size=size)
            await host.do("close_write", PATIENCE, stream=stream)

        async def receive(host: FarHost, stream: int, seed: int) -> None:
            got = await host.do("drain", PATIENCE, stream=stream)
            wanted = (size, sha256(payload(seed, size)), "StreamEOF")
            assert (got["size"], got["sha256"], got["end"]) == wanted, got

        async with trio.open_nursery() as nursery:
            up, down = 2 * network.seed, 2 * network.seed + 1
            nursery.start_soon(send, dialer, ours, up)
            nursery.start_soon(receive, listener, theirs, up)
            nursery.start_soon(send, listener, theirs, down)
            nursery.start_soon(receive, dialer, ours, down)
        seconds = time.monotonic() - began
        totals = await relay.totals()
        # While the relay is there to carry the goodbye.
        await dialer.do("disconnect", peer=listener.peer)
        assert await listener.do("parted", peer=dialer.peer), "the listener heard of no end"
    assert totals["kernel_drops"] == 0, totals
    done = Transferred(seconds, totals)
    assert done.count("came") > 2 * size / 1500, f"it went past the relay: {totals}"
    return done
