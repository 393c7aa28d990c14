"""Machines without IPv6, and machines without IPv4: a py-libp2p host and an asyncio endpoint listen and dial
over the family that is there, and say why the other one fails.

Each machine is a network namespace without addresses of the other family, which needs root. Sockets of that
family can be opened there, unlike in a kernel that lacks it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from testkit.machines import Machine, machines
from testkit.program import answer_of
from tools.nat.network import missing

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(not Path("/proc/sys/net/ipv6").exists(), reason="the kernel has no IPv6"),
]

# Most of it is for the start of the program on a loaded machine. No dial has waited for its handshake timeout
# then, which is `HANDSHAKE_TIMEOUT` of testkit/one_family.py. Seconds.
LIMIT = 60.0


@dataclass(frozen=True)
class Family:
    """Multiaddrs of the loopback, and of an address of an interface."""

    name: str
    loopback: str
    host: str


IPV4 = Family("IPv4", "/ip4/127.0.0.1", "/ip4/192.0.2.1")
IPV6 = Family("IPv6", "/ip6/::1", "/ip6/2001:db8::1")


@contextmanager
def machine_with(family: Family) -> Iterator[Machine]:
    """A machine that has both addresses of this family, and none of the other one."""
    with machines(1) as (machine,):
        machine.link("eth0", machine, "eth1")
        if family is IPV4:
            with machine.entered():
                for each in ("all", "default", "lo"):
                    Path(f"/proc/sys/net/ipv6/conf/{each}/disable_ipv6").write_text("1")
            machine.ip("addr add 192.0.2.1/24 dev eth0")
        else:
            machine.ip("addr del 127.0.0.1/8 dev lo")
            machine.ip("addr add 2001:db8::1/64 dev eth0 nodad")
        yield machine


@pytest.mark.parametrize("interface", ["py-libp2p", "asyncio"])
@pytest.mark.parametrize(("family", "other"), [(IPV4, IPV6), (IPV6, IPV4)], ids=["no IPv6", "no IPv4"])
async def test_a_machine_of_one_family_uses_it_and_says_why_the_other_fails(
    interface: str, family: Family, other: Family
) -> None:
    own, refused = (f"{each}/udp/0/quic-v1" for each in (family.host, other.loopback))
    unreachable = f"{other.host}/udp/4001/quic-v1"
    program = [sys.executable, "-m", "testkit.one_family", interface, own, refused, unreachable]
    with machine_with(family) as machine:
        told = await answer_of(machine.command(program), LIMIT)
    assert told["is_echoed"]
    assert told["reached"].startswith(f"{family.host}/udp/")
    listening, dialing = told["listening"], told["dialing"]
    assert [each["families"][0] for each in listening] == ["ListenError", "OSError"]
    assert listening[0]["message"] == f"cannot listen on {refused}: Cannot assign requested address"
    assert dialing[0]["families"][0] == "UnreachableError"
    why = rf"failed to dial {re.escape(unreachable)}: .*this machine has no .*{other.name}\b.*"
    assert re.fullmatch(why, dialing[0]["message"])
