"""Endpoints, listeners and connections of `libp2p_quic.asyncio`, on both event loops."""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import threading
from dataclasses import fields, replace
from typing import Any

import pytest

from libp2p_quic import _engine
from libp2p_quic.asyncio import (
    Address,
    Connection,
    ConnectionClosed,
    DialError,
    Endpoint,
    EndpointConfig,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    HostKeyError,
    Identity,
    InvalidAddressError,
    InvalidConfigError,
    ListenError,
    PeerId,
    PeerIdMismatchError,
    QUICError,
    Stream,
    StreamLost,
    UnreachableError,
)
from libp2p_quic.asyncio.resolve import resolved
from testkit.asyncio_ends import LOOPBACK, Ends, ends, raw_streams
from testkit.census import census, left_since
from testkit.loops import LOOPS, on_both, passes, run, soon
from testkit.names import free_port

QUICK = EndpointConfig(handshake_timeout=0.3, linger=0.1)


@on_both
async def test_both_sides_know_each_other() -> None:
    async with ends() as both:
        near, far = await both.connected()
        assert (near.peer_id, far.peer_id) == (both.far.peer_id, both.near.peer_id)
        assert near.remote_address == far.local_address == both.listener.address
        assert near.local_address.startswith("/ip4/127.0.0.1/udp/")
        assert near.public_key == both.far.identity.public_key
        assert near.is_initiator
        assert not far.is_initiator
        assert near.statistics().handshake > 0
        assert near.tls == far.tls
        assert (near.tls.key_exchange, near.tls.alpn) == ("X25519MLKEM768", "libp2p")
        assert both.listener.statistics()["connections_accepted"] == 1
        assert str(near.peer_id) in repr(near)


@on_both
async def test_dial_takes_names_and_any_peer() -> None:
    async with ends() as both:
        port = Address.parse(both.listener.address).port
        for address in (f"/dns4/localhost/udp/{port}/quic-v1", f"/ip4/127.0.0.1/udp/{port}/quic"):
            connection = await soon(both.near.connect(address))
            assert connection.peer_id == both.far.peer_id
            assert connection.remote_address == both.listener.address


@on_both
async def test_wrong_peer_is_refused() -> None:
    async with ends() as both:
        other = Identity.generate().peer_id
        with pytest.raises(PeerIdMismatchError, match=str(other)):
            await soon(both.near.connect(f"{both.listener.address}/p2p/{other}"))


@on_both
async def test_failed_dials_say_why() -> None:
    async with ends(QUICK) as both:
        silent = f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1"
        with pytest.raises((HandshakeTimeoutError, UnreachableError), match=r"failed to dial /ip4/127"):
            await soon(both.near.connect(silent))
        with pytest.raises(DialError, match="cannot resolve"):
            await soon(both.near.connect("/dns4/name.invalid/udp/1/quic-v1"))
        with pytest.raises(DialError, match="port 0"):
            await both.near.connect("/ip4/127.0.0.1/udp/0/quic-v1")
        with pytest.raises(InvalidAddressError, match="tcp"):
            await both.near.connect("/ip4/127.0.0.1/tcp/1")
        await both.near.close()
        with pytest.raises(DialError, match="closed"):
            await both.near.connect(silent)


@on_both
async def test_addresses_that_cannot_be_listened_on() -> None:
    async with ends() as both:
        with pytest.raises(ListenError, match=os.strerror(errno.EADDRINUSE)):
            await both.near.listen(both.listener.address)
        with pytest.raises(InvalidAddressError, match="cannot be listened on"):
            await both.near.listen("/dns/localhost/udp/0/quic-v1")
        with pytest.raises(ListenError, match="this endpoint is"):
            await both.near.listen(f"{LOOPBACK}/p2p/{both.far.peer_id}")
        await both.near.close()
        with pytest.raises(ListenError, match="closed"):
            await both.near.listen(LOOPBACK)


@on_both
async def test_listener_yields_connections_until_it_is_closed() -> None:
    async with ends() as both:
        found: list[Connection] = []

        async def accept_all() -> None:
            async for connection in both.listener:
                found.append(connection)

        accepting = asyncio.ensure_future(accept_all())
        first = await soon(both.near.connect(both.address))
        while not found:
            await passes(1)
        both.listener.close()
        await asyncio.wait_for(accepting, 20)
        assert [each.peer_id for each in found] == [both.near.peer_id]
        # Accepted connections stay open.
        assert not first.is_closed
        with pytest.raises(ListenError, match="closed"):
            await both.listener.accept()
        assert both.listener.statistics()["connections_accepted"] == 1


