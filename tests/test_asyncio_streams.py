"""Streams of `libp2p_quic.asyncio`: reading, writing, ending and canceling, on both event loops."""

from __future__ import annotations

import asyncio
import random

import pytest

from libp2p_quic.asyncio import (
    EndpointConfig,
    StreamClosed,
    StreamLimitError,
    StreamLost,
    StreamReset,
    reader_writer,
)
from testkit.asyncio_ends import ends
from testkit.loops import on_both, passes, soon


def payload(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


SMALL = EndpointConfig(write_buffer=20_000, stream_window=40_000, connection_window=60_000)


@on_both
async def test_read_returns_what_is_there_and_then_the_end() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        await ours.write(b"one two")
        assert await soon(theirs.read(3)) == b"one"
        assert await theirs.read(0) == b""
        assert await theirs.read(-1) == b" two"
        ours.finish()
        assert await soon(theirs.read(9)) == b""
        assert await theirs.read() == b""


@on_both
async def test_read_exactly_and_its_end() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        data = payload(1, 200_000)
        await ours.write(data)
        assert await soon(theirs.read_exactly(1)) == data[:1]
        assert await soon(theirs.read_exactly(199_000)) == data[1:199_001]
        assert await theirs.read_exactly(0) == b""
        ours.finish()
        with pytest.raises(asyncio.IncompleteReadError) as failed:
            await soon(theirs.read_exactly(1_000_000))
        assert failed.value.partial == data[199_001:]
        with pytest.raises(ValueError, match="-1"):
            await theirs.read_exactly(-1)


@on_both
async def test_read_to_end_and_its_limit() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        await ours.write(b"0123456789")
        ours.finish()
        with pytest.raises(StreamLimitError, match="more than 9 bytes"):
            await soon(theirs.read_to_end(9))
        # Nothing is lost by the refusal.
        assert await soon(theirs.read_to_end(10)) == b"0123456789"


@on_both
async def test_canceled_reads_lose_no_byte() -> None:
    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        data = payload(2, 300_000)
        dice = random.Random(2)

        async def write() -> None:
            await ours.write(data)
            ours.finish()

        writer = asyncio.ensure_future(write())
        got, canceled = b"", 0
        while len(got) < len(data):
            size = min(dice.randrange(1, 6_000), len(data) - len(got))
            methods = [theirs.read(size), theirs.read_exactly(size)]
            chosen = methods.pop(dice.randrange(2))
            methods[0].close()
            reader = asyncio.ensure_future(chosen)
            await passes(dice.randrange(2))
            if dice.random() < 0.5:
                reader.cancel()
            try:
                got += await soon_task(reader)
            except asyncio.CancelledError:
                canceled += 1
        await writer
        assert got == data
        assert canceled > 5
        whole = asyncio.ensure_future(theirs.read_to_end())
        assert await soon_task(whole) == b""


async def soon_task(task: asyncio.Future[bytes]) -> bytes:
    await asyncio.wait([task], timeout=20)
    assert task.done(), "it hangs"
    return task.result()


@on_both
async def test_second_reader_is_refused() -> None:
    async with ends() as both:
        _, theirs = await both.streams()
        first = asyncio.ensure_future(theirs.read())
        await passes(1)
        with pytest.raises(RuntimeError, match="another task"):
            await theirs.read()
        first.cancel()


@on_both
async def test_write_waits_for_a_slow_reader_and_mixes_nothing() -> None:
    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        writers = [asyncio.ensure_future(ours.write(bytes([n]) * 1_000_000)) for n in range(3)]
        await passes(20)
        assert not any(writer.done() for writer in writers)
        got = await soon(theirs.read_exactly(3_000_000))
        assert got == b"".join(bytes([n]) * 1_000_000 for n in range(3))
        await asyncio.gather(*writers)


@on_both
async def test_bytes_like_objects_are_written() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        await ours.write(bytearray(b"a"))
        await ours.write(memoryview(b"bc"))
        assert await soon(theirs.read_exactly(3)) == b"abc"


@on_both
async def test_finish_ends_one_direction() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        ours.finish()
        ours.finish()
        assert await soon(theirs.read()) == b""
        await soon(ours.finished())
        with pytest.raises(StreamClosed):
            await ours.write(b"x")
        await theirs.write(b"answer")
        assert await soon(ours.read()) == b"answer"
        with pytest.raises(StreamClosed, match="finish"):
            await theirs.finished()


@on_both
async def test_reset_has_its_code() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        waiting = asyncio.ensure_future(ours.read())
        await passes(1)
        ours.reset(77)
        with pytest.raises(StreamReset, match="reset here"):
            await waiting
        with pytest.raises(StreamReset) as failed:
            await soon(theirs.read())
        assert failed.value.error_code == 77
        assert failed.value.stream_id == str(theirs.id)


@on_both
async def test_stop_has_its_code() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        theirs.stop(78)

        async def write_until_told() -> None:
            while True:
                await ours.write(bytes(100_000))

        with pytest.raises(StreamReset) as failed:
            await soon(write_until_told())
        assert failed.value.error_code == 78
        with pytest.raises(StreamClosed):
            await theirs.read()
        await theirs.write(b"still")
        assert await soon(ours.read()) == b"still"


@on_both
async def test_block_that_fails_resets_its_stream() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()

        async def fail() -> None:
            async with ours:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(StreamReset):
            await soon(theirs.read())


@on_both
async def test_lost_connection_is_no_clean_end() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream()
        await ours.write(b"part")
        theirs = await far.accept_stream()
        assert await soon(theirs.read_exactly(4)) == b"part"
        near.close(9)
        for method in (theirs.read(), theirs.write(b"x"), theirs.read_exactly(3), theirs.read_to_end()):
            with pytest.raises(StreamLost) as failed:
                await soon(method)
            assert failed.value.error_code == 9


# asyncio's own streams


@on_both
async def test_reader_and_writer_carry_a_protocol_of_lines() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        reader, writer = reader_writer(ours)
        far_reader, far_writer = reader_writer(theirs)
        writer.write(b"hello\nworld")
        writer.write_eof()
        assert await soon(far_reader.readline()) == b"hello\n"
        assert await soon(far_reader.read()) == b"world"
        assert far_reader.at_eof()
        far_writer.writelines([b"a", b"b"])
        await soon(far_writer.drain())
        far_writer.close()
        await soon(far_writer.wait_closed())
        assert await soon(reader.read()) == b"ab"
        assert writer.get_extra_info("stream") is ours
        writer.close()
        await soon(writer.wait_closed())


@on_both
async def test_drain_waits_for_the_peer_and_the_reader_holds_it_back() -> None:
    async with ends(SMALL, SMALL) as both:
        ours, theirs = await both.streams()
        _, writer = reader_writer(ours)
        far_reader, far_writer = reader_writer(theirs, limit=1000)
        data = payload(3, 1_000_000)
        writer.write(data)
        draining = asyncio.ensure_future(writer.drain())
        await passes(50)
        # Nobody reads: the peer's buffers and windows hold a part, and the rest waits here.
        assert not draining.done()
        assert await soon(far_reader.readexactly(1_000_000)) == data
        await asyncio.wait_for(draining, 20)
        far_writer.close()
        writer.close()


@on_both
async def test_reset_reaches_reader_and_writer() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        reader, writer = reader_writer(theirs)
        ours.reset(5)
        with pytest.raises(StreamReset):
            await soon(reader.read())
        with pytest.raises(StreamReset):
            await soon(writer.wait_closed())
        writer.write(b"ignored, as asyncio does after a loss")


@on_both
async def test_abort_resets() -> None:
    async with ends() as both:
        ours, theirs = await both.streams()
        _, writer = reader_writer(ours)
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
        assert transport.is_closing()
        with pytest.raises(StreamReset):
            await soon(theirs.read())
