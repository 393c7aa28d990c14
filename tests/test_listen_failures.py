"""A host that cannot listen logs it: py-libp2p drops the error, and the host continues.

Real sockets; machines with only the loopback are network namespaces.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from multiaddr import Multiaddr

from libp2p_quic.exceptions import ListenError
from testkit.near import IP4, near_host, near_transport

ROOT = Path(__file__).parent.parent


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        yield f"/ip4/127.0.0.1/udp/{other.getsockname()[1]}/quic-v1"


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Log lines of the listener at the default level."""
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "libp2p_quic.listener" and each.levelno >= logging.WARNING
    ]


async def test_a_port_in_use_is_one_line_with_address_and_reason(
    taken: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with near_host(taken) as host:
        assert host.get_addrs() == []
    assert reports(caplog) == [f"cannot listen on {taken}: Address already in use"]
    assert not [each for each in caplog.records if each.name == "libp2p_quic.listener" and each.exc_info]


async def test_an_address_of_another_machine_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    other = "/ip4/192.0.2.1/udp/4001/quic-v1"
    async with near_host(other, IP4) as host:
        assert len(host.get_addrs()) == 1
    assert reports(caplog) == [f"cannot listen on {other}: Cannot assign requested address"]


async def test_the_callers_error_has_no_errno_twice(taken: str) -> None:
    transport = near_transport()
    with pytest.raises(ListenError) as refused:
        await transport.create_listener(lambda connection: connection.start()).listen(Multiaddr(taken))
    assert "os error" not in f"{refused.value} {refused.value.__cause__}"
    await transport.close()


def run(*program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("example", ["echo", "ping"])
def test_the_examples_report_that_they_do_not_listen(example: str, taken: str) -> None:
    program = (ROOT / "examples" / f"{example}.py").read_text()
    finished = run(sys.executable, "-c", program.replace("/ip4/127.0.0.1/udp/0/quic-v1", taken))
    assert finished.returncode == 1
    assert "IndexError" not in finished.stderr
    lines = finished.stderr.splitlines()
    assert lines[-1] == "not listening: the line above says why"
    assert lines[-2] == f"cannot listen on {taken}: Address already in use"


def run_alone(*program: str) -> subprocess.CompletedProcess[str]:
    """Run in a namespace without interfaces except the loopback, which is down."""
    private = ["unshare", "--user", "--map-root-user", "--net"]
    if run(*private, "true").returncode != 0:
        pytest.skip("the kernel refuses this user a network namespace")
    return run(*private, *program)


LOOPBACK_ONLY = """
import fcntl, socket, struct, sys
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from multiaddr import Multiaddr
from libp2p_quic import QUICTransport

SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))

async def main(address):
    keys = create_new_key_pair()
    host = new_host(key_pair=keys, transports=[QUICTransport(keys.private_key)])
    async with host.run(listen_addrs=[Multiaddr(address)]):
        print(*host.get_addrs())

trio.run(main, sys.argv[1])
"""


@pytest.mark.parametrize(
    ("wildcard", "loopback"), [("/ip4/0.0.0.0", "/ip4/127.0.0.1"), ("/ip6/::", "/ip6/::1")]
)
def test_a_wildcard_is_the_loopback_if_there_is_no_other_interface(wildcard: str, loopback: str) -> None:
    finished = run_alone(sys.executable, "-c", LOOPBACK_ONLY, f"{wildcard}/udp/4001/quic-v1")
    assert finished.stdout.split("/p2p/")[0] == f"{loopback}/udp/4001/quic-v1", finished.stderr
