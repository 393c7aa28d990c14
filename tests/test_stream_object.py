"""One stream and its connection apart from transfers: deadlines, states, `async with`, dropped streams, the
size of a read.

Two transports in one process, without hosts. Transfers are in test_stream_multiplexing.
"""

from __future__ import annotations

import gc

import pytest
import trio
from libp2p.abc import IMuxedConn, IMuxedStream
from libp2p.connection_types import ConnectionType
from libp2p.transport.quic.exceptions import QUICStreamTimeoutError
from libp2p.transport.quic.stream import StreamDirection, StreamState

from libp2p_quic import QUICStream
from libp2p_quic._state import SendState
from libp2p_quic.exceptions import StreamClosed, StreamEOF, StreamReset
from testkit.census import PATIENCE, eventually
from testkit.linked import linked
from testkit.payload import BLOCK, MIB, payload

# Deadlines


async def test_a_deadline_limits_later_reads_and_writes() -> None:
    async with linked(far={"MAX_STREAM_RECEIVE_BUFFER": 100_000}) as link:
        ours, theirs = await link.stream()
        ours.set_deadline(1)
        began = trio.current_time()
        with pytest.raises(QUICStreamTimeoutError, match="read took more than 1 s"):
            await ours.read(1)
        # More than both sides buffer.
        with pytest.raises(QUICStreamTimeoutError, match="write took more than 1 s"):
            await ours.write(bytes(4 * MIB))
        assert 1.9 < trio.current_time() - began < 20
        # The wait failed, not the stream.
        assert ours.state is StreamState.OPEN
        await theirs.write(b"late")
        assert await ours.read(4) == b"late"


async def test_a_deadline_can_be_removed_and_does_not_affect_operations_in_time() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        ours.set_deadline(5)
        await ours.write(b"in time")
        assert await theirs.read(7) == b"in time"
        ours.set_deadline(0)
        with trio.move_on_after(0.1) as scope:
            await ours.read(1)
        assert scope.cancelled_caught


async def test_a_write_that_meets_a_stop_announces_the_room_that_its_bytes_leave() -> None:
    """It takes the received bytes out of the engine, which opens the peer's window again."""
    silent = {"keep_alive_interval": None}
    async with linked(silent, silent) as link:
        ours, theirs = await link.stream()
        size = 8 * MIB
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.write, bytes(size))
            theirs._engine.stop(5)
            theirs._touch()
            with pytest.raises(StreamReset):
                while True:
                    await ours.write(b"x")
            got = 0
            with trio.fail_after(PATIENCE):
                while got < size:
                    got += len(await ours.read(BLOCK))


async def test_a_deadline_must_be_in_the_future() -> None:
    async with linked() as link:
        ours, _ = await link.stream()
        with pytest.raises(ValueError, match="-1"):
            ours.set_deadline(-1)


# The end of a stream object


async def test_leaving_async_with_is_an_end() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        async with ours as entered:
            assert entered is ours
            await ours.write(b"whole")
        assert await theirs.read(10) == b"whole"
        with pytest.raises(StreamEOF):
            await theirs.read(1)


class Broken(Exception):
    """The program failed in the middle of what it was writing."""


async def test_leaving_async_with_by_an_error_is_no_end() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        with pytest.raises(Broken):
            async with ours:
                await ours.write(b"a part")
                raise Broken
        with trio.fail_after(20), pytest.raises(StreamReset):
            while True:
                await theirs.read(10)
        assert theirs.is_reset()


async def test_a_dropped_stream_is_no_end() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        await ours.write(b"a part")
        del ours
        gc.collect()
        with trio.fail_after(20), pytest.raises(StreamReset):
            while True:
                await theirs.read(10)


# States


async def test_a_stream_shows_its_state() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        assert (ours.direction, theirs.direction) == (StreamDirection.OUTBOUND, StreamDirection.INBOUND)
        assert ours.is_initiator
        assert not theirs.is_initiator
        assert ours.stream_id == theirs.stream_id == "0"
        assert repr(ours) == "<QUICStream 0 outbound open>"
        assert can(ours) == (StreamState.OPEN, True, True)
        await ours.close_write()
        assert can(ours) == (StreamState.WRITE_CLOSED, True, False)
        with pytest.raises(StreamClosed):
            await ours.write(b"more")
        with pytest.raises(StreamEOF):
            await theirs.read(1)
        assert can(theirs) == (StreamState.READ_CLOSED, False, True)
        await theirs.write(b"unread")
        await theirs.close()
        assert can(theirs) == (StreamState.CLOSED, False, False)
        assert theirs.is_closed()
        assert await ours.read(6) == b"unread"
        await ours.close_read()
        assert can(ours) == (StreamState.CLOSED, False, False)
        assert not ours.is_reset()