@on_both
async def test_closed_says_who_and_why() -> None:
    async with ends() as both:
        near, far = await both.connected()
        waiting = asyncio.ensure_future(far.closed())
        near.close(0x1234, "enough")
        ended = await asyncio.wait_for(waiting, 20)
        assert (ended.by, ended.kind, ended.error_code, ended.reason) == ("peer", "closed", 0x1234, "enough")
        mine = await soon(near.closed())
        assert (mine.by, mine.error_code) == ("local", 0x1234)
        for failing in (near.open_stream(), far.accept_stream(), far.accept_stream(["/a"])):
            with pytest.raises(ConnectionClosed) as failed:
                await soon(failing)
            assert failed.value.error_code == 0x1234


@on_both
async def test_silent_network_ends_a_connection() -> None:
    silent = EndpointConfig(idle_timeout=1.5, keep_alive_interval=None)
    async with ends(silent, silent) as both:
        near, _ = await both.connected()
        ended = await soon(near.closed())
        assert (ended.by, ended.kind) == ("network", "idle_timeout")


@on_both
async def test_closing_the_endpoint_delivers_finished_streams() -> None:
    async with ends() as both:
        near, far = await both.connected()
        ours = await near.open_stream()
        await ours.write(bytes(500_000))
        ours.finish()
        closing = asyncio.ensure_future(both.near.close())
        theirs = await soon(far.accept_stream())
        assert len(await soon(theirs.read_to_end())) == 500_000
        await asyncio.wait_for(closing, 20)


# Gates and limits


@on_both
async def test_gate_decides_about_inbound_peers() -> None:
    asked: list[tuple[PeerId, str]] = []
    release = asyncio.Event()

    async def gate(peer: PeerId, address: str) -> bool:
        asked.append((peer, address))
        number = len(asked)
        await release.wait()
        return number == 2

    async with ends(far=EndpointConfig(gate_peer=gate)) as both:
        refused = await soon(both.near.connect(both.address))
        while not asked:
            await passes(1)
        # A slow answer delays no other peer.
        admitted = await soon(both.near.connect(both.address))
        while len(asked) < 2:
            await passes(1)
        release.set()
        for each in (refused, admitted):
            assert each.peer_id == both.far.peer_id
        accepted = await soon(both.listener.accept())
        assert accepted.peer_id == both.near.peer_id
        assert (await soon(refused.closed())).error_code == 0x1007
        assert not admitted.is_closed
        both.listener.close()
        assert asked[0][0] == both.near.peer_id
        assert Address.parse(asked[0][1]).host == "127.0.0.1"


@on_both
async def test_gate_denies_with_libp2ps_code() -> None:
    def gate(*_: object) -> bool:
        return False

    async with ends(far=EndpointConfig(gate_peer=gate)) as both:
        connection = await soon(both.near.connect(both.address))
        ended = await soon(connection.closed())
        assert (ended.by, ended.error_code) == ("peer", 0x1007)
        assert both.listener.statistics()["connections_gated"] == 1
        both.listener.close()
        assert both.listener.statistics()["connections_gated"] == 1


@on_both
async def test_gate_denies_dialed_peers() -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    async with ends(near=EndpointConfig(gate_peer=broken)) as both:
        with pytest.raises(DialError, match="ZeroDivisionError") as failed:
            await soon(both.near.connect(both.address))
        assert failed.value.error_code == 0x1007


