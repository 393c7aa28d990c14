"""The hole-punch program for libp2p's unified-testing, run by its rules: a relay, a listener and a dialer,
each in a network namespace as in a container of the harness, behind routers with the harness's rules,
and a Redis on a network that all three have. Ours meets go-libp2p and rust-libp2p, whose programs are the
peers of tools/interop and have to be built before. Needs root.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from testkit.machines import Machine, machines
from testkit.redis_server import program, running_redis_server
from tools.nat.network import missing
from tools.nat.trial import PROGRAMS as PEERS

ROOT = Path(__file__).parent.parent
PROGRAMS = {
    "ours": [sys.executable, "-m", "tools.interop.unified.hole_punch"],
    "go": [*PEERS["go"], "hole-punch"],
    "rust": [*PEERS["rust"], "hole-punch"],
}
# Dialer, listener and relay. Where ours is not among them, whether the others pass here at all.
COMBINATIONS = [each for each in product(PROGRAMS, repeat=3) if "ours" in each or len(set(each)) == 1]
# Sets the route of a home, as an entry point of the harness's images does; ours does it itself.
ROUTED = ["sh", "-c", 'ip route replace "$WAN_SUBNET" via "$WAN_ROUTER_IP" && exec "$@"', "sh"]
RESULT = re.compile(
    r"latency:\n  handshake_plus_one_rtt: (\d+\.\d+)\n  ping_rtt: (\d+\.\d+)\n  unit: ms\n", re.ASCII
)
# The harness makes 77 and 88 of the test's key.
KEY = "2d385d5e"
LANS = {"dialer": "10.77.88.96/27", "listener": "10.77.88.128/27"}
HOMES = {"dialer": "10.77.88.99", "listener": "10.77.88.131"}
INNER = {"dialer": "10.77.88.98", "listener": "10.77.88.130"}
# Of the network between the routers. WAN_PREFIX of the harness, which counts as public: go-libp2p punches to
# no other address. Older versions of the harness have private addresses here, too.
PUBLIC, PRIVATE = "11.77.88", "10.77.88"
OUTER = {"dialer": 66, "listener": 67, "relay": 68}
REDIS = "10.5.0.1"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

# Masquerade; the router itself answers nobody outside, and forwards to its network whatever is addressed
# there. What the last rule but one lets in has the private address, which no peer outside can use.
ROUTER = """
table ip nat {
  chain postrouting {
    type nat hook postrouting priority 100;
    ip saddr LAN oifname "wan0" masquerade HOW
  }
}
table ip filter {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wan0" ct state established,related accept
    iifname "wan0" drop
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    ip saddr LAN iifname "lan0" oifname "wan0" accept
    ip daddr LAN iifname "wan0" oifname "lan0" accept
  }
}
"""


@dataclass
class Containers:
    """The machines that stand in for the harness's containers."""

    by_role: dict[str, Machine]
    redis_address: str
    wan: str
    """The first three parts of the addresses between the routers."""

    def environment(self, role: str) -> dict[str, str]:
        common = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_ADDR": self.redis_address,
            "TEST_KEY": KEY,
            "TRANSPORT": "quic-v1",
            "DEBUG": "false",
        }
        if role == "relay":
            return {**common, "RELAY_IP": f"{self.wan}.{OUTER['relay']}"}
        return {
            **common,
            "IS_DIALER": "true" if role == "dialer" else "false",
            f"{role.upper()}_IP": HOMES[role],
            "WAN_SUBNET": f"{self.wan}.64/27",
            "WAN_ROUTER_IP": INNER[role],
        }

    def start(self, role: str, peer: str, log: Path, stack: ExitStack) -> subprocess.Popen[str]:
        routed = [] if peer == "ours" or role == "relay" else ROUTED
        with log.open("w") as errors:
            process = subprocess.Popen(
                self.by_role[role].command([*routed, *PROGRAMS[peer]]),
                env=self.environment(role),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )
        stack.enter_context(process)
        stack.callback(process.kill)
        return process


