"""A transfer between two far hosts through a network with faults, and mixtures of faults drawn by seed.
Reports what happened; the tests and `mixtures` decide whether it is right.
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

from testkit.census import Census
from testkit.far import FarError, FarHost, far_host
from testkit.payload import payload, sha256
from testkit.relay import Relay

PARK = "/test/park"
PATIENCE = 90.0
"""Seconds that a step of a transfer may take: long enough for the idle timeout after the
last byte. Most take a few in all."""
IDLE = 45.0
"""Seconds after which a host that receives nothing has discarded a connection: more than the idle timeout."""
OF_A_CONNECTION = ("keepers", "connections", "handshakes", "streams", "promised", "unacked")
"""Fields of `usage` that are zero in a host without connections."""


@dataclass(frozen=True)
class Network:
    """Options of the relay by their names, without dashes."""

    conditions: dict[str, str]
    seed: int = 0

    @property
    def options(self) -> list[str]:
        arguments = ["--seed", str(self.seed)]
        for name, value in self.conditions.items():
            arguments += [f"--{name}", value]
        return arguments

    def __str__(self) -> str:
        return " ".join(self.options)


# Each condition: how many of ten mixtures have it, and how it is drawn.
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
    """A mixture of faults, and the number of bytes in each direction."""
    dice = random.Random(seed)
    conditions = {name: draw(dice) for name, (share, draw) in _DRAWN.items() if dice.randrange(10) < share}
    if "rate" in conditions and dice.random() < 0.5:
        conditions["queue"] = f"{dice.randint(8, 128)}KiB"
    # An MTU that shrinks in an outage is detected too slowly: docs/reliability.md.
    if "mtu" in conditions and not {"blackout", "rebind"} & {*conditions}:
        conditions["mtu-after"] = f"{dice.randint(0, 600)}ms"
    return Network(conditions, seed), dice.randint(1, 1024 * 1024)


@dataclass
class Hosts:
    """A listener and a dialer, each in a process of its own, and their usage before the transfer."""

    listener: FarHost
    dialer: FarHost
    before: list[Census] = field(default_factory=list)

    async def left(self) -> list[dict[str, list[str]]]:
        """What they have now and had not before, after time to release it."""
        left: list[dict[str, list[str]]] = []
        with trio.move_on_after(IDLE):
            while not left or any(left):
                now = []
                for far, then in zip((self.listener, self.dialer), self.before, strict=True):
                    there = (await far.census()).beyond(then)
                    held = await far.do("usage")
                    if engine := [f"{held[each]} {each}" for each in OF_A_CONNECTION if held[each]]:
                        there["engine"] = engine
                    now.append(there)
                left = now
        return left


@asynccontextmanager
async def hosts(environment: dict[str, str] | None = None, **config: Any) -> AsyncIterator[Hosts]:
    async with (
        far_host(config=config, environment=environment) as listener,
        far_host(config=config, environment=environment) as dialer,
    ):
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
    parting: float
    """Seconds until the listener knew that the dialer had closed the connection."""

    def count(self, what: str) -> int:
        return sum(int(self.totals[direction][what]) for direction in ("to_target", "to_client"))


class Ended(Exception):
    """The transfer ended early, and the host's error is a timeout of the network, which is no defect. The
    bytes that arrived were right, and no side saw a clean end."""


@asynccontextmanager
async def _may_end() -> AsyncIterator[None]:
    try:
        yield
    except FarError as error:
        if not error.blames_the_network():
            raise
        # The innermost error has the cause.
        raise Ended(f"{error.chain[-1]['families'][0]}: {error.chain[-1]['message']}") from error


async def transfer(both: Hosts, network: Network, size: int) -> Transferred:
    """Bytes both ways at once on one stream, with their checksums compared.

    Raises Ended where the network ended it, FarError where a host failed for another reason,
    and AssertionError for wrong bytes, a clean end before the last byte, or no end in time.
    """
    listener, dialer = both.listener, both.dialer
    async with Relay.to(Multiaddr(listener.addresses[0]), *network.options) as relay:
        # After an earlier transfer it knows the listener's own address, which bypasses the relay.
        await dialer.do("forget", peer=listener.peer)
        began = time.monotonic()
        async with _may_end():
            await dialer.do("connect", PATIENCE, address=f"{relay.address}/p2p/{listener.peer}")
            ours = await dialer.do("open", PATIENCE, peer=listener.peer, protocol=PARK)
        theirs = await listener.do("arrived", PATIENCE)

        ended: list[Ended] = []

        async def send(host: FarHost, stream: int, seed: int) -> None:
            try:
                async with _may_end():
                    await host.do("write", PATIENCE, stream=stream, seed=seed, size=size)
                    await host.do("close_write", PATIENCE, stream=stream)
            except Ended as error:
                ended.append(error)

        async def receive(host: FarHost, stream: int, seed: int) -> None:
            got = await host.do("drain", PATIENCE, stream=stream)
            assert got["sha256"] == sha256(payload(seed, size)[: got["size"]]), "not what was sent"
            if got["end"] == "StreamEOF":
                assert got["size"] == size, f"a clean end after {got['size']} of {size} bytes"
                return
            try:
                async with _may_end():
                    raise FarError(got["chain"])
            except Ended as error:
                ended.append(error)

        # The end of one task cancels no other, because the bytes of each are checked.
        async with trio.open_nursery() as nursery:
            up, down = 2 * network.seed, 2 * network.seed + 1
            nursery.start_soon(send, dialer, ours, up)
            nursery.start_soon(receive, listener, theirs, up)
            nursery.start_soon(send, listener, theirs, down)
            nursery.start_soon(receive, dialer, ours, down)
        if ended:
            raise ended[0]
        seconds = time.monotonic() - began
        totals = await relay.totals()
        # Closed while the relay runs: CONNECTION_CLOSE is sent once and may be lost.
        await dialer.do("disconnect", peer=listener.peer)
        parting = time.monotonic()
        assert await listener.do("parted", PATIENCE, peer=dialer.peer, after=IDLE), "heard of no end"
        parting = time.monotonic() - parting
    assert totals["kernel_drops"] == 0, totals
    done = Transferred(seconds, totals, parting)
    assert done.count("came") > 2 * size / 1500, f"the transfer bypassed the relay: {totals}"
    return done