@on_both
async def test_denied_addresses_are_refused_in_the_handshake() -> None:
    async with ends() as both:
        both.far.deny_addresses(["127.0.0.0/8"])
        with pytest.raises(HandshakeRefusedError):
            await soon(both.near.connect(both.address))
        both.far.deny_addresses([])
        await soon(both.near.connect(both.address))
        with pytest.raises(ValueError, match="nonsense"):
            both.far.deny_addresses(["nonsense"])
        with pytest.raises(ValueError, match="list"):
            both.far.deny_addresses("127.0.0.1")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"idle_timeout": 0}, "idle_timeout must be a positive number"),
        ({"idle_timeout": True}, "idle_timeout"),
        ({"write_buffer": 0}, "write_buffer"),
        ({"congestion_control_algorithm": "vegas"}, "cubic"),
        ({"gate_peer": 5}, "callable"),
        ({"stream_window": 5_000, "connection_window": 4_000}, "must not exceed"),
        ({"max_handshakes_per_address": 9, "max_handshakes": 8}, "must not exceed"),
        ({"keep_alive_interval": 7.0, "idle_timeout": 6.0}, "keep_alive_interval"),
    ],
)
def test_wrong_values_are_named(wrong: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidConfigError, match=named):
        EndpointConfig(**wrong)  # type: ignore[arg-type]


def test_defaults_give_way_to_what_is_set() -> None:
    made = EndpointConfig(idle_timeout=4, max_handshakes=100, stream_window=30_000_000)._engine_values()
    assert made["keep_alive_interval"] == 2
    assert made["retry_above"] == 25
    assert made["connection_receive_window"] == 30_000_000
    assert EndpointConfig(max_connections=8)._engine_values()["max_connections"] == 8


