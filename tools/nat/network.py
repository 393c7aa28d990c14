"""The networks of the laboratory: a relay's, two homes behind routers, and what joins them, each in a
network namespace of this process. Everything is gone when the process is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from testkit.machines import Machine

# Addresses that count as public: go-libp2p punches to no others.
RELAY = "11.0.1.2"
RELAY6 = "2a00:11:1::2"
ROUTERS = ("11.0.2.2", "11.0.3.2")
# The port that a home listens on; two homes behind one router need two.
PORTS = (4001, 4002)


class LaboratoryError(Exception):
    """The laboratory cannot be built on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Router:
    """How a router treats what comes from outside. ``rules`` are nftables', with OUTER for its address.

    ``udp_timeout``: seconds without a packet after which a mapping ends; None: the kernel's default.
    """

    name: str
    about: str
    rules: str = ""
    is_nat: bool = True
    is_ipv6: bool = False
    udp_timeout: int | None = None


_DROP = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "wan" ct state established,related accept
    # Without neighbor discovery there is no IPv6.
    iifname "wan" meta l4proto ipv6-icmp accept
    iifname "wan" drop
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "wan" ct state established,related accept
    iifname "wan" ct status dnat accept
    iifname "wan" drop
  }
}
"""

_MASQUERADE = """
table ip nat {
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "wan" masquerade HOW
  }
}
"""

_FORWARD = """
table ip forwarded {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip daddr OUTER udp dport 4001 dnat to 192.168.1.2:4001
    ip daddr OUTER udp dport 4002 dnat to 192.168.1.3:4002
  }
  chain postrouting {
    type nat hook postrouting priority 90;
    oifname "lan" ip saddr 192.168.1.0/24 ip daddr 192.168.1.0/24 snat to OUTER
  }
}
"""

# RFC 4787 requirement 9: a home reaches another one at its mapped address, and is seen at its own mapped
# address. The kernel has no such NAT: the rules note the mappings, all of which keep the home's port.
_HAIRPIN = """
table ip hairpin {
  map homes {
    type inet_service : ipv4_addr
    size 1024
    flags dynamic,timeout
    timeout 120s
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "lan" oifname "wan" meta l4proto udp update @homes { udp sport : ip saddr }
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    iifname "lan" ip daddr OUTER meta l4proto udp dnat to udp dport map @homes
  }
  chain postrouting {
    type nat hook postrouting priority 90;
    oifname "lan" ip saddr 192.168.1.0/24 ip daddr 192.168.1.0/24 snat to OUTER
  }
}
"""

ROUTER_KINDS = {
    kind.name: kind
    for kind in (
        Router("none", "no router: a public address"),
        Router("drop", "masquerade, input dropped: a home router", _MASQUERADE.replace("HOW", "") + _DROP),
        Router(
            "accept",
            "masquerade, input accepted: a packet that is too early keeps the port from being mapped",
            _MASQUERADE.replace("HOW", ""),
        ),
        Router(
            "symmetric",
            "masquerade to a random port for each destination, input dropped",
            _MASQUERADE.replace("HOW", "fully-random") + _DROP,
        ),
        Router(
            "forwarded",
            "masquerade, input dropped, the home's port forwarded: as a full cone",
            _MASQUERADE.replace("HOW", "") + _DROP + _FORWARD,
        ),
        Router(
            "hairpin",
            "masquerade, input dropped; homes reach each other at their mapped addresses (RFC 4787)",
            _MASQUERADE.replace("HOW", "") + _DROP + _HAIRPIN,
        ),
        Router(
            "short",
            "as drop, and a UDP mapping ends after 5 s of silence; the connection must last for 15 s of it",
            _MASQUERADE.replace("HOW", "") + _DROP,
            udp_timeout=5,
        ),
        Router("firewall", "no NAT: a stateful firewall that drops what nobody asked for", _DROP, False),
        Router("firewall6", "the same firewall, over IPv6", _DROP, is_nat=False, is_ipv6=True),
    )
}


@dataclass
class Home:
    """Where a peer lives: its machine, and the multiaddr that it listens on."""

    machine: Machine
    listen: str


@dataclass
class Town:
    relay: Home
    homes: tuple[Home, Home]
    routers: tuple[Machine, ...]
    # Joins the networks, each at one of the interfaces.
    wan: Machine
    interfaces: tuple[str, ...]


def missing() -> str | None:
    """Why the laboratory cannot run here; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool, package in (("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is missing: apt-get install {package}"
    return None


def _router(machine: Machine, kind: Router, outer: str) -> None:
    _forward(machine)
    if kind.rules:
        machine.run("nft -f -", kind.rules.replace("OUTER", outer))
    if kind.udp_timeout is not None:
        for name in ("udp_timeout", "udp_timeout_stream"):
            machine.run(f"sysctl -qw net.netfilter.nf_conntrack_{name}={kind.udp_timeout}")


def _forward(machine: Machine) -> None:
    machine.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")


@contextmanager
def town(kinds: tuple[str, str], is_shared: bool = False) -> Iterator[Town]:
    """A relay and two homes behind routers of these kinds; with ``is_shared`` behind the first.

    Raises LaboratoryError if the system refuses namespaces or rules.
    """
    made: list[Machine] = []
    try:
        try:
            built = _built(made, kinds, is_shared)
        except (OSError, subprocess.CalledProcessError) as error:
            raise LaboratoryError(f"the system refuses a network: {error}") from error
        # An error of a program that runs in it is not one of the network.
        yield built
    finally:
        for each in made:
            each.close()


def _built(made: list[Machine], kinds: tuple[str, str], is_shared: bool) -> Town:
    """Each of its machines is in ``made``, also if it raises."""

    def machine() -> Machine:
        made.append(Machine())
        return made[-1]

    wan, at_relay = machine(), machine()
    _forward(wan)
    _join(wan, "relay", "11.0.1.1/24", at_relay, f"{RELAY}/24", "11.0.1.1")
    if any(ROUTER_KINDS[name].is_ipv6 for name in kinds):
        _address6(wan, "relay", at_relay, "wan", RELAY6)
        relay = Home(at_relay, f"/ip6/{RELAY6}/udp/4001/quic-v1")
    else:
        relay = Home(at_relay, f"/ip4/{RELAY}/udp/4001/quic-v1")
    homes: list[Home] = []
    interfaces = ["relay"]
    routers: list[Machine] = []
    for number, name in enumerate(kinds):
        kind, outer = ROUTER_KINDS[name], ROUTERS[number]
        at_home, port = machine(), PORTS[number]
        net = outer.rsplit(".", 1)[0]
        if not (is_shared and number):
            interfaces.append(f"to{number}")
        if name == "none":
            _join(wan, f"to{number}", f"{net}.1/24", at_home, f"{outer}/24", f"{net}.1")
            homes.append(Home(at_home, f"/ip4/{outer}/udp/{port}/quic-v1"))
            continue
        inner = f"192.168.1.{number + 2}"
        if is_shared and number:
            _plug(routers[0], at_home, f"{inner}/24")
            homes.append(Home(at_home, f"/ip4/{inner}/udp/{port}/quic-v1"))
            continue
        router = machine()
        routers.append(router)
        _join(wan, f"to{number}", f"{net}.1/24", router, f"{outer}/24", f"{net}.1")
        if kind.is_nat:
            router.ip("link add lan type bridge")
            router.ip("link set lan up")
            router.ip("addr add 192.168.1.1/24 dev lan")
            _plug(router, at_home, f"{inner}/24")
        else:
            # The home has a public address of its own behind the firewall.
            router.link("lan", at_home, "eth0")
            if kind.is_ipv6:
                inner = f"2a00:11:{number + 12}::2"
                outer6 = f"2a00:11:{number + 2}::2"
                _address6(wan, f"to{number}", router, "wan", outer6)
                _address6(router, "lan", at_home, "eth0", inner)
                wan.ip(f"route add 2a00:11:{number + 12}::/64 via {outer6}")
                _router(router, kind, outer)
                homes.append(Home(at_home, f"/ip6/{inner}/udp/{port}/quic-v1"))
                continue
            inner = f"11.0.{number + 12}.2"
            router.ip(f"addr add 11.0.{number + 12}.1/24 dev lan")
            at_home.ip(f"addr add {inner}/24 dev eth0")
            at_home.ip(f"route add default via 11.0.{number + 12}.1")
            wan.ip(f"route add 11.0.{number + 12}.0/24 via {outer}")
        _router(router, kind, outer)
        homes.append(Home(at_home, f"/ip4/{inner}/udp/{port}/quic-v1"))
    return Town(relay, (homes[0], homes[1]), tuple(routers), wan, tuple(interfaces))


def _join(wan: Machine, device: str, gateway: str, machine: Machine, address: str, via: str) -> None:
    wan.link(device, machine, "wan")
    wan.ip(f"addr add {gateway} dev {device}")
    machine.ip(f"addr add {address} dev wan")
    machine.ip(f"route add default via {via}")


def _address6(near: Machine, near_device: str, far: Machine, far_device: str, address: str) -> None:
    """Give ``far`` this IPv6 address, and ``near`` the first one of the same network, as its gateway."""
    gateway = f"{address.rpartition('::')[0]}::1"
    near.ip(f"addr add {gateway}/64 dev {near_device}")
    far.ip(f"addr add {address}/64 dev {far_device}")
    far.ip(f"-6 route add default via {gateway}")


def _plug(router: Machine, home: Machine, address: str) -> None:
    """Connect a home to the router's switch."""
    device = f"port{address.split('.')[3].split('/')[0]}"
    router.link(device, home, "eth0")
    router.ip(f"link set {device} master lan")
    home.ip(f"addr add {address} dev eth0")
    home.ip("route add default via 192.168.1.1")
