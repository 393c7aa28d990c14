"""How streams between two host processes start, wait and end.

Half-closes, back-pressure, silence, resets, stops, and ends of connections. All ends are distinguishable: a
loss is never a clean end.
"""

from __future__ import annotations

import time

import pytest
import trio
import trio.testing
from libp2p.custom_types import TProtocol
from libp2p.network.stream.exceptions import StreamClosed, StreamEOF, StreamReset
from libp2p.transport.quic.exceptions import QUICStreamError

from libp2p_quic.exceptions import StreamLost
from libp2p_quic.exceptions import StreamReset as OurStreamReset
from testkit.far import FarError, far_host
from testkit.near import connection, gone, muxed, near_host, new_stream
from testkit.payload import BLOCK, MIB, Drained, blocks, drain, echoed, payload, sha256

ECHO = TProtocol("/test/echo")
PARK = TProtocol("/test/park")


async def test_half_close_of_the_dialer_leaves_the_other_direction() -> None:
    data = payload(1, 300_000)
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await stream.write(b"the question")
        await stream.close_write()
        heard = await far.do("drain", stream=there)
        assert (heard["sha256"], heard["end"]) == (sha256(b"the question"), "StreamEOF")
        with pytest.raises(StreamClosed):
            await stream.write(b"more")
        # The answer starts only after the end of the request has arrived.
        digest = await far.do("write", stream=there, seed=1, size=len(data))
        await far.do("close_write", stream=there)
        assert digest == sha256(data)
        assert await drain(stream) == Drained(len(data), sha256(data), "StreamEOF")


async def test_half_close_of_the_listener_leaves_the_other_direction() -> None:
    data = payload(2, 300_000)
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await far.do("close_write", stream=there)
        with pytest.raises(StreamEOF):
            await stream.read(1)
        for block in blocks(data):
            await stream.write(block)
        await stream.close_write()
        heard = await far.do("drain", stream=there)
        assert (heard["sha256"], heard["end"]) == (sha256(data), "StreamEOF")


@pytest.mark.slow
async def test_slow_reader_gets_every_byte_and_holds_the_writer_back() -> None:
    data = payload(3, 16 * MIB)
    # The reader's engine never holds more than this of one stream, and the writer's engine
    # a quarter of a mebibyte: the bytes written before the reader starts are bounded.
    window = 2 * MIB
    handed_over: list[tuple[float, int]] = []
    async with (
        far_host(config={"STREAM_FLOW_CONTROL_WINDOW": window}) as far,
        near_host() as near,
    ):
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")

        async def write() -> None:
            done = 0
            for block in blocks(data):
                await stream.write(block)
                done += len(block)
                handed_over.append((time.monotonic(), done))
            await stream.close_write()

        async with trio.open_nursery() as nursery:
            began_writing = time.monotonic()
            nursery.start_soon(write)
            heard = await far.do("drain", stream=there, after=3.0)
    assert (heard["size"], heard["sha256"], heard["end"]) == (len(data), sha256(data), "StreamEOF")
    # Both processes read the same monotonic clock.
    began_reading = heard["began"]
    assert began_reading - began_writing > 2.9
    before = [done for moment, done in handed_over if moment < began_reading]
    assert before, "nothing was written before the reader started"
    assert before[-1] <= window + MIB, "the writer was not held back"
    # It was blocked: its last write ended long before the reader started.
    assert handed_over[len(before) - 1][0] < began_reading - 1
    assert handed_over[-1][0] > began_reading


KEEPING_ALIVE = {"idle_timeout": 1.5, "keep_alive_interval": 0.4}
SILENT = {"idle_timeout": 1.5, "keep_alive_interval": None}


@pytest.mark.slow
@pytest.mark.parametrize("alive", ["near", "far"])
async def test_idle_stream_outlives_the_idle_timeout_by_keep_alive(alive: str) -> None:
    """A keep-alive of either side is enough."""
    near_config, far_config = (KEEPING_ALIVE, SILENT) if alive == "near" else (SILENT, KEEPING_ALIVE)
    async with far_host(config=far_config) as far, near_host(config=near_config) as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, ECHO)
        # The far process reports when three idle timeouts have passed; meanwhile the stream is not written
        # or read.
        with trio.move_on_after(4.5):
            await connection(near, far.peer_id).accept_stream()
        await stream.write(b"still there?")
        assert await stream.read(100) == b"still there?"
        assert len(near.get_network().connections) == 1


@pytest.mark.slow
async def test_idle_stream_is_lost_without_keep_alive() -> None:
    async with far_host(config=SILENT) as far, near_host(config=SILENT) as near:
        began = trio.current_time()
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, ECHO)
        with trio.fail_after(20), pytest.raises(StreamReset) as lost:
            await stream.read(1)
        assert isinstance(lost.value.__cause__, StreamLost)
        assert "nothing heard from the peer" in str(lost.value.__cause__)
        assert trio.current_time() - began >= 1.5
        await gone(near, far.peer_id)


async def test_reset_shows_its_code_to_reader_and_writer() -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await far.do("reset", stream=there, code=4242)
        with pytest.raises(StreamReset) as met:
            await stream.read(1)
        cause = met.value.__cause__
        assert isinstance(cause, OurStreamReset)
        assert cause.error_code == 4242
        assert cause.reset_by_peer
        with pytest.raises(StreamReset):
            await stream.write(b"x")
        # Only the stream has ended.
        other = await new_stream(near, far.peer_id, ECHO)
        await other.write(b"ok")
        assert await other.read(2) == b"ok"


