"""Readers are slower than their writers for minutes, through a network that delays, reorders and drops:
every byte arrives, in order, at the reader's rate. Bytes that wait for a slow reader are fragmented, and
the limit of fragments must not end the connection.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

import trio
from multiaddr import Multiaddr

from testkit.far import FarError, FarHost, far_host
from testkit.mixture import IDLE, OF_A_CONNECTION
from testkit.relay import Relay
from tools.soak.run import shown
from tools.soak.trial import Trial, Usages, Watch

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # type: ignore[import-not-found, unused-ignore]

PARK = "/test/park"


@dataclass(frozen=True)
class Reader:
    """Bytes per second on average, bytes of each write, and seconds of pause after each second of
    reading."""

    rate: int
    block: int
    rest: float


READERS = (
    Reader(200_000, 65_536, 0.0),
    Reader(100_000, 65_536, 2.0),
    Reader(50_000, 1200, 0.3),
    # Many small frames of one stream are in flight, out of order.
    Reader(15_000, 100, 0.5),
    Reader(3_000, 10, 3.0),
)
"""One stream in each direction for each of them, all at once on one connection."""

NETWORK = ("--delay", "5ms", "--jitter", "2ms", "--reorder", "10%", "--loss", "0.2%")
ROUGH = ("--delay", "2ms", "--jitter", "2ms", "--reorder", "40%", "--loss", "0.5%")
"""Reordered packets count as lost, too; the sender is still faster than all readers."""


@dataclass(frozen=True)
class Plan:
    seconds: int
    seed: int = 0
    network: tuple[str, ...] = NETWORK


@dataclass
class _Way:
    """One stream in one direction."""

    writer: FarHost
    reader: FarHost
    ours: int
    theirs: int
    pace: Reader
    seed: int


async def slow(plan: Plan, watch: Watch) -> Trial:
    trial = Trial("slow readers", plan.seconds, "seconds")
    dice = random.Random(plan.seed)
    async with (
        far_host() as listener,
        far_host() as dialer,
        Relay.to(Multiaddr(listener.addresses[0]), "--seed", str(plan.seed), *plan.network) as relay,
    ):
        await dialer.do("connect", 30, address=f"{relay.address}/p2p/{listener.peer}")
        usages = Usages({}, {"listener": listener, "dialer": dialer})
        ways = []
        for pace in READERS:
            for writer, reader in ((dialer, listener), (listener, dialer)):
                ours = await writer.do("open", 30, peer=reader.peer, protocol=PARK)
                theirs = await reader.do("arrived", 30)
                ways.append(_Way(writer, reader, ours, theirs, pace, dice.getrandbits(32)))
        before = await usages.now()

        async def tell() -> None:
            while True:
                await trio.sleep(1)  # scenario: once a second for the progress line
                trial.done = min(trial.done + 1, plan.seconds - 1)
                watch(trial)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            async with trio.open_nursery() as streams:
                for way in ways:
                    streams.start_soon(_move, way, plan, trial)
            nursery.cancel_scope.cancel()
        trial.figures["moved in"] = f"{trial.seconds:.0f} s, of which readers wanted {plan.seconds}"
        totals = await relay.totals()
        for what in ("reordered", "lost"):
            count = sum(int(totals[direction][what]) for direction in ("to_target", "to_client"))
            trial.counts[f"datagrams {what}"] = count
            if not count:
                trial.failures.append(f"no datagram was {what}")
        if totals["kernel_drops"]:
            trial.failures.append(f"the relay's socket lost {totals['kernel_drops']}")
        statistics = await dialer.do("statistics", peer=listener.peer)
        trial.figures["round-trip time in the end"] = f"{1000 * statistics['rtt']:.0f} ms"
        await dialer.do("disconnect", peer=listener.peer)
        # CONNECTION_CLOSE is sent once, and this network may lose it: the idle timeout ends it then.
        if not await listener.do("parted", 60, peer=dialer.peer, after=IDLE):
            trial.failures.append("the listener heard of no end")
        # The host program keeps the stream objects, by number.
        after = await usages.idle()
        for process, kinds in after.items():
            then = before[process]
            mib = [each["allocated"] / 2**20 for each in (then, kinds)]
            trial.figures[process] = f"allocated {mib[0]:.1f} and {mib[1]:.1f} MiB"
            held = {kind: kinds[kind] for kind in OF_A_CONNECTION if kinds[kind]}
            if held:
                trial.failures.append(f"still open at the {process}: {held}")
            for kind in ("descriptors", "threads", "tasks"):
                if kinds[kind] > before[process][kind]:
                    trial.failures.append(
                        f"{kind} of the {process}: {before[process][kind]}, then {kinds[kind]}"
                    )
        trial.done = plan.seconds
        watch(trial)
    return trial


async def _move(way: _Way, plan: Plan, trial: Trial) -> None:
    pace = way.pace
    # A reader that paused catches up afterwards.
    size = pace.rate * plan.seconds
    patience = 3 * plan.seconds + 60
    name = f"{size} bytes in writes of {pace.block} to a reader of {pace.rate}/s"
    sent: list[str] = []

    async def write() -> None:
        sent.append(
            await way.writer.do(
                "write_drawn", patience, stream=way.ours, seed=way.seed, size=size, block=pace.block
            )
        )

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            got = await way.reader.do("drain", patience, stream=way.theirs, rate=pace.rate, rest=pace.rest)
        await way.reader.do("close", stream=way.theirs)
    except (AssertionError, FarError, ExceptionGroup) as error:
        # Of the nursery; the other streams go on.
        trial.failures.append(f"{name}: {shown(error)}")
        return
    if (got["size"], got["sha256"], got["end"]) != (size, sent[0], "StreamEOF"):
        trial.failures.append(f"{name}: got {got['size']} and {got['end']}")
    trial.counts["bytes"] += size
