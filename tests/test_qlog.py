"""qlog: one file for each connection and side, which follows the published schema and is bounded.

Real connections of both parts, py-libp2p's and asyncio's. `libp2p-quic trace` is in test_command_trace, the
writer in crates/engine/src/qlog.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, QUICTransportConfig
from libp2p_quic.asyncio import EndpointConfig
from libp2p_quic.asyncio import InvalidConfigError as InvalidEndpointConfigError
from libp2p_quic.exceptions import DialError, InvalidConfigError
from testkit.asyncio_ends import ends
from testkit.census import PATIENCE, census, eventually
from testkit.linked import Linked, linked, listening
from testkit.near import near_transport
from testkit.payload import MIB, payload
from testkit.qlog_schema import checked, records
from testkit.relay import Relay

Event = dict[str, Any]
# One of these events ends each file.
ENDS = (b'"quic:connection_closed"', b"qlog_file_limit")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QLOGDIR", raising=False)


def whole(path: Path) -> Path:
    """The file, with its end: an endpoint that closes waits only 250 ms for the disk."""
    never = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not any(last in path.read_bytes() for last in ENDS) and time.monotonic() < deadline:
        never.wait(0.01)
    return path


def of(folder: Path, role: str) -> Path:
    """The only file of that side, with its end."""
    (path,) = folder.glob(f"*_{role}.sqlog")
    return whole(path)


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def threads() -> list[str]:
    """The threads that write files."""
    return [name for name in census().threads if "qlo" in name]


def named(events: list[Event], name: str) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["name"] == name]


def frames(packets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for packet in packets:
        yield from packet["frames"]


def stream_bytes(packets: list[dict[str, Any]]) -> int:
    """Distinct bytes of streams: a retransmission counts once."""
    spans = {
        (frame["stream_id"], frame.get("offset", 0) + at)
        for frame in frames(packets)
        if frame["frame_type"] == "stream"
        for at in range(frame["raw"]["payload_length"])
    }
    return len(spans)


async def transfer(link: Linked, data: bytes) -> None:
    ours, theirs = await link.stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.write, data)
        got = 0
        while got < len(data):
            got += len(await theirs.read(len(data)))


# What is written


async def test_both_sides_write_files_that_follow_the_schema(tmp_path: Path) -> None:
    data = payload(1, 200_000)
    async with linked(near={"qlog_dir": str(tmp_path)}, far={"qlog_dir": str(tmp_path)}) as link:
        await transfer(link, data)
        # The listener hears of the close before it closes, too.
        await link.dialer.close()
        assert await eventually(lambda: link.accepted.is_closed)
    client, server = of(tmp_path, "client"), of(tmp_path, "server")
    # Both carry the connection id that the dialer chose first, as viewers of two sides expect.
    assert client.name.partition("_")[0] == server.name.partition("_")[0]
    for path in (client, server):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert data[:64] not in path.read_bytes()
    ours, theirs = checked(client), checked(server)
    for events, role, closer in ((ours, "client", "local"), (theirs, "server", "remote")):
        header = records(of(tmp_path, role))[0]
        assert header["trace"]["vantage_point"]["type"] == role
        (started,) = named(events, "quic:connection_started")
        assert started["remote"]["ip_v4"] == "127.0.0.1"
        assert named(events, "quic:connection_state_updated") == [{"new": "handshake_complete"}]
        of_us, of_them, of_both = named(events, "quic:parameters_set")
        assert (of_us["initiator"], of_them["initiator"]) == ("local", "remote")
        assert of_us["max_idle_timeout"] == of_them["max_idle_timeout"] == 30_000
        assert of_both["tls_cipher"] in ("AES_128_GCM_SHA256", "CHACHA20_POLY1305_SHA256")
        assert named(events, "quic:alpn_information") == [{"chosen_alpn": {"string_value": "libp2p"}}]
        (closed,) = named(events, "quic:connection_closed")
        assert (closed["initiator"], closed["trigger"]) == (closer, "application")
        kinds = {packet["header"]["packet_type"] for packet in named(events, "quic:packet_sent")}
        assert kinds == {"initial", "handshake", "1RTT"}
        kinds = {packet["header"]["packet_type"] for packet in named(events, "quic:packet_received")}
        assert kinds == {"initial", "handshake", "1RTT"}
    # The first packet of the dialer is in the listener's file, too, with its frames.
    assert "crypto" in {it["frame_type"] for it in named(theirs, "quic:packet_received")[0]["frames"]}
    assert stream_bytes(named(ours, "quic:packet_sent")) == len(data) + 1
    assert stream_bytes(named(theirs, "quic:packet_received")) == len(data) + 1


async def test_packets_that_one_side_sends_are_those_that_the_other_receives(tmp_path: Path) -> None:
    async with linked(near={"qlog_dir": str(tmp_path)}, far={"qlog_dir": str(tmp_path)}) as link:
        await transfer(link, payload(2, 50_000))
        # Loopback keeps the order: a side that has read a byte has received all packets sent before it.
        ours, theirs = await link.stream()
        await theirs.write(b".")
        assert await ours.read(1) == b"."

    def seen(role: str, name: str) -> set[tuple[str, int, int]]:
        # A set, as the dialer repeats its final flight as a whole, and the packets arrive twice.
        return {
            (it["header"]["packet_type"], it["header"]["packet_number"], it["raw"]["length"])
            for it in named(checked(of(tmp_path, role)), f"quic:packet_{name}")
        }

    # On loopback nothing is lost; what crosses the close may be left unread.
    for sender, receiver in (("client", "server"), ("server", "client")):
        sent, received = seen(sender, "sent"), seen(receiver, "received")
        assert not received - sent
        assert len(sent - received) <= 20


async def test_the_window_and_the_round_trip_time_are_the_connections(tmp_path: Path) -> None:
    async with linked(near={"qlog_dir": str(tmp_path)}) as link:
        await transfer(link, payload(3, MIB))
        statistics = link.dialed.statistics()
    metrics = named(checked(of(tmp_path, "client")), "quic:recovery_metrics_updated")
    windows = [each["congestion_window"] for each in metrics if "congestion_window" in each]
    assert windows[0] < windows[-1]
    assert max(windows) >= statistics.congestion_window
    for name in ("smoothed_rtt", "latest_rtt", "min_rtt"):
        # Milliseconds, on loopback.
        assert 0 < min(each[name] for each in metrics if name in each) < 1000


async def test_lost_packets_are_named(tmp_path: Path) -> None:
    async with (
        listening() as (listener, connections),
        Relay.to(listener.get_addrs()[0], "--delay", "5ms", "--loss", "3%", "--seed", "11") as relay,
    ):
        dialer = near_transport(qlog_dir=str(tmp_path))
        dialed = await dialer.dial(relay.address)
        link = Linked(dialer, listener, dialed, await connections.receive())
        await transfer(link, payload(4, 2 * MIB))
        counted = dialed.statistics().packets_lost
        await dialer.close()
    (path,) = (each for each in map(whole, files_in(tmp_path)) if len(records(each)) > 100)
    events = checked(path)
    lost = named(events, "quic:packet_lost")
    sent = {it["header"]["packet_number"] for it in named(events, "quic:packet_sent")}
    numbers = [it["header"]["packet_number"] for it in lost]
    assert set(numbers) <= sent
    # Statistics also count packets of acknowledgments alone, and are published every 10 ms.
    assert 0.8 * counted <= len(lost) <= counted + 20, (len(lost), counted)
    # What is declared lost was not acknowledged before.
    acknowledged: set[int] = set()
    for event in events:
        if event["name"] == "quic:packet_received":
            for frame in event["data"].get("frames", ()):
                for span in frame.get("acked_ranges", ()):
                    if event["data"]["header"]["packet_type"] == "1RTT":
                        acknowledged.update(range(span[0], span[-1] + 1))
        elif event["name"] == "quic:packet_lost" and event["data"]["header"]["packet_type"] == "1RTT":
            assert event["data"]["header"]["packet_number"] not in acknowledged


async def test_a_retry_is_in_the_file_of_the_dialer(tmp_path: Path) -> None:
    far = {"qlog_dir": str(tmp_path), "retry_above": 0}
    async with linked(near={"qlog_dir": str(tmp_path)}, far=far) as link:
        await link.stream()
    client, server = of(tmp_path, "client"), of(tmp_path, "server")
    assert client.name.partition("_")[0] == server.name.partition("_")[0]
    received = named(checked(client), "quic:packet_received")
    assert received[0]["header"]["packet_type"] == "retry"
    checked(server)


def attempts_at(silent: socket.socket) -> set[str]:
    """The destination connection ids, in hex, of the datagrams that wait there (RFC 9000 section 17.2)."""
    silent.setblocking(False)
    found: set[str] = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            datagram = silent.recv(2048)
            found.add(datagram[6 : 6 + datagram[5]].hex())
    return found


async def test_each_attempt_of_a_dial_that_fails_has_a_file_that_says_how_it_ended(tmp_path: Path) -> None:
    # The second attempt begins after 0.8 s. A busy machine may delay it until the dial is over: one dial of
    # five has to make two.
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        dialer = near_transport(qlog_dir=str(folder), CONNECTION_HANDSHAKE_TIMEOUT=1.2)
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            with pytest.raises(DialError):
                await dialer.dial(Multiaddr(f"/ip4/127.0.0.1/udp/{silent.getsockname()[1]}/quic-v1"))
            await dialer.close()
            made = attempts_at(silent)
        # A file is named after the connection id of the first packet.
        names = {path.name.partition("_")[0] for path in files_in(folder)}
        if len(made) == 2 and names == made:
            break
    assert names == made
    ended = []
    for path in files_in(folder):
        events = checked(whole(path))
        assert named(events, "quic:packet_sent")
        assert not named(events, "quic:packet_received")
        (closed,) = named(events, "quic:connection_closed")
        assert closed["trigger"] == "aborted"
        ended.append(closed["reason"].partition(" within")[0])
    # The time of the second may be up before it hears that the first one failed.
    assert len(ended) == 2
    assert "the peer did not answer" in ended
    assert set(ended) <= {"the peer did not answer", "another attempt of the dial is kept"}


async def test_asyncio_writes_the_same_files(tmp_path: Path) -> None:
    import asyncio

    async def main() -> None:
        config = EndpointConfig(qlog_dir=tmp_path)
        async with ends(config, config) as both:
            ours, theirs = await both.streams()
            await ours.write(b"x" * 5000)
            await theirs.read_exactly(5000)

    await trio.to_thread.run_sync(asyncio.run, main())
    sent = named(checked(of(tmp_path, "client")), "quic:packet_sent")
    received = named(checked(of(tmp_path, "server")), "quic:packet_received")
    assert stream_bytes(sent) == stream_bytes(received) == 5001


# Where, and whether


async def test_the_environment_names_the_folder_and_the_configuration_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "a" / "b", tmp_path / "there"
    monkeypatch.setenv("QLOGDIR", str(here))
    async with linked(near={"enable_qlog": True}, far={"qlog_dir": str(there)}) as link:
        await link.stream()
    checked(of(here, "client"))
    checked(of(there, "server"))
    assert len(files_in(here) + files_in(there)) == 2


async def test_without_a_folder_nothing_is_written_and_no_thread_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QLOGDIR", str(tmp_path))
    # The threads of tests before this one.
    assert await eventually(lambda: not threads())
    # An empty text turns it off.
    async with linked(near={"qlog_dir": ""}, far={"qlog_dir": ""}) as link:
        await link.stream()
        assert not threads()
    assert files_in(tmp_path) == []


async def test_the_thread_ends_with_its_transport(tmp_path: Path) -> None:
    async with linked(near={"qlog_dir": str(tmp_path)}) as link:
        await link.stream()
        assert threads()
    del link
    assert await eventually(lambda: not threads())


def test_a_demand_without_a_folder_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="enable_qlog needs a folder"):
        QUICTransportConfig(enable_qlog=True)
    with pytest.raises(InvalidEndpointConfigError, match="qlog_dir must be a path, or None"):
        EndpointConfig(qlog_dir=3)  # type: ignore[arg-type]
    too_small = "qlog_file_limit must be a whole number of bytes from 4096"
    with pytest.raises(InvalidEndpointConfigError, match=too_small):
        EndpointConfig(qlog_file_limit=4095)


# Bounds and errors


async def test_a_file_ends_at_its_limit_and_says_so(tmp_path: Path) -> None:
    limit = 30_000
    async with linked(near={"qlog_dir": str(tmp_path), "qlog_file_limit": limit}) as link:
        await transfer(link, payload(5, MIB))
    path = of(tmp_path, "client")
    assert limit - 2000 < path.stat().st_size <= limit
    events = checked(path)
    assert events[-1]["name"] == "loglevel:warning"
    assert "qlog_file_limit" in events[-1]["data"]["message"]


async def test_a_folder_that_cannot_be_written_to_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")

    def warnings() -> list[str]:
        texts = (each.getMessage() for each in caplog.records if each.levelno == logging.WARNING)
        return [text for text in texts if text.startswith("qlog: ")]

    async with linked(near={"qlog_dir": str(blocked)}) as link:
        await transfer(link, payload(6, 100_000))
        again: QUICTransport = link.dialer
        await again.dial(link.listener.get_addrs()[0])
        await link.stream()
        assert await eventually(lambda: bool(warnings()))
    assert len(warnings()) == 1
    assert str(blocked) in warnings()[0]
    assert blocked.read_text() == "no folder"
