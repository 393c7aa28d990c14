"""Socket options and calls that a sandbox refuses, injected below real hosts by `crates/faults`: each
disables a feature, none the socket. One warning names what is lost.
"""

from __future__ import annotations

import pytest
import trio

from testkit.far import far_host
from testkit.faults import environment
from testkit.host import ECHO, echo
from testkit.near import IP4, IP6, addresses, near_host, new_stream
from testkit.payload import echoed_back, payload, sha256

SIZE = 200_000

OF_BOTH = ("IP_MTU_DISCOVER", "UDP_GRO", "UDP_SEGMENT", "SO_RCVBUF", "SO_SNDBUF")
OPTIONS = {
    IP4: (*OF_BOTH, "IP_PKTINFO", "IP_RECVERR", "IP_RECVTOS"),
    IP6: (
        *OF_BOTH,
        "IPV6_DONTFRAG",
        "IPV6_MTU_DISCOVER",
        "IPV6_RECVERR",
        "IPV6_RECVPKTINFO",
        "IPV6_RECVTCLASS",
        "IPV6_V6ONLY",
    ),
}
NOT_NEEDED = {
    "IPV6_RECVERR",
    "IPV6_V6ONLY",
    "IP_RECVERR",
    "IP_RECVTOS",
    "SO_RCVBUF",
    "SO_SNDBUF",
    "UDP_GRO",
    "UDP_SEGMENT",
}
"""Without these a socket is slower, or lacks IPv4 peers' ECN marks or ICMP errors; no warning is logged."""
UNSUPPORTED = {"IP_MTU_DISCOVER", "IPV6_DONTFRAG", "IPV6_MTU_DISCOVER"}
"""Without these it works equally well if they are unknown, but not if they are forbidden."""

REFUSALS = [
    (
        listen,
        f"option {error} 100% {option}",
        option not in NOT_NEEDED and not (known and option in UNSUPPORTED),
    )
    for listen, options in OPTIONS.items()
    for option in options
    for error, known in (("ENOPROTOOPT", True), ("EPERM", False))
]
CALLS = [
    (listen, faults, True)
    for listen in OPTIONS
    for faults in (
        "receive ENOSYS 100%",
        "receive EPERM 100%",
        "option EPERM 100%, receive ENOSYS 100%",
        "option EOPNOTSUPP 100%, receive ENOSYS 100%",
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("listen", "faults", "is_limited"), REFUSALS + CALLS)
async def test_a_refused_option_disables_a_feature_and_not_the_socket(
    listen: str, faults: str, is_limited: bool
) -> None:
    refusing = environment(faults)
    async with far_host(listen, environment=refusing) as far, near_host(listen) as near:
        near.set_stream_handler(ECHO, echo)
        # Both roles: dialer and listener.
        await far.do("connect", address=addresses(near)[0])
        await near.connect(far.info)
        theirs = await far.do("open", peer=str(near.get_id()), protocol=ECHO)
        back = await far.do("echo_back", 60, stream=theirs, seed=1, size=SIZE)
        assert back == sha256(payload(1, SIZE))
        await far.do("close", stream=theirs)
        with trio.fail_after(60):
            ours = await new_stream(near, far.peer_id, ECHO)
            back = await echoed_back(ours, payload(2, SIZE))
        assert back == sha256(payload(2, SIZE))
        await ours.close()
        assert await far.do("faults") > 0
        warnings = far.complaints().count("the system refuses socket options")
        assert warnings == (1 if is_limited else 0), far.complaints()


@pytest.mark.slow
@pytest.mark.parametrize("wildcard", ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/udp/0/quic-v1"])
async def test_a_wildcard_without_packet_info_has_an_error_with_the_remedy(wildcard: str) -> None:
    async with far_host(wildcard, environment=environment("receive ENOSYS 100%")) as one:
        assert "listen on each address instead of the wildcard" in one.complaints()
