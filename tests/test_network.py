"""Real hosts in two processes, and a network with faults between them: `crates/relay`.

Under each condition alone, and under mixtures drawn by seed, written bytes arrive in both directions, and
nothing leaks. `make mixtures` runs more mixtures; crates/engine/tests/simulation/transfers.rs has the same
and more in virtual time.
"""

from __future__ import annotations

import time

import pytest
from multiaddr import Multiaddr

from testkit.far import far_host
from testkit.mixture import Ended, Network, drawn, hosts, transfer
from testkit.payload import MIB
from testkit.relay import Relay

# Condition -> options of the relay, bytes each way, and what the relay must count.
ALONE: dict[str, tuple[dict[str, str], int, str | None]] = {
    "delay": ({"delay": "50ms"}, MIB, None),
    "jitter": ({"delay": "10ms", "jitter": "5ms"}, MIB // 2, None),
    "loss": ({"delay": "5ms", "loss": "5%"}, MIB, "lost"),
    "duplication": ({"delay": "5ms", "duplicate": "30%"}, MIB, "duplicated"),
    "corruption": ({"delay": "5ms", "corrupt": "3%"}, MIB, "corrupted"),
    "reordering": ({"delay": "5ms", "reorder": "20%"}, MIB, "reordered"),
    "a rate limit": ({"delay": "5ms", "rate": "20Mbit/s"}, MIB, None),
    "a queue that fills": ({"delay": "5ms", "rate": "20Mbit/s", "queue": "16KiB"}, MIB, "queue_full"),
    "an MTU that shrinks": ({"rate": "10Mbit/s", "mtu": "1200", "mtu-after": "500ms"}, MIB, "too_large"),
    "a blackout": ({"rate": "10Mbit/s", "blackout": "400ms+2s"}, MIB, "in_the_dark"),
    "marked datagrams dropped from the start": ({"delay": "5ms", "drop-marked": "both"}, MIB, "marked"),
    "marked datagrams dropped later, to the listener": (
        {"rate": "10Mbit/s", "drop-marked": "to-target", "drop-marked-after": "400ms"},
        MIB,
        "marked",
    ),
    "marked datagrams dropped later, to the dialer": (
        {"rate": "10Mbit/s", "drop-marked": "to-client", "drop-marked-after": "400ms"},
        MIB,
        "marked",
    ),
    "marked datagrams dropped later, both ways": (
        {"rate": "10Mbit/s", "drop-marked": "both", "drop-marked-after": "400ms"},
        MIB,
        "marked",
    ),
    "a NAT that rebinds": ({"delay": "5ms", "rate": "10Mbit/s", "rebind": "150ms"}, MIB, "rebinds"),
}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ALONE)
async def test_a_transfer_under_one_condition(name: str) -> None:
    conditions, size, counted = ALONE[name]
    async with hosts() as both:
        done = await transfer(both, Network(conditions), size)
        if counted == "rebinds":
            # In the middle, and more than once.
            assert done.totals["rebinds"] > 1
        elif counted is not None:
            assert done.count(counted) > 0, done.totals
        assert await both.left() == [{}, {}]


@pytest.mark.slow
@pytest.mark.parametrize("blackout", ["0ms+60s", "400ms+60s"], ids=["as it begins", "in the middle"])
async def test_the_error_names_the_network_if_it_ends_a_transfer(blackout: str) -> None:
    """Both sides discard the connection by themselves."""
    async with hosts(connection_timeout=1, idle_timeout=3) as both:
        with pytest.raises(Ended, match=r"no handshake in time|connection timed out"):
            await transfer(both, Network({"rate": "10Mbit/s", "blackout": blackout}), MIB)
        assert await both.left() == [{}, {}]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_transfers_under_mixtures() -> None:
    async with hosts() as both:
        # Seeds of which each takes a second or two.
        for seed in (0, 1, 5, 6, 7, 9):
            network, size = drawn(seed)
            print(network, size)
            await transfer(both, network, size)
        assert await both.left() == [{}, {}]


async def test_the_listener_follows_a_dialer_that_migrates() -> None:
    """A NAT rebinds the dialer, and the connection continues."""
    async with (
        far_host() as listener,
        far_host() as dialer,
        Relay.to(Multiaddr(listener.addresses[0])) as relay,
    ):
        await dialer.do("connect", address=f"{relay.address}/p2p/{listener.peer}")
        stream = await dialer.do("open", peer=listener.peer, protocol="/test/echo")
        for seed in range(5):
            await relay.move()
            await dialer.do("echo_back", stream=stream, seed=seed, size=200_000)
        assert await listener.do("connections") == [dialer.peer]
        assert (await relay.totals())["rebinds"] == 5


async def seconds_of_a_dial(*options: str) -> float:
    """Dial through a relay with these options, then echo, which is not timed."""
    async with (
        far_host() as listener,
        far_host() as dialer,
        Relay.to(Multiaddr(listener.addresses[0]), *options) as relay,
    ):
        began = time.monotonic()
        await dialer.do("connect", address=f"{relay.address}/p2p/{listener.peer}")
        seconds = time.monotonic() - began
        stream = await dialer.do("open", peer=listener.peer, protocol="/test/echo")
        await dialer.do("echo_back", stream=stream, seed=1, size=200_000)
    return seconds


@pytest.mark.slow
@pytest.mark.parametrize("directions", ["to-target", "to-client", "both"])
async def test_a_dial_through_a_network_that_drops_marked_datagrams(directions: str) -> None:
    """It needs one probe, after 1 s; a listener without an answer needs 0.1 s more. A second probe would be
    sent after 3 s. Exact times are in crates/engine/tests/simulation/ecn.rs. The quickest of five dials
    counts, as other work on this machine only adds time."""
    clean = await seconds_of_a_dial()
    marked: list[float] = []
    while len(marked) < 5 and min(marked, default=clean + 2) >= clean + 2:
        marked.append(await seconds_of_a_dial("--drop-marked", directions))
    assert min(marked) < clean + 2


async def test_a_connection_survives_a_network_that_starts_to_drop_marked_datagrams() -> None:
    async with (
        far_host() as listener,
        far_host() as dialer,
        Relay.to(Multiaddr(listener.addresses[0]), "--delay", "5ms") as relay,
    ):
        await dialer.do("connect", address=f"{relay.address}/p2p/{listener.peer}")
        stream = await dialer.do("open", peer=listener.peer, protocol="/test/echo")
        for seed, directions in enumerate(("none", "to-client", "both")):
            await relay.tell(f"drop-marked {directions}")
            await dialer.do("echo_back", stream=stream, seed=seed, size=200_000)
        # The listener validates the dialer's new path, which drops marks, too.
        await relay.move()
        await dialer.do("echo_back", stream=stream, seed=3, size=200_000)
        assert await listener.do("connections") == [dialer.peer]
        totals = await relay.totals()
        assert totals["to_target"]["marked"] > 0, totals
        assert totals["to_client"]["marked"] > 0, totals
