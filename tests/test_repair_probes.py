"""Each repair of py-libp2p is probed for by behavior: it is made while the defect is there, and left out
where py-libp2p is right.

No release of py-libp2p is right yet. The functions here that are stand in for a future one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import trio
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import StreamHandlerFn
from libp2p.host.autonat.autonat import AutoNATService
from libp2p.identity.identify import identify
from libp2p.network.connection import swarm_connection
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.net_stream import NetStream
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.security.tls.io import TLSReadWriter
from libp2p.stream_muxer.yamux.yamux import YamuxStream
from libp2p.utils import varint
from multiaddr import Multiaddr

from libp2p_quic import _host_events, _host_stream, _peer_dial, enable_hole_punching
from libp2p_quic._hole_punching import _autonat, _identify, _responder, _service, _tls, _yamux, _yamux_locks
from libp2p_quic._repair import result_in_run
from testkit.census import collected
from testkit.near import IP4, installed, near_host, swarm

LOGGER = "libp2p_quic.hole_punching"
# What `enable_hole_punching` changes: ten repairs, and five additions.
CHANGES = 15
ADDITIONS = 5

# Each with the function that it asks once in a process.
PROBES: dict[ModuleType, str] = {
    _autonat: "_believes_an_old_connection",
    _identify: "_reported_by_stock",
    _responder: "_given_by_stock",
    _service: "_offered_by_stock",
    _tls: "_knows_its_connection",
    _yamux: "_updates_for_a_byte",
    _yamux_locks: "_is_taken_at_once",
    _host_events: "_is_told_in_same_task",
    _host_stream: "_reads_at_once",
}


def forget() -> None:
    for each in (*PROBES, _peer_dial):
        each._is_mended.cache_clear()


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing was probed or logged, and no host of an earlier test has py-libp2p's classes repaired."""
    collected(lambda: not (_tls._patch.is_applied or _host_events._patch.is_applied))
    monkeypatch.setattr("libp2p_quic._repair._told", set())
    forget()
    yield
    forget()


# A py-libp2p that is right


async def once_half_is_used(stream: Any, **_: int) -> None:
    used = stream.target_recv_window - stream.recv_window
    if used >= stream._grow_threshold():
        await stream.send_window_update(used, skip_lock=True)


def make_with_a_lock_that_does_not_wait(stream: Any, *arguments: Any) -> None:
    _yamux_locks._make_stream(stream, *arguments)
    stream.window_lock = AsyncExitStack()


async def read_at_once(stream: NetStream, n: int | None = None) -> bytes:
    return await stream.muxed_stream.read(n)


async def tell_in_turn(network: Any, method: str, *what: object) -> None:
    for each in network.notifees:
        await getattr(each, method)(network, *what)


def answer_with_its_own_address(host: IHost, _: bool = True) -> StreamHandlerFn:
    async def handle(stream: INetStream) -> None:
        connection: Any = stream.muxed_conn
        (address,) = connection.get_transport_addresses()
        message = identify._mk_identify_protobuf(host, address).SerializeToString()
        await stream.write(varint.encode_uvarint(len(message)) + message)
        await stream.close()

    return handle


async def dial_anew(*_: object) -> None:
    """Reaches nobody at the address of the probe, where nobody is."""


async def keep_what_was_dialed(network: Any, addr: Multiaddr, *_: object) -> object:
    dialed = await network.transport_manager.transport_for_dialing(addr).dial(addr)
    return await network.add_conn(dialed, direction="outbound")


async def offer_what_peers_observe(service: Any) -> list[bytes]:
    return [each.to_bytes() for each in service.host._observed_addr_manager.addrs(min_observers=1)]


async def dial_in_turn(network: Any, peer_id: ID) -> list[object]:
    for address in network.peerstore.addrs(peer_id):
        with suppress(SwarmException):
            return [await network.dial_addr(address, peer_id)]
    raise SwarmException("no address is left")


# Half of it


async def dial_the_first(network: Any, peer_id: ID) -> list[object]:
    return [await network.dial_addr(network.peerstore.addrs(peer_id)[0], peer_id)]


async def dial_in_turn_and_wait(network: Any, peer_id: ID) -> list[object]:
    found = await dial_in_turn(network, peer_id)
    with trio.move_on_after(0.25):
        await trio.Event().wait()
    return found


@dataclass(frozen=True)
class Mended:
    """A repair by the beginning of its text, with what makes it needless, and what it replaces."""

    what: str
    # What of py-libp2p is replaced by `right`: an attribute of a class or module, or this package's own
    # reference to it.
    owner: object
    name: str
    right: object
    repaired: Callable[[IHost], object]


