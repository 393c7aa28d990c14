"""multistream-select: the messages, their limits, and what streams make of them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libp2p_quic.asyncio import (
    ConnectionClosed,
    NegotiationError,
    ProtocolNotSupportedError,
    Stream,
    StreamLost,
    StreamReset,
)
from libp2p_quic.asyncio.negotiation import HEADER, MAX_MESSAGES, Proposer, Selector, checked, message
from testkit.asyncio_ends import ends
from testkit.census import PATIENCE
from testkit.loops import on_both, passes, soon

# No example has a time limit, and none is kept for the next run.
EXAMPLES = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
NAMES = st.text(min_size=1, max_size=40).filter(lambda n: "\n" not in n and n not in ("na", "ls", HEADER))


@EXAMPLES
@given(st.lists(NAMES, min_size=1, unique=True), st.lists(NAMES, unique=True), st.binary(), st.data())
def test_two_sides_agree_on_the_first_common_one(
    proposed: list[str], supported: list[str], payload: bytes, data: st.DataObject
) -> None:
    supported += data.draw(st.lists(st.sampled_from(proposed)))
    proposer, selector = Proposer(checked(proposed)), Selector(checked(supported))
    expected = next((name for name in proposed if name in supported), None)
    try:
        while proposer.agreed is None or selector.agreed is None:
            piece = proposer.take_outgoing() + (payload if proposer.agreed else b"")
            cut = data.draw(st.integers(0, len(piece)))
            selector.receive(piece[:cut])
            selector.receive(piece[cut:])
            proposer.receive(selector.take_outgoing())
    except ProtocolNotSupportedError:
        assert expected is None
    else:
        assert proposer.agreed == selector.agreed == expected


def test_first_message_has_header_and_proposal() -> None:
    assert Proposer(("/a",)).take_outgoing() == b"\x13/multistream/1.0.0\n\x03/a\n"


def test_bytes_of_the_protocol_are_left_alone() -> None:
    selector = Selector(("/a",))
    assert selector.receive(message(HEADER) + message("/a") + b"\x01\x02") == "/a"
    assert selector.rest == b"\x01\x02"


def test_ls_is_answered_with_the_protocols() -> None:
    selector = Selector(("/a", "/bc"))
    selector.receive(message(HEADER) + message("ls"))
    assert selector.take_outgoing() == message(HEADER) + b"\x0a\x03/a\n\x04/bc\n\n"
    many = Selector(tuple(f"/{number:0100}" for number in range(100)))
    many.receive(message(HEADER) + message("ls"))
    assert len(many.take_outgoing()) < 1100


@pytest.mark.parametrize(
    ("received", "why"),
    [
        (message("/multistream/2.0.0"), "instead of"),
        (b"\xff\xff\x7f", "more than 1024"),
        (b"\x81\x08", "1025 bytes"),
        (b"\x00", "0 bytes"),
        (b"\x02ab", "without a newline"),
        (b"\x02\xff\n", "UTF-8"),
        (message(HEADER) + message("/x") * (MAX_MESSAGES + 1), "more than 256"),
    ],
)
def test_malformed_messages_are_refused(received: bytes, why: str) -> None:
    with pytest.raises(NegotiationError, match=why):
        Selector(("/a",)).receive(received)


@EXAMPLES
@given(st.binary(max_size=3000))
def test_no_bytes_of_a_peer_do_more_than_refuse(received: bytes) -> None:
    for side in (Selector(("/a",)), Proposer(("/a",))):
        try:
            side.receive(received)
        except NegotiationError:
            continue


def test_unexpected_answer_is_refused() -> None:
    with pytest.raises(NegotiationError, match="answered '/b' to the proposal '/a'"):
        Proposer(("/a",)).receive(message(HEADER) + message("/b"))


@pytest.mark.parametrize("name", ["", "a\nb", "na", "ls", HEADER, "x" * 1024])
def test_names_that_cannot_be_sent_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"protocol|negotiated"):
        checked([name])


def test_one_text_is_no_list() -> None:
    with pytest.raises(ValueError, match="list"):
        checked("/a")


# On streams


@on_both
async def test_a_list_of_protocols_is_no_protocol() -> None:
    async with ends() as both:
        near, _ = await both.connected()
        with pytest.raises(TypeError) as failed:
            await near.open_stream(["/a", "/b"])  # type: ignore[arg-type]
        assert str(failed.value).endswith("""got list ['/a', '/b']: write open_stream("/a", "/b")""")
        with pytest.raises(TypeError, match="a protocol is a str, got bytes b'/a'"):
            await near.open_stream(b"/a")  # type: ignore[arg-type]
        assert near.statistics().streams_open == 0


async def echo(stream: Stream) -> None:
    while data := await stream.read():
        await stream.write(data)


@on_both
async def test_one_proposal_costs_no_round_trip() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream("/a")
        await ours.write(b"first bytes")
        ours.finish()
        # All of it is there before the listener has answered anything.
        theirs = await soon(far.accept_stream())
        assert await soon(theirs.read_to_end()) == message(HEADER) + message("/a") + b"first bytes"
        await theirs.write(message(HEADER) + message("/a") + b"answer")
        assert await soon(ours.read()) == b"answer"
        assert await ours.negotiated() == "/a"


@on_both
async def test_handlers_answer_what_they_are_registered_for() -> None:
    async with ends() as both:
        serving = asyncio.ensure_future(both.listener.serve({"/echo": echo}))
        near = await both.near.connect(both.address)
        stream = await near.open_stream("/other", "/echo")
        assert stream.protocol == "/echo"
        await stream.write(b"hello")
        assert await soon(stream.read_exactly(5)) == b"hello"
        stream.finish()
        assert await soon(stream.read()) == b""
        with pytest.raises(ProtocolNotSupportedError, match="/x, /y"):
            await soon(near.open_stream("/x", "/y"))
        lazy = await near.open_stream("/x")
        for _ in range(2):
            with pytest.raises(ProtocolNotSupportedError) as failed:
                await soon(lazy.read())
            assert failed.value.stream_id == str(lazy.id)
        # A stream that only reads proposes as well.
        reading = await near.open_stream("/echo")
        waiting = asyncio.ensure_future(reading.read())
        await passes(3)
        await reading.write(b"late")
        assert await asyncio.wait_for(waiting, 20) == b"late"
        serving.cancel()


@on_both
async def test_a_request_that_is_finished_at_once_is_told_that_nobody_serves_it() -> None:
    """A reset after the answer would overtake it, in most cases."""
    async with ends() as both:
        serving = asyncio.ensure_future(both.listener.serve({"/echo": echo}))
        near = await both.near.connect(both.address)
        for _ in range(50):
            stream = await near.open_stream("/upper")
            await stream.write(b"a request")
            stream.finish()
            with pytest.raises(ProtocolNotSupportedError, match="none of /upper"):
                await soon(stream.read_to_end())
        serving.cancel()


@on_both
async def test_a_writer_is_told_that_nobody_serves_its_protocol() -> None:
    async with ends() as both:
        serving = asyncio.ensure_future(both.listener.serve({"/echo": echo}))
        near = await both.near.connect(both.address)
        stream = await near.open_stream("/upper")
        # Zeros are no message, so that the listener ends the stream.
        with pytest.raises(ProtocolNotSupportedError, match="none of /upper"):
            while True:
                await soon(stream.write(bytes(65_536)))
        serving.cancel()


@on_both
async def test_a_reset_instead_of_an_answer_names_the_protocol() -> None:
    """py-libp2p resets a stream that it does not serve, and the reset overtakes its answer."""
    async with ends() as both:
        near, far = await both.connected()
        for answered in (b"", message(HEADER)):
            ours = await near.open_stream("/x")
            reading = asyncio.ensure_future(ours.read())
            theirs = await soon(far.accept_stream())
            await theirs.write(answered)
            theirs.reset(7)
            with pytest.raises(ProtocolNotSupportedError) as failed:
                await asyncio.wait_for(reading, PATIENCE)
            text = "the peer reset the stream before it agreed to /x: it probably does not serve it"
            assert str(failed.value) == text
            assert (failed.value.error_code, failed.value.stream_id) == (7, str(ours.id))
            for again in (ours.read(), ours.write(b"more"), ours.negotiated()):
                with pytest.raises(ProtocolNotSupportedError, match="agreed to /x"):
                    await soon(again)
        opening = asyncio.ensure_future(near.open_stream("/x", "/y"))
        (await soon(far.accept_stream())).reset(7)
        with pytest.raises(ProtocolNotSupportedError, match="agreed to one of /x, /y: it probably") as failed:
            await asyncio.wait_for(opening, PATIENCE)
        assert failed.value.error_code == 7


@on_both
async def test_a_writer_whose_peer_stops_reading_before_it_agrees_is_told_the_protocol() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream("/x")
        await ours.write(b"first")
        theirs = await soon(far.accept_stream())
        theirs.stop(7)
        with pytest.raises(
            ProtocolNotSupportedError, match="stopped reading the stream before it agreed to /x"
        ) as failed:
            while True:
                await soon(ours.write(bytes(65_536)))
        assert failed.value.error_code == 7
        ours.finish()
        with pytest.raises(ProtocolNotSupportedError, match="stopped reading"):
            await soon(ours.finished())
        # The answer may arrive after the peer's STOP_SENDING, and counts.
        await theirs.write(message(HEADER) + message("/x") + b"answer")
        assert await soon(ours.read_exactly(6)) == b"answer"


@on_both
async def test_a_reset_after_the_answer_is_a_reset() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream("/x")
        await ours.write(b".")
        theirs = await soon(far.accept_stream(["/x"]))
        assert await soon(ours.negotiated()) == "/x"
        theirs.reset(7)
        with pytest.raises(StreamReset) as failed:
            await soon(ours.read())
        assert failed.value.error_code == 7


@on_both
async def test_a_writer_that_does_not_read_learns_of_no_protocol() -> None:
    """It has stopped reading, so that it cannot know whether the peer agreed."""
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream("/x")
        await ours.write(b".")
        ours.stop()
        theirs = await soon(far.accept_stream())
        theirs.stop(7)
        with pytest.raises(StreamReset):
            while True:
                await soon(ours.write(bytes(65_536)))


@on_both
async def test_accept_stream_with_protocols_and_with_a_handler() -> None:
    async with ends() as both:
        near, far = await both.connected()
        bad = await near.open_stream()
        await bad.write(b"\0")
        ours = await near.open_stream("/b")
        await ours.write(b"x")
        theirs = await soon(far.accept_stream(["/a", "/b"]))
        assert theirs.protocol == "/b"
        with pytest.raises(StreamReset):
            await soon(bad.read_to_end())
        handled = []

        async def handler(stream: Stream) -> None:
            handled.append(await stream.read_exactly(1))

        again = await near.open_stream("/a")
        await again.write(b"y")
        await soon(far.accept_stream({"/a": handler}))
        assert handled == [b"y"]


@on_both
async def test_canceled_accept_loses_no_stream() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream()
        await ours.write(message(HEADER)[:5])
        accepting = asyncio.ensure_future(far.accept_stream(["/a"]))
        while far.statistics().streams_open < 1 or not accepting.get_coro().cr_await:  # type: ignore[union-attr]
            await passes(1)
        await passes(5)
        accepting.cancel()
        await asyncio.wait([accepting])
        await ours.write(message(HEADER)[5:] + message("/a") + b"rest")
        theirs = await soon(far.accept_stream(["/a"]))
        assert await soon(theirs.read_exactly(4)) == b"rest"


@on_both
async def test_a_peer_that_proposes_writes_and_closes_at_once_loses_nothing() -> None:
    got: list[bytes] = []

    async def note(stream: Stream) -> None:
        got.append(await stream.read_to_end())

    async with ends() as both:
        for serves in (True, False):
            near, far = await both.connected()
            for _ in range(2):
                stream = await near.open_stream("/note")
                await stream.write(bytes(50_000))
                stream.finish()
            near.close()
            # This side asks for the streams only after the end of the connection.
            assert (await soon(far.closed())).by == "peer"
            if serves:
                await soon(far.serve({"/note": note}))
            else:
                await soon(far.accept_stream({"/note": note}))
                await soon(far.accept_stream({"/note": note}))
    assert [len(each) for each in got] == 4 * [50_000]


@on_both
async def test_a_connection_closed_here_agrees_on_no_protocol() -> None:
    async with ends() as both:
        near, far = await both.connected()
        stream = await near.open_stream("/note")
        await stream.write(b".")
        stream.finish()
        theirs = await soon(far.accept_stream())
        await soon(both.far.close())
        with pytest.raises(StreamLost):
            await theirs.negotiate(Selector(("/note",)), 20)
        with pytest.raises(ConnectionClosed):
            await soon(far.accept_stream(["/note"]))
