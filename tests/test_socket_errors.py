"""System calls that fail below a real host, injected by `crates/faults`: written bytes arrive, no connection
ends, nothing leaks, and an error about one peer affects that peer only. The simulation has the same
conditions in virtual time. docs/socket-errors.md says what the engine does about each.
"""

from __future__ import annotations

import re
import time
from itertools import count

import pytest
import trio
from libp2p.abc import IHost
from libp2p.network.stream.net_stream import NetStream

from testkit.census import PATIENCE
from testkit.far import FarError, FarHost, far_host
from testkit.faults import environment
from testkit.mixture import PARK, hosts
from testkit.near import IP4, addresses, near_host, new_stream
from testkit.payload import MIB, drain, payload, sha256

SIZE = 200_000

SHARES = {
    "the interface's queue is full": "send ENOBUFS 10%",
    "no memory": "send ENOMEM 10%, receive ENOMEM 5%",
    "datagrams are too large": "send EMSGSIZE 20%",
    "a firewall": "send EPERM 20%",
    "the peer's port was closed": "send ECONNREFUSED 10%, receive ECONNREFUSED 20%",
    "the interface cannot segment": "send EIO 5%",
    "an argument is refused": "send EINVAL 10%",
    "no route": "send ENETUNREACH 10%, receive ENETUNREACH 10%",
    "no neighbor": "send EHOSTUNREACH 10%, receive EHOSTUNREACH 10%",
    "no source address": "send EADDRNOTAVAIL 10%",
    "a policy": "send EACCES 10%",
    "the socket has an error of its own": "receive EIO 5%",
}

# The error of sends to one of two peers -> the fault, without the peer's port.
OF_ONE_PEER = {
    error: f"send {error} 100%"
    for error in (
        "EACCES",
        "EADDRNOTAVAIL",
        "ECONNREFUSED",
        "EHOSTUNREACH",
        "EINVAL",
        "EIO",
        "EMSGSIZE",
        "ENETUNREACH",
        "ENOBUFS",
        "ENOMEM",
        "EPERM",
    )
} | {
    "its source address is gone": "send EINVAL 100% from",
    "no segmentation on its interface": "send EIO 100% batch",
    "segments longer than its interface takes": "send EINVAL 100% batch",
    "a firewall that looks at lengths": "send EPERM 100% batch",
    "ECN marks are refused": "send EINVAL 100% marked",
}
"""With faults of batches and marks the transfer completes; with the others it stalls."""


@pytest.mark.slow
@pytest.mark.parametrize("what", SHARES)
async def test_a_share_of_the_calls_fails(what: str) -> None:
    async with hosts(environment(SHARES[what])) as both:
        await both.dialer.do("connect", address=both.listener.addresses[0])
        stream = await both.dialer.do("open", peer=both.listener.peer, protocol="/test/echo")
        # The number of calls varies, and so may the first that fails: at least three rounds.
        for seed in count():
            back = await both.dialer.do("echo_back", 60, stream=stream, seed=seed, size=SIZE)
            assert back == sha256(payload(seed, SIZE))
            if seed >= 2 and all([await far.do("faults") for far in (both.listener, both.dialer)]):
                break
        await both.dialer.do("disconnect", peer=both.listener.peer)
        assert await both.left() == [{}, {}]


@pytest.mark.slow
async def test_the_interface_is_gone_for_a_while() -> None:
    """Neither side can send, and reads of the socket fail, too."""
    async with hosts(environment("")) as both:
        await both.dialer.do("connect", address=both.listener.addresses[0])
        stream = await both.dialer.do("open", peer=both.listener.peer, protocol="/test/echo")
        # Injected here, as the time to connect depends on the machine. It counts from the next send.
        for far in (both.listener, both.dialer):
            await far.do("inject", faults="send ENETUNREACH 300ms+2000ms, receive ENETDOWN 300ms+2000ms")
        began = time.monotonic()
        for seed in count():
            back = await both.dialer.do("echo_back", 60, stream=stream, seed=seed, size=SIZE)
            assert back == sha256(payload(seed, SIZE))
            if time.monotonic() - began > 3:
                break
        assert await both.dialer.do("faults") > 0
        assert await both.listener.do("connections") == [both.dialer.peer], "the connection was replaced"
        await both.dialer.do("disconnect", peer=both.listener.peer)
        assert await both.left() == [{}, {}]


