"""examples/lean_transport.py carries what a lean consensus client does: large messages, requests with
time limits, many short streams, and gossip with many peers."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
from pathlib import Path

import lean_transport
import pytest
from lean_transport import (
    QuicConnection,
    QuicConnectionManager,
    QuicStream,
    QuicStreamAdapter,
)

from testkit.loops import LOOPS, run

STATUS, GOSSIP = "/leanconsensus/req/status/1/ssz_snappy", "/meshsub/1.1.0"
LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"


def test_it_has_less_than_150_lines() -> None:
    count = len(inspect.getsource(lean_transport).splitlines())
    assert count < 150
    page = (Path(__file__).parent.parent / "docs" / "howto" / "lean-clients.md").read_text()
    assert f"in {count} lines" in page


def test_the_page_maps_every_call() -> None:
    page = (Path(__file__).parent.parent / "docs" / "howto" / "lean-clients.md").read_text()
    (table,) = re.findall(r"^\| leanSpec's call.*?^$", page, re.DOTALL | re.MULTILINE)
    mapped = set(re.findall(r"^\| `(?:\w+\.)(\w+)", table, re.MULTILINE))
    calls = {
        name
        for each in (QuicConnectionManager, QuicConnection, QuicStream)
        for name, member in vars(each).items()
        if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod))
    }
    # `request` is this example's own, `create` a class method, and a stream's number has no use here.
    assert calls - {"request", "stream_id"} <= mapped | {"create"}


def manager() -> QuicConnectionManager:
    return QuicConnectionManager.create(os.urandom(32), (STATUS, GOSSIP))


async def answer(connection: QuicConnection) -> None:
    """Answer each request with itself."""

    async def one(stream: QuicStream) -> None:
        async with stream.stream:
            messages = QuicStreamAdapter(stream)
            await messages.write_message(await messages.read_message())

    running = set()
    while True:
        task = asyncio.ensure_future(one(await connection.accept_stream()))
        running.add(task)
        task.add_done_callback(running.discard)


async def requests(count: int, size: int, at_once: int) -> None:
    node, client = manager(), manager()
    address = await node.listen(LOOPBACK, answer)
    connection = await client.connect(address)
    data = os.urandom(size)
    left = iter(range(count))

    async def some() -> None:
        for _ in left:
            assert await connection.request(STATUS, data) == data

    await asyncio.gather(*(some() for _ in range(at_once)))
    assert connection.connection.statistics().streams_open <= at_once
    await client.close()
    await node.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_messages_of_ten_mebibytes(loop: str) -> None:
    run(loop, requests(3, 10 * 1024 * 1024 - 1, 1))


@pytest.mark.parametrize("loop", LOOPS)
def test_short_streams_on_one_connection(loop: str) -> None:
    run(loop, requests(2_000, 32, 100))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_short_streams() -> None:
    """On one loop: the credit for streams and their numbers are the engine's, whatever the loop is."""
    asyncio.run(requests(100_000, 32, 100))


async def gossip(peers: int, rounds: int) -> None:
    """One hub with a long-lived stream each way to every peer; a message of a peer goes to all others."""
    hub = manager()
    got: asyncio.Queue[bytes] = asyncio.Queue()
    out: list[QuicStreamAdapter] = []
    complete = asyncio.Event()

    async def member(connection: QuicConnection) -> None:
        out.append(QuicStreamAdapter(await connection.open_stream(GOSSIP)))
        if len(out) == peers:
            complete.set()
        messages = QuicStreamAdapter(await connection.accept_stream())
        while True:
            data = await messages.read_message()
            await asyncio.gather(*(each.write_message(data) for each in out))

    address = await hub.listen(LOOPBACK, member)
    nodes = [manager() for _ in range(peers)]

    async def listen(connection: QuicConnection) -> None:
        messages = QuicStreamAdapter(await connection.accept_stream())
        while True:
            got.put_nowait(await messages.read_message())

    publishing = []
    tasks = []
    for node in nodes:
        connection = await node.connect(address)
        publishing.append(QuicStreamAdapter(await connection.open_stream(GOSSIP)))
        # The stream exists for the hub once it has the negotiation's first bytes.
        await publishing[-1].write_message(b"hello")
        tasks.append(asyncio.ensure_future(listen(connection)))
    # A message reaches the peers that the hub has a stream to.
    await complete.wait()
    for number in range(rounds):
        await publishing[number % peers].write_message(b"block %d" % number)
    want = peers * rounds
    while want:
        want -= (await got.get()).startswith(b"block")
    for task in tasks:
        task.cancel()
    for node in nodes:
        await node.close()
    await hub.close()


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_gossip_with_fifty_peers(loop: str) -> None:
    run(loop, gossip(50, 20))


@pytest.mark.parametrize("loop", LOOPS)
def test_gossip_with_five_peers(loop: str) -> None:
    run(loop, gossip(5, 20))


@pytest.mark.parametrize("loop", LOOPS)
def test_request_that_is_not_answered_times_out(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lean_transport.REQUEST_TIMEOUT == 10
    monkeypatch.setattr("lean_transport.REQUEST_TIMEOUT", 0.2)

    async def silent(connection: QuicConnection) -> None:
        accepted = await connection.accept_stream()
        await connection.connection.closed()
        assert accepted.protocol_id == STATUS

    async def main() -> None:
        node, client = manager(), manager()
        connection = await client.connect(await node.listen(LOOPBACK, silent))
        with pytest.raises(asyncio.TimeoutError):
            await connection.request(STATUS, b"anyone?")
        await client.close()
        await node.close()

    run(loop, main())