MENDED = {
    "TLS": Mended(
        "connections that TLS secures know their addresses",
        TLSReadWriter,
        "conn",
        property(lambda secured: secured.stream_writer.raw_connection),
        lambda _: vars(TLSReadWriter).get("conn"),
    ),
    "yamux": Mended(
        "a read over yamux sends a window update",
        _yamux,
        "_stock",
        once_half_is_used,
        lambda _: vars(YamuxStream)[_yamux._METHOD],
    ),
    "yamux's locks": Mended(
        "a frame of yamux takes its free locks at once",
        YamuxStream,
        "__init__",
        make_with_a_lock_that_does_not_wait,
        lambda _: vars(YamuxStream)["__init__"],
    ),
    "streams": Mended(
        "a read or write of a stream takes the free lock",
        NetStream,
        "read",
        read_at_once,
        lambda _: vars(swarm_connection)["NetStream"],
    ),
    "events": Mended(
        "an event of a swarm begins a task",
        _host_events,
        "_stock",
        tell_in_turn,
        lambda _: vars(Swarm)["_notify"],
    ),
    "identify": Mended(
        "identify reports observed UDP addresses",
        identify,
        "identify_handler_for",
        answer_with_its_own_address,
        lambda host: host.get_mux().handlers[identify.ID],
    ),
    "AutoNAT": Mended(
        "AutoNAT dials the address",
        _autonat,
        "_stock",
        dial_anew,
        lambda _: vars(AutoNATService)["_try_dial"],
    ),
    "responder": Mended(
        "dial_addr_as_responder over QUIC punches",
        Swarm,
        "dial_addr_as_responder",
        keep_what_was_dialed,
        lambda host: vars(swarm(host)).get("dial_addr_as_responder"),
    ),
    "DCUtR": Mended(
        "py-libp2p's own DCUtR service",
        DCUtRProtocol,
        "_get_observed_addrs",
        offer_what_peers_observe,
        lambda _: vars(DCUtRProtocol)["run"],
    ),
}


@pytest.mark.parametrize("name", MENDED)
async def test_a_defect_that_is_there_today_is_repaired(name: str) -> None:
    mended = MENDED[name]
    async with near_host(IP4) as host:
        before = mended.repaired(host)
        enabled = enable_hole_punching(host)
        assert sum(each.startswith(mended.what) for each in enabled.repairs) == 1
        assert len(enabled.repairs) == CHANGES
        assert mended.repaired(host) is not before
        enabled.undo()
        assert mended.repaired(host) is before


@pytest.mark.parametrize("name", MENDED)
async def test_a_defect_that_py_libp2p_has_mended_is_left_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = MENDED[name]
    monkeypatch.setattr(mended.owner, mended.name, mended.right, raising=False)
    async with near_host(IP4) as host:
        before = mended.repaired(host)
        enabled = enable_hole_punching(host)
        assert not any(each.startswith(mended.what) for each in enabled.repairs)
        assert len(enabled.repairs) == CHANGES - 1
        assert mended.repaired(host) is before
        enabled.undo()
        assert mended.repaired(host) is before


@pytest.mark.parametrize(
    ("dial", "is_mended"), [(dial_in_turn, True), (dial_the_first, False), (dial_in_turn_and_wait, False)]
)
async def test_the_dial_is_repaired_unless_it_is_right_in_both(
    dial: Callable[..., object], is_mended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Swarm, "dial_peer", dial)
    with installed():
        async with near_host(IP4) as host:
            assert ("dial_peer" in vars(swarm(host))) is not is_mended


async def test_dials_and_streams_of_today_are_repaired_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "libp2p_quic.transport")
    with installed():
        for _ in range(2):
            async with near_host(IP4) as host:
                assert "dial_peer" in vars(swarm(host))
    streams, events, places, dials = [text for text in caplog.messages if "py-libp2p: " in text]
    assert streams.startswith("repaired in py-libp2p: a read or write of a stream takes the free lock")
    assert events.startswith("repaired in py-libp2p: an event of a swarm begins a task")
    assert places.startswith("repaired in py-libp2p: a new stream takes a free place")
    for each in (streams, places):
        assert ", since py-libp2p 0.8.1 waits for one pass of the scheduler" in each
    assert dials.startswith("repaired in py-libp2p: a peer is dialed at all its QUIC addresses")
    assert ", since py-libp2p 0.8.1 dials the first one only" in dials


async def test_a_process_probes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(name: str, probe: Callable[[], object]) -> object:
        asked.append(name)
        return probe()

    for module, name in PROBES.items():
        monkeypatch.setattr(module, name, partial(ask, name, getattr(module, name)))
    async with near_host(IP4) as one, near_host(IP4) as other:
        assert enable_hole_punching(one).repairs == enable_hole_punching(other).repairs
        assert sorted(asked) == sorted(PROBES.values())
        enable_hole_punching(one).undo()
        enable_hole_punching(other).undo()


async def test_each_change_is_logged_once_in_a_process_with_its_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with near_host(IP4) as one, near_host(IP4) as two, near_host(IP4) as three:
        caplog.set_level(logging.WARNING, LOGGER)
        enabled = [enable_hole_punching(one)]
        # A program may set the level later.
        caplog.set_level(logging.INFO, LOGGER)
        enabled += [enable_hole_punching(two), enable_hole_punching(three)]
        told = [each.getMessage() for each in caplog.records if each.name == LOGGER]
        assert len(told) == len(set(told)) == CHANGES
        assert all("py-libp2p 0.8.1 " in each.partition(", since ")[2] for each in told)
        added = {each for each in told if each.startswith("added to py-libp2p: ")}
        assert len(added) == ADDITIONS
        assert all(each.startswith("repaired in py-libp2p: ") for each in told if each not in added)
        for each in enabled:
            assert len(each.repairs) == CHANGES
            assert sum(text.startswith("an addition: ") for text in each.repairs) == ADDITIONS
            each.undo()


# The run of a probe


async def test_a_probe_waits_without_taking_time() -> None:
    async def wait() -> float:
        began = trio.current_time()
        with trio.move_on_after(5):
            await trio.Event().wait()
        return trio.current_time() - began

    began = time.monotonic()
    assert result_in_run(wait) == 5
    assert time.monotonic() - began < 5


def test_a_probe_that_waits_for_ever_or_raises_has_no_result() -> None:
    async def wait() -> None:
        await trio.Event().wait()

    async def fail() -> None:
        raise ValueError("as asked")

    assert result_in_run(wait) is None
    assert result_in_run(fail) is None