async def test_a_reset_stream_shows_it_on_both_sides() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        await ours.reset()
        assert can(ours) == (StreamState.RESET, False, False)
        with pytest.raises(StreamReset):
            await ours.read(1)
        with trio.fail_after(20), pytest.raises(StreamReset):
            await theirs.read(1)
        assert theirs.is_reset()
        assert theirs.state is StreamState.RESET
        assert not theirs.can_read()
        # Its delivery was promised.
        await theirs.close()
        await theirs.reset()
        assert theirs._send is not SendState.RESET_SENT


def can(stream: QUICStream) -> tuple[StreamState, bool, bool]:
    return stream.state, stream.can_read(), stream.can_write()


async def test_what_was_sent_before_close_can_be_read_after_it() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        await theirs.write(b"here already")
        assert await ours.read(1) == b"h"
        await ours.close()
        assert await ours.read(100) == b"ere already"
        with pytest.raises(StreamClosed):
            await ours.read(1)


# Bytes


async def test_closing_a_stream_that_nobody_reads_does_not_wake_the_event_loop() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        queue = link.dialed._driver.ready_queue
        token = ours._engine.readable
        ours._stop(0)
        assert token not in queue.drain()
        assert not ours.can_read()
        await ours.close()
        await theirs.close()


async def test_one_read_returns_at_most_a_mebibyte() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        size = 3 * MIB
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, bytes(size))
            total = 0
            while total < size:
                # It returns as soon as there are bytes and does not wait for the end.
                data = await theirs.read()
                assert 0 < len(data) <= MIB
                total += len(data)
        assert total == size
        assert await theirs.read(0) == b""


async def test_writes_of_several_tasks_do_not_mix() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        ours_bytes = [bytes([number]) * MIB for number in range(4)]
        heard = bytearray()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                for data in ours_bytes:
                    nursery.start_soon(ours.write, data)
                while len(heard) < 4 * MIB:
                    heard += await theirs.read(BLOCK)
        assert sorted(bytes(heard[at : at + MIB]) for at in range(0, 4 * MIB, MIB)) == ours_bytes


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_every_kind_of_bytes_can_be_written(kind: type) -> None:
    data = payload(7, 1000)
    async with linked() as link:
        ours, theirs = await link.stream()
        await ours.write(kind(data))
        heard = b""
        while len(heard) < len(data):
            heard += await theirs.read(BLOCK)
        assert heard == data


# The connection


async def test_a_connection_is_one_of_py_libp2ps_and_a_stream_too() -> None:
    async with linked() as link:
        ours, theirs = await link.stream()
        for stream, end in ((ours, link.dialed), (theirs, link.accepted)):
            assert isinstance(stream, IMuxedStream)
            assert isinstance(end, IMuxedConn)
            assert stream.muxed_conn is end
            assert stream.get_remote_address() == end.get_remote_address()
            assert end.get_connection_type() is ConnectionType.DIRECT
            with pytest.raises(NotImplementedError, match="stream"):
                await end.read(1)
            with pytest.raises(NotImplementedError, match="stream"):
                await end.write(b"1")
        assert repr(link.dialed).endswith(", open>")


async def test_an_inbound_connection_has_the_peers_address() -> None:
    async with linked() as link:
        (address,) = link.accepted.get_transport_addresses()
        host, port = link.accepted.get_remote_address()
        assert str(address) == f"/ip4/{host}/udp/{port}/quic-v1"


async def test_a_source_address_does_not_change_where_a_dial_leaves_from() -> None:
    """py-libp2p's hole punching names the TCP socket's address."""
    async with linked() as link:
        again = await link.dialer.dial_with_source(link.listener.get_addrs()[0], ("127.0.0.1", 9))
        assert again.peer_id == link.dialed.peer_id
        assert await eventually(lambda: link.listener.get_stats()["connections_accepted"] == 2)
        await again.close()