@contextmanager
def containers(folder: Path, wan_addresses: str, how: str) -> Iterator[Containers]:
    with (
        machines(7) as (wan, relay, dialer, listener, dialer_router, listener_router, redis),
        ExitStack() as stack,
    ):
        for switch in (wan, redis):
            switch.ip("link add switch type bridge")
            switch.ip("link set switch up")

        def plug(switch: Machine, machine: Machine, port: str, device: str, address: str) -> None:
            switch.link(port, machine, device)
            switch.ip(f"link set {port} master switch")
            machine.ip(f"addr add {address} dev {device}")

        plug(wan, relay, "relay", "wan0", f"{wan_addresses}.{OUTER['relay']}/27")
        for role, home, router in (
            ("dialer", dialer, dialer_router),
            ("listener", listener, listener_router),
        ):
            plug(wan, router, role, "wan0", f"{wan_addresses}.{OUTER[role]}/27")
            router.link("lan0", home, "lan0")
            router.ip(f"addr add {INNER[role]}/27 dev lan0")
            home.ip(f"addr add {HOMES[role]}/27 dev lan0")
            router.run("sysctl -qw net.ipv4.ip_forward=1")
            router.run("nft -f -", ROUTER.replace("LAN", LANS[role]).replace("HOW", how))
        for number, machine in enumerate((relay, dialer, listener), 2):
            plug(redis, machine, f"port{number}", "redis0", f"10.5.0.{number}/21")
        redis.ip(f"addr add {REDIS}/21 dev switch")
        # Fetched before, as that machine has no other network.
        program()
        with redis.entered():
            address = stack.enter_context(running_redis_server(folder, REDIS))
        roles = {"relay": relay, "dialer": dialer, "listener": listener}
        yield Containers(roles, address, wan_addresses)


def run(
    folder: Path,
    dialer: str = "ours",
    listener: str = "ours",
    relay: str = "ours",
    wan: str = PUBLIC,
    how: str = "",
) -> tuple[int, str, str]:
    """The dialer's exit status and output, and what all three logged. ``how`` the routers masquerade."""
    with containers(folder, wan, how) as all_of_them, ExitStack() as stack:
        for role, peer in (("relay", relay), ("listener", listener)):
            all_of_them.start(role, peer, folder / role, stack)
        process = all_of_them.start("dialer", dialer, folder / "dialer", stack)
        # The limit of the harness.
        output, _ = process.communicate(timeout=180)
        logged = "\n".join(
            f"{role}:\n{(folder / role).read_text()}" for role in ("relay", "listener", "dialer")
        )
        return process.returncode, output, logged


def assert_is_a_result(status: int, output: str, logged: str) -> None:
    """The harness takes the test as passed by the status, and the measurements from the output."""
    assert status == 0, logged
    result = RESULT.fullmatch(output)
    assert result is not None, output
    print(output)
    assert 0 < float(result[2]) < float(result[1])


@pytest.mark.parametrize(("dialer", "listener", "relay"), COMBINATIONS)
def test_two_homes_connect_directly(dialer: str, listener: str, relay: str, tmp_path: Path) -> None:
    for peer in sorted({dialer, listener, relay}):
        if not Path(PROGRAMS[peer][0]).is_file():
            pytest.skip(f"the peer of {peer} is not built: make interop PEERS=go,rust CASES=ping")
    assert_is_a_result(*run(tmp_path, dialer, listener, relay))


def test_two_homes_connect_directly_in_a_private_network(tmp_path: Path) -> None:
    assert_is_a_result(*run(tmp_path, wan=PRIVATE))


def test_a_hole_that_cannot_be_punched_is_a_failure_without_results(tmp_path: Path) -> None:
    """Both routers map each destination to a random port."""
    status, output, logged = run(tmp_path, how="fully-random")
    assert (status, output) == (2, ""), logged
    assert "no direct connection to" in logged