def test_the_defaults_are_the_engines() -> None:
    values, expected = EndpointConfig()._engine_values(), _engine.Config.defaults()
    assert values == {name: expected[name] for name in values}


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="Identity"):
        Endpoint(b"key")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="EndpointConfig"):
        Endpoint(Identity.generate(), {})  # type: ignore[arg-type]
    assert issubclass(HostKeyError, QUICError)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_conections", "max_connections"),
        ("CONNECTION_HANDSHAKE_TIMEOUT", "handshake_timeout"),
        ("CONGESTION_CONTROL_ALGORITHM", "congestion_control_algorithm"),
    ],
)
def test_an_argument_that_is_no_field_is_refused_with_the_nearest_name(name: str, meant: str) -> None:
    refusal = rf"^{name} is not a field of EndpointConfig: did you mean {meant}\?$"
    with pytest.raises(InvalidConfigError, match=refusal):
        EndpointConfig(**{name: 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidConfigError, match=refusal):
        replace(EndpointConfig(), **{name: 1})  # type: ignore[arg-type]


def test_the_constructor_shows_its_fields() -> None:
    """`names_checked` wraps it; editors and the reference page read the signature."""
    assert list(inspect.signature(EndpointConfig).parameters) == [
        each.name for each in fields(EndpointConfig)
    ]


# Handlers


@on_both
async def test_handler_that_raises_resets_its_stream_only() -> None:
    async def fail(stream: Stream) -> None:
        await stream.read()
        raise ZeroDivisionError

    async def answer(stream: Stream) -> None:
        await stream.write(b"ok")

    async with ends() as both:
        serving = asyncio.ensure_future(both.listener.serve({"/fail": fail, "/ok": answer}))
        near = await soon(both.near.connect(both.address))
        failing = await near.open_stream("/fail")
        await failing.write(b"x")
        with pytest.raises(QUICError):
            await soon(failing.read())
        good = await near.open_stream("/ok")
        assert await soon(good.read_to_end()) == b"ok"
        both.listener.close()
        near.close()
        # The last connection is over, and so is `serve`.
        await asyncio.wait_for(serving, 20)


@on_both
async def test_handler_that_closes_the_connection_ends_no_stream_cleanly() -> None:
    async with ends() as both:
        near, far = await both.connected()

        async def close(stream: Stream) -> None:
            await stream.read_exactly(1)
            far.close(42)

        serving = asyncio.ensure_future(far.serve({"/close": close}))
        stream = await near.open_stream("/close")
        await stream.write(b"x")
        with pytest.raises(StreamLost) as failed:
            await soon(stream.read())
        assert failed.value.error_code == 42
        await asyncio.wait_for(serving, 20)


@on_both
async def test_more_streams_than_the_peer_allows_at_first_can_be_open_unused() -> None:
    async with ends() as both:
        serving = asyncio.ensure_future(both.listener.serve({"/echo": sink}))
        near = await soon(both.near.connect(both.address))
        opened = [await soon(near.open_stream("/echo")) for _ in range(100)]
        for stream in opened:
            stream.finish()
            assert await soon(stream.read()) == b""
        serving.cancel()


@on_both
async def test_canceled_server_leaves_no_task() -> None:
    started = asyncio.Event()

    async def wait(stream: Stream) -> None:
        started.set()
        await stream.read()

    async with ends() as both:
        before = asyncio.all_tasks()
        serving = asyncio.ensure_future(both.listener.serve({"/wait": wait}))
        near = await soon(both.near.connect(both.address))
        stream = await near.open_stream("/wait")
        await stream.write(b"")
        stream.finish()
        waiting = await near.open_stream("/wait")
        reading = asyncio.ensure_future(waiting.read())
        await asyncio.wait_for(started.wait(), 20)
        serving.cancel()
        await asyncio.wait([serving])
        with pytest.raises(QUICError):
            await asyncio.wait_for(reading, 20)
        assert asyncio.all_tasks() == before


# Loops


async def transfer() -> int:
    async with ends() as both:
        near, far = await both.connected()
        ours, theirs = await raw_streams(near, far)
        writing = asyncio.ensure_future(ours.write(bytes(300_000)))
        got = len(await soon(theirs.read_exactly(300_000)))
        await writing
        return got


KEPT: list[object] = []


async def left_open() -> None:
    """Ends with a task that waits, a dial that is on its way, and everything open."""
    near, far = Endpoint(Identity.generate()), Endpoint(Identity.generate())
    both = Ends(near, far, await far.listen(LOOPBACK))
    one, other = await both.connected()
    ours, theirs = await raw_streams(one, other)
    background = [
        asyncio.ensure_future(ours.read()),
        asyncio.ensure_future(near.connect(both.address)),
        asyncio.ensure_future(both.listener.serve({})),
        asyncio.ensure_future(other.closed()),
    ]
    await passes(1)
    # Kept beyond the end of the loop, as nothing else may end them.
    KEPT[:] = [both, one, other, ours, theirs, *background]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("program", [transfer, left_open])
def test_loops_leave_nothing(loop: str, program: object) -> None:
    assert callable(program)
    run(loop, program(), debug=True)
    before = census()
    for _ in range(3):
        run(loop, program(), debug=True)
    assert left_since(before) == {}


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_in_threads_do_not_meet(loop: str) -> None:
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(run(loop, transfer()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert got == [300_000] * 4


@pytest.mark.parametrize("loop", LOOPS)
def test_endpoint_belongs_to_one_loop(loop: str) -> None:
    endpoint = Endpoint(Identity.generate())

    async def listen() -> None:
        await endpoint.listen(LOOPBACK)

    run(loop, listen())
    with pytest.raises(RuntimeError, match="another event loop"):
        run(loop, listen())


@on_both
async def test_storm_of_canceled_calls_leaves_nothing() -> None:
    async with ends() as both:
        near, far = await both.connected()
        serving = asyncio.ensure_future(far.serve({"/sink": sink}))
        before = asyncio.all_tasks()

        async def request() -> None:
            async with await near.open_stream("/sink") as stream:
                await stream.write(bytes(1000))
                await stream.read()

        for round_ in range(30):
            tasks = [asyncio.ensure_future(request()) for _ in range(20)]
            tasks += [asyncio.ensure_future(dial(both)) for _ in range(2)]
            await passes(round_ % 7)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        # The handlers run in this loop too, and learn of the resets from the network.
        while near.statistics().streams_open or asyncio.all_tasks() != before:
            await passes(1)
        assert set(near._driver._waiting) <= {far._engine.acceptable}
        serving.cancel()


async def sink(stream: Stream) -> None:
    while await stream.read():
        pass


async def dial(both: Ends) -> None:
    await both.near.connect(both.address)


class _NoAnswer(asyncio.SelectorEventLoop):
    """An event loop whose name servers never answer."""

    async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
        answer: asyncio.Future[list[Any]] = self.create_future()
        return await answer


def test_a_lookup_without_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libp2p_quic.asyncio.resolve._LIMIT", 0.1)

    async def look_up() -> None:
        with pytest.raises(DialError, match=r"^cannot resolve /dns4/silent\.test: no answer within 0\.1 s$"):
            await soon(resolved(Address.parse("/dns4/silent.test/udp/4001/quic-v1")))

    loop = _NoAnswer()
    try:
        loop.run_until_complete(look_up())
    finally:
        loop.close()
