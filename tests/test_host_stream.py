"""After `install()` the reads and writes of a host's stream take the free lock of its state at once."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.network.connection import swarm_connection
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.peerinfo import PeerInfo

from libp2p_quic import _host_stream
from libp2p_quic._driver import current_driver
from libp2p_quic._host_stream import HostStream, repair_limit
from libp2p_quic._prompt_lock import PromptLock, PromptSemaphore, TurnLock
from libp2p_quic._repair import result_of
from testkit.census import collected
from testkit.host import ECHO, echo
from testkit.near import IP4, installed, near_host, new_stream, swarm
from testkit.payload import drain

# Fewer than the calls after which the transport itself lets other tasks run.
WRITES = 10


@pytest.fixture(autouse=True)
def no_host_of_an_earlier_test() -> None:
    """Hole punching repairs streams until its last host is collected."""
    assert collected(lambda: not _host_stream._patch.is_applied)


class Passes(trio.abc.Instrument):
    """Counts the passes of the scheduler."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


def limit_of(limited: Any) -> int:
    """How many streams the swarm's resource manager allows."""
    return int(limited._resource_manager.limits.max_streams)


async def passes_of_writes() -> int:
    """How many passes the writes of a new stream take, of which each has room. Their bytes must come back."""
    async with near_host(IP4) as near, near_host(IP4) as far:
        far.set_stream_handler(ECHO, echo)
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        stream = await new_stream(near, far.get_id(), ECHO)
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        for number in range(WRITES):
            await stream.write(bytes([number]))
        trio.lowlevel.remove_instrument(passes)
        await stream.close_write()
        assert (await drain(stream)).size == WRITES
        await stream.close()
        return passes.count


async def test_writes_of_a_host_take_a_pass_each_unless_it_is_repaired() -> None:
    assert await passes_of_writes() >= WRITES
    with installed():
        assert await passes_of_writes() < WRITES / 2


LOCKS = {
    "lock": PromptLock(trio.Lock()),
    "semaphore": PromptLock(trio.Semaphore(1)),
    "limiter": PromptLock(trio.CapacityLimiter(1)),
}


@pytest.mark.parametrize("kind", LOCKS)
async def test_a_free_lock_is_taken_at_once_and_excludes_in_order(kind: str) -> None:
    order: list[str] = []

    async def hold(name: str) -> str:
        async with LOCKS[kind]:
            order.append(name)
        return name

    assert result_of(lambda: hold("free")) == "free"
    scope = trio.CancelScope()

    async def canceled() -> None:
        with scope:
            await hold("canceled")

    async with trio.open_nursery() as nursery, LOCKS[kind]:
        for task in (canceled, partial(hold, "first"), partial(hold, "second")):
            nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["free"]
    assert order == ["free", "first", "second"]


@pytest.mark.parametrize("kind", LOCKS)
async def test_a_canceled_task_does_not_take_a_free_lock(kind: str) -> None:
    """As of trio: what py-libp2p does under the lock would be lost at the next checkpoint."""
    taken: list[bool] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        async with LOCKS[kind]:
            taken.append(True)
    assert (taken, scope.cancelled_caught) == ([], True)


async def test_a_semaphore_tells_how_many_tokens_are_left() -> None:
    semaphore = PromptSemaphore(trio.Semaphore(2))
    async with semaphore:
        assert semaphore.value == 1
    assert semaphore.value == 2


async def test_new_streams_take_a_place_of_the_swarms_limit_at_once_while_it_is_repaired() -> None:
    async with near_host(IP4) as host:
        limited: Any = swarm(host)
        limit = limited._stream_semaphore
        repair = repair_limit(limited)
        assert repair is not None
        assert repair_limit(limited) is None
        assert result_of(limited._stream_semaphore.acquire) is None
        assert limit.value == limit_of(limited) - 1
        limited._stream_semaphore.release()
        repair.undo()
        assert limited._stream_semaphore is limit
        assert limit.value == limit_of(limited)


async def test_a_swarm_without_a_limit_of_streams_is_left_alone() -> None:
    assert repair_limit(SimpleNamespace(_stream_semaphore=None)) is None


async def test_a_lock_with_turns_lets_other_tasks_run() -> None:
    current_driver()
    lock = TurnLock(trio.Lock())
    passes = Passes()
    trio.lowlevel.add_instrument(passes)
    for _ in range(160):
        async with lock:
            pass
    trio.lowlevel.remove_instrument(passes)
    assert 5 <= passes.count <= 20


async def test_streams_of_other_transports_keep_their_lock() -> None:
    other: Any = SimpleNamespace(muxed_conn=None)
    assert isinstance(HostStream(other, None, None)._state_lock, trio.Lock)


async def test_a_py_libp2p_that_does_not_wait_keeps_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(stream: NetStream, n: int | None = None) -> bytes:
        return await stream.muxed_stream.read(n)

    monkeypatch.setattr(NetStream, "read", read)
    _host_stream._is_mended.cache_clear()
    try:
        with installed():
            assert vars(swarm_connection)["NetStream"] is NetStream
    finally:
        _host_stream._is_mended.cache_clear()


def test_install_is_undone() -> None:
    with installed():
        assert vars(swarm_connection)["NetStream"] is HostStream
    assert vars(swarm_connection)["NetStream"] is NetStream
