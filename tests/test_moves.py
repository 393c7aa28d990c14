"""Connections whose addresses change in mid-transfer: a laptop that changes networks, NATs that forget
their mappings or get another public address, and a process that is suspended.

Each in both directions of the transfer, over IPv4 and, where no NAT is in between, over IPv6. In network
namespaces with real interfaces, routes and NATs, which need root. The same in virtual time is in
crates/engine/tests/simulation/paths.rs. Holes are punched by the engine, as DCUtR's listener has it do;
the exchange through a relay that comes before is in test_hole_punching.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.network.stream.exceptions import StreamEOF, StreamError
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from libp2p_quic import QUICTransportConfig
from testkit.census import eventually
from testkit.delayed_link import DelayedLink, delayed_link
from testkit.far import FarHost, far_host
from testkit.machines import Machine, machines
from testkit.near import IP4, connection, gone, inbound, near_host, swarm, transport_of
from testkit.payload import BLOCK, MIB, blocks, payload
from testkit.quickest import quickest_takes
from testkit.relay import Relay
from testkit.routers import drop_unasked, forget_mappings, masquerade
from tools.nat.network import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="the delayed link needs /dev/net/tun"),
]

# Half a round trip. Long, so that three round trips are far more than a busy machine's delays. Seconds.
DELAY = 0.15
# Round trips from the first packet that passes after a move until bytes are read.
MOST_ROUND_TRIPS = 3
# With a keep-alive after a third of it. Seconds.
IDLE_TIMEOUT = 3.0
KEEP_ALIVE = IDLE_TIMEOUT / 3
# Time from the last packet that arrived until the connection is lost, at most: the idle timer restarts once
# more with the next ack-eliciting packet that is sent (RFC 9000 section 10.1), at the latest the keep-alive.
LOST_WITHIN = KEEP_ALIVE + IDLE_TIMEOUT
# For a busy machine: less than an idle timeout, so that one that begins again is too late. Seconds.
SLACK = 2.5
CONFIG = {"idle_timeout": IDLE_TIMEOUT, "connection_timeout": 5.0}
SIZE = MIB
# The public addresses of both NATs, and those that they may get.
OUTER, OTHER = {"near": "11.0.1.1", "far": "11.0.2.1"}, {"near": "11.0.1.9", "far": "11.0.2.9"}
# The private networks behind each router, the first one at the beginning.
NETS = {"near": (1, 5), "far": (2, 6)}
# The length of a network's prefix.
PREFIX = {4: 24, 6: 64}
PORT = 4001
# What the listener's NAT maps after a move.
OTHER_PORT = 30_001

_FORWARD = """
table ip forwarded
delete table ip forwarded
table ip forwarded {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip daddr OUTER udp dport 4001 dnat to INSIDE:4001
  }
}
"""


def private(family: int, net: int, host: int) -> str:
    """An address in one of the private networks."""
    return f"192.168.{net}.{host}" if family == 4 else f"fd00:{net}::{host}"


class Between(Enum):
    ROUTES = "both machines have addresses that the other one reaches"
    FORWARDED = "both are behind NATs, and the listener's forwards its port"
    PUNCHED = "both are behind NATs that drop what nobody asked for, and the listener punches"


@dataclass
class Topology:
    """A dialer and a listener, each behind a router, and the link between these. ``family``: 4 or 6."""

    dialer: Machine
    near: Machine
    far: Machine
    listener: Machine
    link: DelayedLink
    between: Between
    family: int
    is_moved: set[str] = field(default_factory=set)
    # The listener's port, as the dialer reaches it.
    port: int = PORT

    @property
    def has_nat(self) -> bool:
        return self.between is not Between.ROUTES

    @property
    def wildcard(self) -> str:
        """The multiaddr that both sides listen on."""
        return f"/ip{self.family}/{'0.0.0.0' if self.family == 4 else '::'}/udp/{PORT}/quic-v1"

    @property
    def target(self) -> str:
        """The listener's multiaddr for the dialer now."""
        if self.has_nat:
            host = (OTHER if "far" in self.is_moved else OUTER)["far"]
        else:
            host = private(self.family, NETS["far"]["listener" in self.is_moved], 2)
        return f"/ip{self.family}/{host}/udp/{self.port}/quic-v1"

    def source(self) -> str:
        """The address of the dialer's packets on the link now."""
        if self.has_nat:
            return (OTHER if "near" in self.is_moved else OUTER)["near"]
        return private(self.family, NETS["near"]["dialer" in self.is_moved], 2)

    # What may happen

    def replace_dialers_address(self) -> None:
        self.is_moved.add("dialer")
        self._replace_address(self.dialer, "near")

    def replace_listeners_address(self) -> None:
        self.is_moved.add("listener")
        self._replace_address(self.listener, "far")

    def _replace_address(self, machine: Machine, side: str) -> None:
        before, after = NETS[side]
        length = PREFIX[self.family]
        machine.ip(f"addr del {private(self.family, before, 2)}/{length} dev eth0")
        machine.ip(f"addr add {private(self.family, after, 2)}/{length} dev eth0")
        # The old route is gone with its address in IPv4 only.
        machine.ip(f"-{self.family} route replace default via {private(self.family, after, 1)}")

    def replace_both_addresses(self) -> None:
        self.replace_dialers_address()
        self.replace_listeners_address()

    def forget_near(self) -> None:
        """The mapping that comes next has another port."""
        masquerade(self.near, "to :30000-30999")
        forget_mappings(self.near)

    def forget_far(self) -> None:
        """The same mapping comes back: the port is forwarded, or else free for the listener's next packet."""
        forget_mappings(self.far)

    def remap_far(self) -> None:
        """The next mapping has another port; a dialer does not follow a listener (RFC 9000 section 9)."""
        self.port = OTHER_PORT
        masquerade(self.far, f"to :{OTHER_PORT}")
        forget_mappings(self.far)

    def readdress_near(self) -> None:
        self._readdress(self.near, "near")

    def readdress_far(self) -> None:
        forward(self.far, OTHER["far"])
        self._readdress(self.far, "far")

    def _readdress(self, router: Machine, name: str) -> None:
        self.is_moved.add(name)
        router.ip(f"addr add {OTHER[name]}/32 dev wan")
        router.ip(f"addr del {OUTER[name]}/32 dev wan")
        forget_mappings(router)


