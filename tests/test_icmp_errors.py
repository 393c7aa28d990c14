"""Errors that a receive returns because of ICMP messages, injected by `crates/faults` below a real host.

Anybody can send ICMP messages, so such an error must not pause a socket, as an error of the socket itself
does. tests/test_socket_errors.py has those, and docs/socket-errors.md what the engine does about each.
"""

from __future__ import annotations

from itertools import count

import pytest

from testkit.census import eventually
from testkit.far import FarHost, far_host
from testkit.faults import environment
from testkit.payload import payload, sha256

SIZE = 200_000
# icmp_err_convert of Linux's net/ipv4/icmp.c, and the table of net/ipv6/icmp.c.
OF_ICMP = (
    "EACCES",
    "ECONNREFUSED",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EMSGSIZE",
    "ENETUNREACH",
    "ENONET",
    "ENOPROTOOPT",
    "EOPNOTSUPP",
    "EPROTO",
)
UNREADABLE = "the UDP socket cannot be read"


async def echo_under(faults: str, dialer: FarHost, stream: int) -> None:
    """Echo payloads until some calls of the dialer have failed."""
    before = await dialer.do("faults")
    await dialer.do("inject", faults=faults)
    for seed in count():
        back = await dialer.do("echo_back", 60, stream=stream, seed=seed, size=SIZE)
        assert back == sha256(payload(seed, SIZE))
        if await dialer.do("faults") >= before + 20:
            break
    await dialer.do("inject", faults="")


@pytest.mark.slow
async def test_errors_of_icmp_messages_do_not_pause_a_socket() -> None:
    async with far_host() as listener, far_host(environment=environment("")) as dialer:
        # ICMP messages are reported to a socket from which this host has dialed.
        await dialer.do("connect", address=listener.addresses[0])
        stream = await dialer.do("open", peer=listener.peer, protocol="/test/echo")
        await echo_under(", ".join(f"receive {error} 5%" for error in OF_ICMP), dialer, stream)
        assert UNREADABLE not in dialer.complaints()
        # An error of the socket pauses it, and the log says so.
        await echo_under("receive EIO 20%", dialer, stream)
        assert await eventually(lambda: UNREADABLE in dialer.complaints())
        assert await listener.do("connections") == [dialer.peer], "the connection was replaced"