def port_of(host: IHost) -> int:
    """Its dials leave from the listening socket."""
    return int(host.get_addrs()[0].value_for_protocol("udp"))


async def streams(receiver: IHost, sender: FarHost) -> tuple[NetStream, int]:
    """One stream: the receiver's end and the sender's."""
    ours = await new_stream(receiver, sender.peer_id, PARK)
    return ours, await sender.do("arrived")


async def send(sender: FarHost, receiver: IHost, ends: tuple[NetStream, int], size: int) -> dict[str, float]:
    """Send ``size`` bytes and wait for them. Returns the number of datagrams per send call meanwhile, and
    the share of calls with an ECN mark."""
    ours, theirs = ends

    async def write() -> None:
        await sender.do("write", 60, stream=theirs, seed=size, size=size)
        await sender.do("close_write", 60, stream=theirs)

    before = await sender.do("sent", port=port_of(receiver))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        with trio.fail_after(60):
            got = await drain(ours)
    assert got.sha256 == sha256(payload(size, size))
    after = await sender.do("sent", port=port_of(receiver))
    datagrams, calls, marked = (after[what] - before[what] for what in ("datagrams", "calls", "marked"))
    return {"batch": datagrams / calls, "marked": marked / calls}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", OF_ONE_PEER)
async def test_an_error_of_one_peer_affects_only_that_peer(what: str) -> None:
    """The other peer's batches keep their size and marks; the first peer's bytes arrive in the end."""
    async with (
        far_host(environment=environment("")) as sender,
        near_host(IP4) as one,
        near_host(IP4) as other,
    ):
        for receiver in (one, other):
            await receiver.connect(sender.info)
        before = await send(sender, other, await streams(other, sender), 4 * MIB)
        assert before["batch"] > 2
        assert before["marked"] > 0.9
        of_one, of_other = await streams(one, sender), await streams(other, sender)
        fault = OF_ONE_PEER[what]
        await sender.do("inject", faults=f"{fault} to={port_of(one)}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, sender, one, of_one, MIB)
            after = await send(sender, other, of_other, 8 * MIB)
            assert await sender.do("faults") > 0
            if not fault.endswith(("batch", "marked")):
                await sender.do("inject", faults="")
        assert after["batch"] > before["batch"] / 2
        assert after["marked"] > 0.9


# The error of every send of a dial -> its text in the dial's error.
OF_A_DIAL = {
    "EACCES": "permission denied (EACCES)",
    "EADDRNOTAVAIL": "cannot assign requested address (EADDRNOTAVAIL)",
    "EHOSTUNREACH": "no route to host (EHOSTUNREACH)",
    "EINVAL": "invalid argument (EINVAL)",
    "ENETUNREACH": "network is unreachable (ENETUNREACH)",
    "EPERM": "operation not permitted (EPERM)",
}


@pytest.mark.slow
@pytest.mark.parametrize("error", OF_A_DIAL)
async def test_a_dial_whose_sends_are_refused_ends_soon_with_the_reason(error: str) -> None:
    async with far_host(environment=environment("")) as dialer, near_host(IP4) as other:
        await dialer.do("inject", faults=f"send {error} 100% to={port_of(other)}")
        # Less than one timeout of 10 s for all of the swarm's attempts, with its pauses between them.
        with pytest.raises(FarError, match=re.escape(OF_A_DIAL[error])):
            await dialer.do("connect", 9, address=addresses(other)[0])
        await dialer.do("inject", faults="")
        # The socket is unchanged. The peer dials, because the swarm avoids a failed address for a while.
        with trio.fail_after(PATIENCE):
            await other.connect(dialer.info)


@pytest.mark.slow
async def test_a_dial_that_times_out_has_the_last_error_of_the_system() -> None:
    """An error that is not about the address does not end the dial earlier."""
    async with (
        far_host(environment=environment(""), config={"connection_timeout": 0.5}) as dialer,
        near_host(IP4) as other,
    ):
        await dialer.do("inject", faults=f"send ENOBUFS 100% to={port_of(other)}")
        message = r"within 0\.5 s \(0 datagrams sent, 0 received\); the system said last: .* \(ENOBUFS\)"
        with pytest.raises(FarError, match=message):
            await dialer.do("connect", address=addresses(other)[0])
