"""Writers of `libp2p_quic.asyncio` under back-pressure, and `reader_writer` where writing fails."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from libp2p_quic.asyncio import EndpointConfig, Stream, StreamReset, reader_writer
from testkit.asyncio_ends import ends
from testkit.loops import on_both, soon

SMALL = EndpointConfig(write_buffer=20_000, stream_window=40_000, connection_window=60_000)


@on_both
async def test_the_bytes_of_writers_that_write_again_and_again_do_not_mix() -> None:
    """A write that comes when the turn has just been given up is behind those that wait for it."""
    size, count = 15_000, 40

    async def write(letter: bytes) -> None:
        for _ in range(count):
            await ours.write(letter * size)

    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        writing = [asyncio.ensure_future(write(letter)) for letter in (b"a", b"b", b"c")]
        got = await soon(theirs.read_exactly(3 * count * size))
        await asyncio.gather(*writing)
    runs = [len(list(same)) for _, same in itertools.groupby(got)]
    assert [length % size for length in runs] == [0] * len(runs)


@on_both
async def test_a_proposal_that_is_longer_than_the_send_queue_is_sent() -> None:
    protocol = "/" + "a" * 100
    async with ends(near=EndpointConfig(write_buffer=16)) as both:
        near, far = await both.connected()
        ours = await near.open_stream(protocol)
        writing = asyncio.ensure_future(ours.write(b"x"))
        theirs = await soon(far.accept_stream([protocol]))
        assert await soon(theirs.read(1)) == b"x"
        await soon(asyncio.wait_for(writing, None))
        theirs.finish()
        assert await soon(ours.read()) == b""


@on_both
async def test_a_negotiation_ends_in_time_if_its_answers_find_no_room() -> None:
    async def ignore(_stream: Stream) -> None:
        raise AssertionError

    protocols = {f"/protocol/{number}": ignore for number in range(10)}
    async with ends(far=EndpointConfig(write_buffer=1000, negotiation_timeout=0.5)) as both:
        near, far = await both.connected()
        serving = asyncio.ensure_future(far.serve(protocols))
        ours = await near.open_stream()
        # The header of multistream-select, and its "ls" again and again; nothing of the answers is read.
        await ours.write(b"\x13/multistream/1.0.0\n" + b"\x03ls\n" * 200)
        with pytest.raises(StreamReset):
            while True:
                await soon(ours.read())
        near.close(0, "")
        await soon(asyncio.wait_for(serving, None))


@on_both
async def test_a_proposal_that_is_sent_in_part_is_no_clean_end() -> None:
    protocol = "/" + "a" * 100
    async with ends(near=EndpointConfig(write_buffer=16)) as both:
        near, far = await both.connected()
        ours = await near.open_stream(protocol)
        ours.finish()
        theirs = await soon(far.accept_stream())
        with pytest.raises(StreamReset):
            await soon(theirs.read_to_end())


# reader_writer


@on_both
async def test_a_large_write_is_not_copied_for_each_wake_up() -> None:
    given: list[int] = []
    size = 8 * 1024 * 1024
    async with ends() as both:
        ours, theirs = await both.streams()
        give = ours._give

        def counted(data: bytes, taken: int) -> int:
            given.append(len(data))
            return give(data, taken)

        ours._give = counted  # type: ignore[method-assign]
        _, writer = reader_writer(ours)
        writer.write(bytes(size))
        reading = asyncio.ensure_future(theirs.read_exactly(size))
        await soon(writer.drain())
        assert await soon(asyncio.wait_for(reading, None)) == bytes(size)
    # Once as a whole, and then in pieces, of which the engine takes at least half.
    assert sum(given) <= 4 * size


@on_both
async def test_an_answer_before_the_peer_stopped_reading_is_kept() -> None:
    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        reader, writer = reader_writer(ours)
        await theirs.write(b"answer")
        theirs.finish()
        await soon(theirs.finished())
        theirs.stop()
        with pytest.raises(ConnectionResetError):
            while True:
                writer.write(bytes(100_000))
                await soon(writer.drain())
        assert await soon(reader.read()) == b"answer"


@on_both
async def test_what_is_lost_has_no_clean_end() -> None:
    """The peer resets its direction only, and this side still has bytes to write."""
    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        reader, writer = reader_writer(ours)
        writer.write(bytes(1_000_000))
        engine: Any = theirs._engine
        engine.reset(7)
        theirs._touch()
        with pytest.raises(StreamReset):
            await soon(reader.read(1))
        writer.write_eof()
        with pytest.raises(StreamReset):
            await soon(theirs.read_to_end())