async def test_a_reset_wakes_tasks_that_wait_on_both_sides() -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        ends: list[Drained] = []

        async def read() -> None:
            ends.append(await drain(stream))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            heard: list[dict[str, object]] = []

            async def listen() -> None:
                heard.append(await far.do("drain", stream=there))

            nursery.start_soon(listen)
            await stream.write(b"before")
            # Let the bytes arrive: an echo on another stream comes back after them.
            other = await new_stream(near, far.peer_id, ECHO)
            await other.write(b"x")
            await other.read(1)
            await muxed(stream).reset(7)
        assert ends[0].end == "StreamReset"
        assert heard[0]["end"] == "StreamReset"
        with pytest.raises(FarError) as refused:
            await far.do("write", stream=there, seed=0, size=10)
        assert 7 in refused.value.codes() or "StreamReset" in refused.value.families()


async def test_stop_of_the_reader_reaches_the_writer_and_leaves_its_reading() -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await far.do("stop", stream=there)
        with trio.fail_after(20), pytest.raises(StreamClosed) as stopped:
            while True:
                await stream.write(bytes(BLOCK))
        cause = stopped.value.__cause__
        assert isinstance(cause, OurStreamReset)
        assert cause.error_code == 0
        await far.do("write", stream=there, seed=9, size=1000)
        await far.do("close_write", stream=there)
        assert await drain(stream) == Drained(1000, sha256(payload(9, 1000)), "StreamEOF")


async def test_stop_with_a_code_shows_it_to_the_writer() -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        # py-libp2p's method has no code; the engine's has.
        muxed(stream)._engine.stop(77)
        muxed(stream)._touch()
        with pytest.raises(FarError) as stopped:
            await far.do("write", stream=there, seed=0, size=64 * MIB)
        assert stopped.value.codes() == [77]
        assert "QUICStreamResetError" in stopped.value.families()


@pytest.mark.slow
async def test_killed_peer_is_a_lost_connection_and_no_clean_end() -> None:
    config = {"idle_timeout": 1.5, "keep_alive_interval": 0.4}
    async with far_host(config=config) as far, near_host(config=config) as near:
        await near.connect(far.info)
        reading = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await far.do("write", stream=there, seed=5, size=1000)
        writing = await new_stream(near, far.peer_id, PARK)
        # Bytes that arrived before are not lost with the connection.
        got = await reading.read(400)
        began = trio.current_time()
        await far.kill()
        with trio.fail_after(20), pytest.raises(StreamReset) as lost:
            while True:
                got += await reading.read(400)
        assert got == payload(5, 1000)
        # The last keep-alive may be as old as their interval.
        assert trio.current_time() - began > 0.5
        cause = lost.value.__cause__
        assert isinstance(cause, StreamLost)
        assert isinstance(cause, QUICStreamError)
        with pytest.raises(StreamReset):
            await writing.write(b"x")
        await gone(near, far.peer_id)


async def test_closed_host_is_a_lost_connection_for_an_open_stream() -> None:
    """Closing a host that still has an open stream is not an end of that stream's data."""
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        await far.do("write", stream=there, seed=5, size=100)
        assert await stream.read(100) == payload(5, 100)
        await far.leave()
        with pytest.raises(StreamReset):
            await stream.read(1)
        await gone(near, far.peer_id)


async def test_closing_a_connection_wakes_its_readers_and_writers_at_once() -> None:
    woken: list[str] = []
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        reading = await new_stream(near, far.peer_id, PARK)
        writing = await new_stream(near, far.peer_id, PARK)
        # A finished stream with unread bytes keeps the connection lingering.
        owing = await new_stream(near, far.peer_id, PARK)
        await owing.write(bytes(100_000))
        await owing.close()

        async def read() -> None:
            with pytest.raises(StreamReset):
                await reading.read(1)
            woken.append("reader")

        async def write() -> None:
            with pytest.raises((StreamReset, StreamClosed)):
                while True:
                    await writing.write(bytes(BLOCK))
            woken.append("writer")

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(write)
                await trio.testing.wait_all_tasks_blocked(0.1)
                await connection(near, far.peer_id).close()
    assert sorted(woken) == ["reader", "writer"]


@pytest.mark.parametrize("closing", ["near", "far"])
async def test_written_bytes_arrive_after_stream_and_host_are_closed(closing: str) -> None:
    data = payload(8, MIB)
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        stream = await new_stream(near, far.peer_id, PARK)
        there = await far.do("arrived")
        if closing == "near":
            for block in blocks(data):
                await stream.write(block)
            await stream.close()
            await near.close()
            heard = await far.do("drain", stream=there)
            assert Drained(heard["size"], heard["sha256"], heard["end"]) == Drained(
                MIB, sha256(data), "StreamEOF"
            )
        else:
            async with trio.open_nursery() as nursery:

                async def write_and_leave() -> None:
                    await far.do("write", stream=there, seed=8, size=MIB)
                    await far.do("close", stream=there)
                    await far.leave()

                nursery.start_soon(write_and_leave)
                assert await drain(stream) == Drained(MIB, sha256(data), "StreamEOF")


@pytest.mark.slow
async def test_a_hundred_streams_of_a_mebibyte_each_way() -> None:
    received: dict[int, Drained] = {}
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)

        async def one(number: int) -> None:
            stream = await new_stream(near, far.peer_id, ECHO)
            received[number] = await echoed(stream, payload(number, MIB))
            await stream.close()

        with trio.fail_after(50):
            async with trio.open_nursery() as nursery:
                for number in range(100):
                    nursery.start_soon(one, number)
    expected = {number: Drained(MIB, sha256(payload(number, MIB)), "StreamEOF") for number in range(100)}
    assert received == expected
    assert len({each.sha256 for each in received.values()}) == 100
