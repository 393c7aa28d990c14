"""System calls that fail below a real host, injected by `crates/faults`: what is written arrives, nobody
ends a connection for it, and nothing is left. The same in virtual time: the simulation's conditions.
"""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

import pytest

from peers.mixture import hosts
from peers.payload import payload, sha256

LIBRARY = Path(__file__).parent.parent / "target" / "release" / "libfaults.so"
SIZE = 200_000

SHARES = {
    "the interface's queue is full": "send ENOBUFS 10%",
    "no memory": "send ENOMEM 10%, receive ENOMEM 5%",
    "datagrams are too large": "send EMSGSIZE 20%",
    "a firewall": "send EPERM 20%",
    "the peer's port was closed": "send ECONNREFUSED 10%, receive ECONNREFUSED 20%",
    "the interface cannot segment": "send EIO 5%",
}


def environment(faults: str) -> dict[str, str]:
    assert LIBRARY.exists(), "no library: make build"
    return {"LD_PRELOAD": str(LIBRARY), "FAULTS": faults}


@pytest.mark.slow
@pytest.mark.parametrize("what", SHARES)
async def test_a_share_of_the_calls_fails(what: str) -> None:
    async with hosts(environment(SHARES[what])) as both:
        await both.dialer.do("connect", address=both.listener.addresses[0])
        stream = await both.dialer.do("open", peer=both.listener.peer, protocol="/test/echo")
        for seed in range(3):
            back = await both.dialer.do("echo_back", 60, stream=stream, seed=seed, size=SIZE)
            assert back == sha256(payload(seed, SIZE))
        for far in (both.listener, both.dialer):
            assert await far.do("faults") > 0
        await both.dialer.do("disconnect", peer=both.listener.peer)
        assert await both.left() == [{}, {}]


@pytest.mark.slow
async def test_the_interface_is_gone_for_a_while() -> None:
    """Neither side can send, and a socket that is read has an error of its own."""
    gone = "send ENETUNREACH 300ms+2000ms, receive ENETDOWN 300ms+2000ms"
    async with hosts(environment(gone)) as both:
        await both.dialer.do("connect", address=both.listener.addresses[0])
        stream = await both.dialer.do("open", peer=both.listener.peer, protocol="/test/echo")
        began = time.monotonic()
        for seed in count():
            back = await both.dialer.do("echo_back", 60, stream=stream, seed=seed, size=SIZE)
            assert back == sha256(payload(seed, SIZE))
            if time.monotonic() - began > 3:
                break
        assert await both.dialer.do("faults") > 0
        assert await both.listener.do("connections") == [both.dialer.peer], "the same as before"
        await both.dialer.do("disconnect", peer=both.listener.peer)
        assert await both.left() == [{}, {}]