def forward(router: Machine, outer: str) -> None:
    """The listener's port."""
    inside = private(4, NETS["far"][0], 2)
    router.run("nft -f -", _FORWARD.replace("INSIDE", inside).replace("OUTER", outer))


@contextmanager
def path(between: Between, family: int) -> Iterator[Topology]:
    """NATs in IPv4 only."""
    length = PREFIX[family]
    with machines(4) as (dialer, near, far, listener), delayed_link(near, far, "wan", DELAY) as link:
        for machine, router, net in ((dialer, near, NETS["near"]), (listener, far, NETS["far"])):
            router.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
            router.link("lan", machine, "eth0")
            for number in net:
                router.ip(f"addr add {private(family, number, 1)}/{length} dev lan")
            machine.ip(f"addr add {private(family, net[0], 2)}/{length} dev eth0")
            machine.ip(f"-{family} route add default via {private(family, net[0], 1)}")
        for name, router, other in (("near", near, "far"), ("far", far, "near")):
            router.ip(f"addr add {OUTER[name]}/32 dev wan")
            for address in (OUTER[other], OTHER[other]):
                router.ip(f"route add {address} dev wan")
            for number in NETS[other]:
                router.ip(f"-{family} route add {private(family, number, 0)}/{length} dev wan")
            if between is not Between.ROUTES:
                masquerade(router)
            if between is Between.PUNCHED:
                drop_unasked(router)
        if between is Between.FORWARDED:
            forward(far, OUTER["far"])
        yield Topology(dialer, near, far, listener, link, between, family)


