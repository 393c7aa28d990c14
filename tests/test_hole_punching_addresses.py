"""Which addresses a host offers to be punched to, and which of a peer's it dials or punches to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from libp2p.abc import IHost, INetConn
from libp2p.host.observed_addr_manager import ObservedAddrManager
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from libp2p_quic._hole_punching._candidates import own_addresses, public_addresses, usable_addresses
from testkit.near import quic

# What a peer's list of addresses may name


def test_only_public_user_ports_of_others_are_punched_to() -> None:
    own = quic("11.0.2.2|4001")
    good = [("11.0.3.2", 4002), ("2a00::1", 1024)]
    offered = quic(
        "11.0.3.2|4002",
        "11.0.3.2|4002",
        "2a00::1|1024",
        "11.0.2.2|4001",
        "11.0.3.2|1023",
        "11.0.3.2|53",
        "127.0.0.1|4001",
        "::1|4001",
        "10.0.0.1|4001",
        "192.168.1.1|4001",
        "100.64.0.1|4001",
        "169.254.1.1|4001",
        "fe80::1|4001",
        "224.0.0.1|4001",
        "0.0.0.0|4001",
    )
    offered += [
        Multiaddr(each) for each in ("/ip4/11.0.3.2/tcp/4002", "/dns4/victim.example/udp/4001/quic-v1")
    ]
    assert usable_addresses(offered, own) == good


def test_private_addresses_are_punched_to_if_the_own_one_is_private() -> None:
    offered = quic("10.0.0.1|4001", "127.0.0.1|4001", "11.0.0.1|4001")
    assert usable_addresses(offered, quic("10.9.9.9|4001")) == [("10.0.0.1", 4001), ("11.0.0.1", 4001)]


def test_at_most_eight_addresses_are_punched_to() -> None:
    offered = quic(*(f"11.0.3.{n}|4001" for n in range(1, 100)))
    assert len(usable_addresses(offered, quic("11.0.2.2|4001"))) == 8
    assert len(public_addresses(offered)) == 8


@pytest.mark.parametrize("raw", [b"", b"\x04", b"\xff\xff\xff\xff", b"\xa5\x03\x05abc"])
def test_unreadable_addresses_are_left_out(raw: bytes) -> None:
    offered = [Multiaddr(raw), *quic("11.0.3.2|4001")]
    assert usable_addresses(offered, quic("11.0.2.2|4001")) == [("11.0.3.2", 4001)]
    assert public_addresses(offered) == [("11.0.3.2", 4001)]


def test_only_public_addresses_are_dialed_without_a_punch() -> None:
    told = quic("11.0.3.2|443", "10.0.0.1|4001", "127.0.0.1|4001", "fe80::1|4001", "2a00::1|4001")
    assert public_addresses(told) == [("11.0.3.2", 443), ("2a00::1", 4001)]


def test_at_most_two_ports_of_one_address_are_punched_to() -> None:
    """All ports of a victim's address would be a scan of it."""
    offered = quic(*(f"11.0.3.2|{port}" for port in range(4001, 4009)), "11.0.3.3|4001")
    good = [("11.0.3.2", 4001), ("11.0.3.2", 4002), ("11.0.3.3", 4001)]
    assert usable_addresses(offered, quic("11.0.2.2|4001")) == good
    assert public_addresses(offered) == good


def test_ipv4_addresses_written_as_ipv6_are_judged_as_ipv4() -> None:
    own = quic("10.0.0.9|4001")
    assert usable_addresses(quic("::ffff:127.0.0.1|4001", "::ffff:169.254.1.1|4001"), own) == []
    assert usable_addresses(quic("::ffff:11.0.3.2|4001"), own) == [("11.0.3.2", 4001)]
    assert usable_addresses(quic("::ffff:10.0.0.9|4001"), own) == []


# What peers report of the host's own address


class Observer:
    """A connection whose peer reports our address."""

    def __init__(self, direction: Direction, remote: str, reported: str) -> None:
        self.direction = direction
        self.muxed_conn = SimpleNamespace(get_remote_address=lambda: (remote, 4001))
        self.reported = reported


class Observed:
    """The addresses of a host."""

    def __init__(self, *observers: Observer, listening: str = "0.0.0.0|4001", advertised: str = "") -> None:
        self.observers = observers
        self._observed_addr_manager = ObservedAddrManager()
        self.advertised = advertised
        self.listening = listening
        for each in observers:
            self._observed_addr_manager.record_observation(
                cast(INetConn, each), quic(each.reported)[0], quic(listening)
            )

    def get_transport_addrs(self) -> list[Multiaddr]:
        return quic(self.listening)

    def get_addrs(self) -> list[Multiaddr]:
        if self.advertised == "fails":
            raise LookupError("an addrs_factory of the program")
        return quic(self.advertised) if self.advertised else self.get_transport_addrs()


@pytest.mark.parametrize(
    ("remote", "reported", "is_believed"),
    [
        ("11.0.1.2", "11.0.2.2|4001", True),
        ("11.0.1.2", "10.0.0.9|4001", False),
        ("::ffff:11.0.1.2", "10.0.0.9|4001", False),
        ("10.0.0.1", "10.0.0.9|4001", True),
        ("::ffff:10.0.0.1", "10.0.0.9|4001", True),
    ],
)
async def test_a_private_address_is_believed_from_a_private_one(
    remote: str, reported: str, is_believed: bool
) -> None:
    """It makes the host punch to the private addresses that any peer names."""
    host = Observed(Observer(Direction.OUTBOUND, remote, reported))
    assert await own_addresses(cast(IHost, host)) == (quic(reported) if is_believed else [])


async def test_reports_of_peers_that_came_in_displace_none_of_those_that_we_dialed() -> None:
    false = [Observer(Direction.INBOUND, f"11.0.9.{n}", f"11.0.8.{n}|4001") for n in range(1, 31)]
    host = Observed(
        *false, Observer(Direction.OUTBOUND, "11.0.1.2", "11.0.2.2|7001"), listening="11.0.4.2|4001"
    )
    found = await own_addresses(cast(IHost, host))
    assert found[:2] == quic("11.0.2.2|7001", "11.0.4.2|4001")
    assert len(found) == 8


async def test_the_reports_are_read_where_their_connections_are_unknown() -> None:
    host = Observed(Observer(Direction.OUTBOUND, "11.0.1.2", "11.0.2.2|4001"))
    # As another version of py-libp2p may name it.
    del host._observed_addr_manager._conn_observations
    assert await own_addresses(cast(IHost, host)) == quic("11.0.2.2|4001")


@pytest.mark.parametrize(
    ("advertised", "own"), [("11.0.5.2|4001", ["11.0.5.2|4001"]), ("10.0.0.1|4001", []), ("fails", [])]
)
async def test_public_addresses_that_the_host_advertises_are_offered(advertised: str, own: list[str]) -> None:
    host = Observed(advertised=advertised)
    assert await own_addresses(cast(IHost, host)) == quic(*own)
