"""What the configuration does to streams: windows, limits, buffers and timeouts.

Two transports in one process, without hosts.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.transport.quic.exceptions import QUICStreamLimitError, QUICStreamTimeoutError

from libp2p_quic import QUICStream
from testkit.linked import Linked, linked
from testkit.payload import MIB

WRITE_BUFFER, READ_BUFFER = 262_144, 524_288


async def takes(link: Linked, least: int, most: int, streams: int = 1) -> int:
    """Writers can write between ``least`` and ``most`` bytes while the peer does not read, and no more in
    the next 0.3 s."""
    total = 0

    async def fill(stream: QUICStream) -> None:
        nonlocal total
        while True:
            await stream.write(bytes(10_000))
            total += 10_000

    async with trio.open_nursery() as nursery:
        for _ in range(streams):
            ours, theirs = await link.stream()
            nursery.start_soon(fill, ours)
            # Keep both ends, or the stream would be reset.
            link.kept.append((ours, theirs))
        before = -1
        with trio.move_on_after(30):
            while total < least or total != before:
                before = total
                await trio.sleep(0.3)  # scenario: nobody reads
        nursery.cancel_scope.cancel()
    assert least <= total <= most
    return total


@pytest.mark.parametrize(
    "names",
    [
        {"STREAM_FLOW_CONTROL_WINDOW": 1_000_000},
        {"stream_window": 1_000_000},
        {"initial_max_stream_data_bidirectional_local": 1_000_000, "STREAM_FLOW_CONTROL_WINDOW": 5_000_000},
        {
            "initial_max_stream_data_bidirectional_remote": 1_000_000,
            "initial_max_stream_data_bidirectional_local": 9_000,
        },
    ],
)
async def test_stream_window_stops_a_writer(names: dict[str, Any]) -> None:
    async with linked(far=names) as link:
        await takes(link, 1_000_000, 1_000_000 + WRITE_BUFFER + READ_BUFFER)


async def test_behind_a_large_window_4_mib_wait_for_the_reader() -> None:
    async with linked(far={"stream_window": 9_000_000}) as link:
        most = 9_000_000 + 4 * MIB + WRITE_BUFFER
        # Credit for bytes in the read buffer goes out only once it is an eighth of the window, and
        # the read buffer counts 64 bytes for each datagram, which is less than an eighth of one.
        least = most * 7 // 8
        assert least > 9_000_000 + READ_BUFFER + WRITE_BUFFER
        await takes(link, least, most)


@pytest.mark.parametrize(
    "names",
    [
        {"initial_max_data": 1_000_000, "CONNECTION_FLOW_CONTROL_WINDOW": 9_000_000},
        {"CONNECTION_FLOW_CONTROL_WINDOW": 1_000_000},
        {"connection_window": 1_000_000},
        {"STREAM_MEMORY_LIMIT_PER_CONNECTION": 1_000_000},
    ],
)
async def test_connection_window_stops_all_writers_together(names: dict[str, Any]) -> None:
    async with linked(far=names) as link:
        count = 3
        most = 1_000_000 + count * (WRITE_BUFFER + READ_BUFFER)
        # Less than the streams' windows together.
        assert most < count * (1_000_000 + WRITE_BUFFER)
        await takes(link, 1_000_000, most, count)


@pytest.mark.parametrize("name", ["MAX_STREAM_RECEIVE_BUFFER", "STREAM_MEMORY_LIMIT_PER_STREAM"])
async def test_memory_for_unread_bytes_is_bounded_and_none_is_lost(name: str) -> None:
    async with linked(far={name: 100_000}) as link:
        total = await takes(link, 100_000, 100_000 + WRITE_BUFFER)
        ((_, theirs),) = link.kept
        with trio.fail_after(20):
            while total > 0:
                total -= len(await theirs.read(65_536))


async def test_send_buffer_high_watermark_stops_a_writer() -> None:
    near, far = {"STREAM_SEND_BUFFER_HIGH_WATERMARK": 20_000}, {"MAX_STREAM_RECEIVE_BUFFER": 100_000}
    async with linked(near, far) as link:
        await takes(link, 100_000, 100_000 + 20_000 + 10_000)


@pytest.mark.parametrize(
    "names",
    [
        {"initial_max_streams_bidirectional": 4, "MAX_INCOMING_STREAMS": 40},
        {"MAX_INCOMING_STREAMS": 4, "max_concurrent_streams": 40},
        {"max_concurrent_streams": 4, "MAX_CONCURRENT_STREAMS": 40},
        {"MAX_CONCURRENT_STREAMS": 4},
    ],
)
async def test_the_peer_waits_at_the_limit_of_streams(names: dict[str, Any]) -> None:
    async with linked(far=names) as link:
        streams = [await link.stream() for _ in range(4)]
        with trio.move_on_after(0.3) as scope:
            await link.dialed.open_stream()
        assert scope.cancelled_caught
        for end in streams.pop():
            await end.close()
        with trio.fail_after(20):
            await link.dialed.open_stream()


async def test_the_allowance_grows_up_to_the_configured_value() -> None:
    async with linked(far={"MAX_INCOMING_STREAMS": 40}) as link:
        streams = []
        with trio.fail_after(20):
            for _ in range(40):
                streams.append(await link.stream())
        with pytest.raises(QUICStreamTimeoutError):
            await link.dialed.open_stream(timeout=0.3)


async def test_max_outgoing_streams_raises_at_once() -> None:
    async with linked({"MAX_OUTGOING_STREAMS": 2}) as link:
        first, second = [await link.dialed.open_stream() for _ in range(2)]
        with pytest.raises(QUICStreamLimitError, match="Maximum outbound streams"):
            await link.dialed.open_stream()
        # The peer's streams and ended streams do not count.
        theirs = await link.accepted.open_stream()
        await theirs.write(b".")
        await link.dialed.accept_stream()
        await first.close()
        third = await link.dialed.open_stream()
        with pytest.raises(QUICStreamLimitError):
            await link.dialed.open_stream()
        await second.reset()
        await link.dialed.open_stream()
        assert third.can_write()


async def test_stream_open_timeout() -> None:
    async with linked({"STREAM_OPEN_TIMEOUT": 1.0}, {"MAX_INCOMING_STREAMS": 1}) as link:
        held = await link.dialed.open_stream()
        with pytest.raises(QUICStreamTimeoutError, match=r"within 1(\.0)? s"):
            await link.dialed.open_stream()
        # The caller's argument takes precedence.
        with trio.move_on_after(2) as scope, pytest.raises(QUICStreamTimeoutError):
            await link.dialed.open_stream(timeout=5)
        assert scope.cancelled_caught
        assert held.can_write()


async def test_stream_read_timeout_loses_no_byte() -> None:
    async with linked({"STREAM_READ_TIMEOUT": 1.0}) as link:
        ours, theirs = await link.stream()
        with pytest.raises(QUICStreamTimeoutError, match=r"read timed out: no progress for 1(\.0)? s"):
            await ours.read(10)
        await theirs.write(b"late")
        assert await ours.read(10) == b"late"


@pytest.mark.slow
async def test_stream_write_timeout_counts_from_the_last_progress() -> None:
    async with linked({"STREAM_WRITE_TIMEOUT": 1.0}, {"MAX_STREAM_RECEIVE_BUFFER": 100_000}) as link:
        ours, theirs = await link.stream()
        size = 2 * MIB

        async def read_slowly() -> None:
            left = size
            while left:
                left -= len(await theirs.read(60_000))
                await trio.sleep(0.05)  # scenario: the reader is slow

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_slowly)
            await ours.write(bytes(size))
            assert trio.current_time() - began > 1.0
        with pytest.raises(QUICStreamTimeoutError, match=r"write timed out: no progress for 1(\.0)? s"):
            await ours.write(bytes(size))