@dataclass
class Transfer:
    """Sends a payload from one end of a stream to the other, and notes when what was read."""

    reads: list[tuple[float, int]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    end: str = ""
    sent: str = ""
    ended: float = 0.0

    async def send(self, stream: INetStream, data: bytes) -> None:
        try:
            for block in blocks(data):
                await stream.write(block)
            await stream.close_write()  # type: ignore[attr-defined]
        except StreamError as error:
            self.sent = type(error).__name__

    async def receive(self, stream: INetStream) -> None:
        try:
            while True:
                self.data += (part := await stream.read(BLOCK))
                self.reads.append((time.monotonic(), len(part)))
        except (StreamEOF, StreamError) as error:
            self.end, self.ended = type(error).__name__, time.monotonic()

    async def has_begun(self, size: int) -> None:
        assert await eventually(lambda: len(self.data) >= size)

    def first_read_after(self, when: float) -> float | None:
        return next((at for at, _ in self.reads if at > when), None)

    async def read_after(self, when: float) -> float:
        """When the first bytes after that time were read."""
        assert await eventually(lambda: self.first_read_after(when) is not None)
        found = self.first_read_after(when)
        assert found is not None
        return found


@dataclass
class Ends:
    dialer: IHost
    listener: IHost

    async def streams(self, is_upload: bool) -> tuple[INetStream, INetStream]:
        """The sender's and the receiver's end of a stream that the dialer opened."""
        accepted, arrived = trio.open_memory_channel[INetStream](1)

        async def park(stream: INetStream) -> None:
            await accepted.send(stream)

        self.listener.set_stream_handler("/test/move", park)  # type: ignore[arg-type]
        ours = await self.dialer.new_stream(self.listener.get_id(), ["/test/move"])  # type: ignore[list-item]
        theirs = await arrived.receive()
        return (ours, theirs) if is_upload else (theirs, ours)


@asynccontextmanager
async def connected(along: Topology) -> AsyncIterator[Ends]:
    """Hosts that listen on wildcards, and the dialer's connection, in these machines."""
    async with near_host(config=CONFIG) as dialer, near_host(config=CONFIG) as listener:
        for host, machine in ((dialer, along.dialer), (listener, along.listener)):
            with machine.entered():
                await host.get_network().listen(Multiaddr(along.wildcard))
        await dial(along, dialer, listener)
        yield Ends(dialer, listener)


async def dial(along: Topology, dialer: IHost, listener: IHost) -> None:
    # py-libp2p dials only the first address that it knows.
    dialer.get_peerstore().clear_addrs(listener.get_id())
    with punching(along, dialer, listener):
        with along.dialer.entered():
            await dialer.connect(PeerInfo(listener.get_id(), [Multiaddr(along.target)]))
        await inbound(listener, dialer.get_id())


@contextmanager
def punching(along: Topology, dialer: IHost, listener: IHost) -> Iterator[None]:
    """The listener punches to the dialer, if it has to."""
    if along.between is not Between.PUNCHED:
        yield
        return
    waiter = transport_of(listener)._open_endpoint().engine.next_inbound(dialer.get_id().to_bytes())
    try:
        with along.listener.entered():
            waiter.punch(along.source(), PORT, 5.0)
        yield
    finally:
        waiter.close()


Cases = dict[str, tuple[Between, Callable[[Topology], None]]]

GOES_ON: Cases = {
    "the dialer's address is replaced": (Between.ROUTES, Topology.replace_dialers_address),
    "the dialer's NAT forgets its mappings": (Between.FORWARDED, Topology.forget_near),
    "the listener's NAT forgets its mappings": (Between.FORWARDED, Topology.forget_far),
    "the listener's NAT forgets a punched hole": (Between.PUNCHED, Topology.forget_far),
    "the dialer's NAT gets another address": (Between.FORWARDED, Topology.readdress_near),
}

IS_LOST: Cases = {
    "the listener's address is replaced": (Between.ROUTES, Topology.replace_listeners_address),
    "both addresses are replaced": (Between.ROUTES, Topology.replace_both_addresses),
    "the listener's NAT gets another address": (Between.FORWARDED, Topology.readdress_far),
    "the listener's NAT maps another port than the punched one": (Between.PUNCHED, Topology.remap_far),
}


def by_family(moves: Cases) -> pytest.MarkDecorator:
    """Parametrize by these moves, over IPv4, and without a NAT over IPv6 too."""
    cases = [
        pytest.param(move, family, id=f"{move}, IPv{family}")
        for move, (between, _) in moves.items()
        for family in ((4, 6) if between is Between.ROUTES else (4,))
    ]
    return pytest.mark.parametrize(("move", "family"), cases)


BOTH_WAYS = pytest.mark.parametrize("is_upload", [True, False], ids=["to the listener", "to the dialer"])


@by_family(GOES_ON)
@BOTH_WAYS
@quickest_takes(MOST_ROUND_TRIPS)
async def test_the_transfer_goes_on(move: str, family: int, is_upload: bool) -> float:
    between, happens = GOES_ON[move]
    data = payload(1, SIZE)
    with path(between, family) as along:
        async with connected(along) as ends, trio.open_nursery() as nursery:
            sender, receiver = await ends.streams(is_upload)
            accepted = connection(ends.listener, ends.dialer.get_id())
            transfer = Transfer()
            nursery.start_soon(transfer.send, sender, data)
            nursery.start_soon(transfer.receive, receiver)
            await transfer.has_begun(SIZE // 8)
            before, cut = accepted.get_remote_address(), time.monotonic()
            along.link.cut()
            if between is Between.PUNCHED:
                # Later than max_ack_delay, so that no late acknowledgment maps the port again at once.
                await trio.sleep(0.1)  # scenario: the listener is silent when its NAT forgets the mapping
            # In a thread, so that what has arrived is read meanwhile.
            await trio.to_thread.run_sync(happens, along)
            mended = along.link.mend()
            if mended - cut > IDLE_TIMEOUT / 2:
                # The machine was too busy to move in time: probes are far apart now, and the timeout is near.
                nursery.cancel_scope.cancel()
                return math.inf
            assert len(transfer.data) < SIZE // 2, "the transfer was over too early"
            assert await eventually(lambda: bool(transfer.end))
            assert (transfer.end, transfer.data == data) == ("StreamEOF", True)

            # Only the listener's own packet maps its port again; until then the dialer's are dropped.
            opener = OUTER["far"] if between is Between.PUNCHED else along.source()
            first = along.link.first_since(mended, opener)
            assert first is not None
            resumed = await transfer.read_after(first.at)
            round_trips = (resumed - first.at) / along.link.round_trip
            print(f"{move}: {first.at - mended:.2f} s, then {round_trips:.2f} round trips")

            # Both ends know the address that the packets come from now.
            now = accepted.get_remote_address()
            assert (before != now) == (happens is not Topology.forget_far)
            assert first.source == ((opener, PORT) if between is Between.PUNCHED else now)
            (listed,) = swarm(ends.listener).get_connections(ends.dialer.get_id())
            host, port = now
            current = [Multiaddr(f"/ip{family}/{host}/udp/{port}/quic-v1")]
            assert accepted.get_transport_addresses() == current
            assert await eventually(lambda: listed.get_transport_addresses() == current)
            # A dialed listener does not move (RFC 9000 section 9).
            (dialed,) = swarm(ends.dialer).get_connections(ends.listener.get_id())
            (told,) = dialed.get_transport_addresses()
            assert str(told).partition("/p2p/")[0] == along.target
            stream = receiver if is_upload else sender
            assert stream.get_remote_address() == now
    return round_trips


@pytest.mark.parametrize("family", [4, 6])
async def test_an_idle_dialer_tells_its_new_address_before_its_keep_alive(family: int) -> None:
    """The engine of its process watches the machine's addresses, so that it can be sent to at once."""
    keep_alive = 30.0
    patient = {"idle_timeout": 3 * keep_alive, "keep_alive_interval": keep_alive}
    with path(Between.ROUTES, family) as along:
        async with (
            near_host(config=patient) as listener,
            far_host(config=patient, machine=along.dialer) as dialer,
        ):
            with along.listener.entered():
                await listener.get_network().listen(Multiaddr(along.wildcard))
            accepted, arrived = trio.open_memory_channel[INetStream](1)

            async def park(stream: INetStream) -> None:
                await accepted.send(stream)

            listener.set_stream_handler("/test/park", park)  # type: ignore[arg-type]
            await dialer.do("connect", address=f"{along.target}/p2p/{listener.get_id()}")
            theirs = await dialer.do("open", peer=str(listener.get_id()), protocol="/test/park")
            stream = await arrived.receive()
            await trio.sleep(10 * along.link.round_trip)  # scenario: nothing is under way any more
            along.link.cut()
            await trio.to_thread.run_sync(along.replace_dialers_address)
            mended = along.link.mend()
            await stream.write(b"a message")
            assert bytes.fromhex(await dialer.do("read", stream=theirs, n=9, within=100)) == b"a message"
            took = time.monotonic() - mended
            print(f"a message arrives after {took:.2f} s")
            assert took < keep_alive / 2
            host, port = connection(listener, dialer.peer_id).get_remote_address()
            assert host == along.source()
            (listed,) = swarm(listener).get_connections(dialer.peer_id)
            current = [Multiaddr(f"/ip{family}/{host}/udp/{port}/quic-v1")]
            assert await eventually(lambda: listed.get_transport_addresses() == current)


@by_family(IS_LOST)
@BOTH_WAYS
async def test_the_connection_is_lost_in_time_and_the_next_dial_works(
    move: str, family: int, is_upload: bool
) -> None:
    between, happens = IS_LOST[move]
    with path(between, family) as along:
        async with connected(along) as ends, trio.open_nursery() as nursery:
            sender, receiver = await ends.streams(is_upload)
            transfer = Transfer()
            nursery.start_soon(transfer.send, sender, payload(1, SIZE))
            nursery.start_soon(transfer.receive, receiver)
            await transfer.has_begun(SIZE // 8)
            await trio.to_thread.run_sync(happens, along)
            moved = time.monotonic()
            # What is under way arrives within half a round trip.
            limit = LOST_WITHIN + along.link.round_trip / 2 + SLACK
            await gone(ends.dialer, ends.listener.get_id(), limit)
            await gone(ends.listener, ends.dialer.get_id(), max(0, limit - (time.monotonic() - moved)))
            print(f"{move}: lost after {time.monotonic() - moved:.2f} s")
            assert await eventually(lambda: bool(transfer.end))
            assert transfer.end == "StreamReset"
            assert len(transfer.data) < SIZE

            await dial(along, ends.dialer, ends.listener)
            sender, receiver = await ends.streams(is_upload)
            again = Transfer()
            nursery.start_soon(again.send, sender, b"again")
            await again.receive(receiver)
            assert (bytes(again.data), again.end) == (b"again", "StreamEOF")


# A suspended process


@dataclass
class Suspended:
    """A host of this process and one that can be suspended, connected through a network with a delay."""

    near: IHost
    far: FarHost
    round_trip: float

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self.far.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.far.process.send_signal(signal.SIGCONT)

    async def streams(self, is_far_dialer: bool) -> tuple[INetStream, int]:
        if is_far_dialer:
            accepted, arrived = trio.open_memory_channel[INetStream](1)

            async def park(stream: INetStream) -> None:
                await accepted.send(stream)

            self.near.set_stream_handler("/test/park", park)  # type: ignore[arg-type]
            theirs = await self.far.do("open", peer=str(self.near.get_id()), protocol="/test/park")
            return await arrived.receive(), theirs
        ours = await self.near.new_stream(self.far.peer_id, ["/test/park"])  # type: ignore[list-item]
        return ours, await self.far.do("arrived")


@asynccontextmanager
async def suspendable(is_far_dialer: bool, config: dict[str, Any]) -> AsyncIterator[Suspended]:
    options = ("--delay", f"{DELAY * 1000:.0f}ms", "--rate", "8Mbit/s")
    async with near_host(IP4, config=config) as near, far_host(config=config) as far:
        listener = near.get_addrs()[0] if is_far_dialer else Multiaddr(far.addresses[0])
        async with Relay.to(listener, *options) as relay:
            if is_far_dialer:
                await far.do("connect", address=f"{relay.address}/p2p/{near.get_id()}")
                await inbound(near, far.peer_id)
            else:
                await near.connect(PeerInfo(far.peer_id, [relay.address]))
            yield Suspended(near, far, 2 * DELAY)


FAR_DIALS = pytest.mark.parametrize("is_far_dialer", [True, False], ids=["the dialer", "the listener"])
# A minute of suspension is twice the default idle timeout of 30 s; here both are a tenth.
SHORT, LONG = IDLE_TIMEOUT / 2, 2 * IDLE_TIMEOUT
# Bytes that the far process reads at once: less than two packets, with which a sender may begin again.
PIECE = 2048


@FAR_DIALS
@pytest.mark.parametrize("is_far_sender", [True, False], ids=["sends", "receives"])
@quickest_takes(MOST_ROUND_TRIPS)
async def test_a_process_suspended_for_half_the_idle_timeout_goes_on(
    is_far_dialer: bool, is_far_sender: bool
) -> float:
    async with suspendable(is_far_dialer, CONFIG) as both, trio.open_nursery() as nursery:
        ours, theirs = await both.streams(is_far_dialer)
        conn = connection(both.near, both.far.peer_id)
        transfer, sent = Transfer(), payload(2, 2 * SIZE)

        async def far_works() -> None:
            if is_far_sender:
                await both.far.do("write", stream=theirs, seed=2, size=len(sent))
                await both.far.do("close_write", stream=theirs)
                return
            while len(transfer.data) < len(sent):
                n = min(PIECE, len(sent) - len(transfer.data))
                transfer.data += bytes.fromhex(await both.far.do("read", stream=theirs, n=n))
                transfer.reads.append((time.monotonic(), n))
            transfer.end = (await both.far.do("drain", stream=theirs))["end"]

        nursery.start_soon(far_works)
        nursery.start_soon(*((transfer.receive, ours) if is_far_sender else (transfer.send, ours, sent)))
        moved = "bytes_received" if is_far_sender else "bytes_sent"
        assert await eventually(lambda: conn.statistics()._asdict()[moved] > SIZE // 2)
        stopped = time.monotonic()
        with both.stopped():
            await trio.sleep(SHORT)  # scenario: suspended for half the idle timeout
        resumed = time.monotonic()
        if resumed - stopped > 1.5 * SHORT:
            # The machine was too busy to resume it in time.
            nursery.cancel_scope.cancel()
            return math.inf
        # Until then only bytes arrive that were sent before, and those in its socket are read.
        flowing = await transfer.read_after(resumed + both.round_trip / 2)
        assert await eventually(lambda: bool(transfer.end))
        assert (transfer.end, transfer.data == sent) == ("StreamEOF", True)
        round_trips = (flowing - resumed) / both.round_trip
        print(f"bytes flow after {round_trips:.2f} round trips, all after {time.monotonic() - resumed:.2f} s")
        assert connection(both.near, both.far.peer_id) is conn
    return round_trips


@FAR_DIALS
async def test_a_process_suspended_for_twice_the_idle_timeout_is_lost_and_dials_again(
    is_far_dialer: bool,
) -> None:
    await suspend_until_lost(is_far_dialer, CONFIG, LOST_WITHIN, LONG)


async def test_with_default_settings_a_suspended_dialer_is_lost_and_dials_again() -> None:
    """Suspended for 40 s: longer than the idle timeout of 30 s and a keep-alive interval, as a minute is."""
    default = QUICTransportConfig()
    assert default.keep_alive_interval is not None
    lost_within = default.idle_timeout + default.keep_alive_interval
    await suspend_until_lost(True, {}, lost_within, lost_within + 5)


async def suspend_until_lost(
    is_far_dialer: bool, config: dict[str, Any], lost_within: float, suspension: float
) -> None:
    async with suspendable(is_far_dialer, config) as both, trio.open_nursery() as nursery:
        ours, theirs = await both.streams(is_far_dialer)
        transfer = Transfer()
        nursery.start_soon(transfer.send, ours, payload(2, 2 * SIZE))
        with both.stopped():
            stopped = time.monotonic()
            # What is under way arrives within half a round trip.
            await gone(both.near, both.far.peer_id, lost_within + both.round_trip / 2 + SLACK)
            print(f"lost after {time.monotonic() - stopped:.2f} s")
            await trio.sleep(max(0, stopped + suspension - time.monotonic()))  # scenario: suspended
        assert (await both.far.do("drain", stream=theirs))["end"] == "StreamReset"
        assert await both.far.do("parted", peer=str(both.near.get_id()))
        if is_far_dialer:
            await both.far.do("connect", address=f"{both.near.get_addrs()[0]}")
        else:
            both.near.get_peerstore().clear_addrs(both.far.peer_id)
            await both.near.connect(both.far.info)
        assert await both.far.do("ping", peer=str(both.near.get_id()), count=1) == 1
