"""After `install()` a swarm tells its notifees of events without tasks that nobody needs. Real hosts."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from libp2p.abc import INetConn, INetStream, INetwork
from libp2p.peer.peerinfo import PeerInfo

from libp2p_quic import _host_events
from libp2p_quic._host_events import Notifee, PromptNotifee, _does_nothing
from testkit.census import PATIENCE, collected
from testkit.host import ECHO, echo
from testkit.near import IP4, installed, near_host, new_stream, swarm
from testkit.payload import drain

STREAMS = 5


@pytest.fixture(autouse=True)
def no_host_of_an_earlier_test() -> None:
    """Hole punching repairs events until its last host is collected."""
    assert collected(lambda: not _host_events._patch.is_applied)


class Tasks(trio.abc.Instrument):
    """Counts the tasks that tell a notifee."""

    count = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.count += "_notify." in task.name or "_host_events." in task.name


class Prompt(PromptNotifee):
    """Notes the streams that it is told of."""

    def __init__(self) -> None:
        self.opened = 0

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        self.opened += 1


class Slow(Notifee):
    """Returns only when it may."""

    def __init__(self) -> None:
        self.told = trio.Event()
        self.may_return = trio.Event()

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        self.told.set()
        await self.may_return.wait()


class Waiting(Notifee):
    """Waits for another notifee to be told."""

    def __init__(self, event: str, other: trio.Event) -> None:
        self.told = trio.Event()
        self._event = event
        self._other = other

    async def _note(self, event: str) -> None:
        if event == self._event:
            self.told.set()
            await self._other.wait()

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        await self._note("connected")

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        await self._note("opened_stream")


class Failing(Notifee):
    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        raise ValueError("of the program")


async def tasks_of_streams() -> int:
    """How many tasks tell notifees of streams that are opened and closed."""
    prompt = Prompt()
    async with near_host(IP4) as near, near_host(IP4) as far:
        far.set_stream_handler(ECHO, echo)
        await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
        swarm(near).register_notifee(prompt)
        tasks = Tasks()
        trio.lowlevel.add_instrument(tasks)
        for number in range(STREAMS):
            stream = await new_stream(near, far.get_id(), ECHO)
            await stream.write(bytes([number]))
            await stream.close_write()
            assert (await drain(stream)).size == 1
            await stream.close()
        trio.lowlevel.remove_instrument(tasks)
        # Those of identify are among them, perhaps.
        assert prompt.opened >= STREAMS
        return tasks.count


async def test_a_stream_begins_tasks_only_without_the_repair() -> None:
    assert await tasks_of_streams() >= 2 * STREAMS
    with installed():
        assert await tasks_of_streams() == 0


@pytest.mark.parametrize("event", ["connected", "opened_stream"])
async def test_a_notifee_may_wait_for_another(event: str) -> None:
    with installed():
        async with near_host(IP4) as near, near_host(IP4) as far:
            first = Waiting(event, trio.Event())
            second = Waiting(event, first.told)
            first._other = second.told
            swarm(near).register_notifee(first)
            swarm(near).register_notifee(second)
            with trio.fail_after(PATIENCE):
                await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
                # As soon as there is a stream: that of identify.
                await first.told.wait()
                await second.told.wait()


async def test_a_stream_is_handed_over_once_its_only_notifee_has_returned() -> None:
    with installed():
        async with near_host(IP4) as near, near_host(IP4) as far, trio.open_nursery() as nursery:
            far.set_stream_handler(ECHO, echo)
            await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
            slow, opened = Slow(), trio.Event()
            swarm(near).register_notifee(slow)

            async def open_one() -> None:
                await new_stream(near, far.get_id(), ECHO)
                opened.set()

            nursery.start_soon(open_one)
            with trio.fail_after(PATIENCE):
                await slow.told.wait()
                assert not opened.is_set()
                slow.may_return.set()
                await opened.wait()
            nursery.cancel_scope.cancel()


async def test_an_exception_of_a_notifee_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with installed():
        async with near_host(IP4) as near, near_host(IP4) as far:
            far.set_stream_handler(ECHO, echo)
            await near.connect(PeerInfo(far.get_id(), list(far.get_addrs())))
            prompt = Prompt()
            incomplete: Any = object()
            for each in (Failing(), incomplete, prompt):
                swarm(near).register_notifee(each)
            with caplog.at_level(logging.ERROR, "libp2p_quic"):
                await (await new_stream(near, far.get_id(), ECHO)).close()
            assert prompt.opened >= 1
    assert "Failing.opened_stream failed" in caplog.text
    assert "ValueError: of the program" in caplog.text
    assert "object.opened_stream failed" in caplog.text


async def test_events_let_other_tasks_run() -> None:
    with installed():
        async with near_host(IP4) as near:
            stopped = trio.Event()

            async def stop() -> None:
                stopped.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(stop)
                for _ in range(200):
                    await swarm(near)._notify("closed_stream", None)
                assert stopped.is_set()


class Methods:
    async def passes(self, network: object, what: object) -> None:
        pass

    async def returns(self, network: object, what: object) -> None:
        return None

    async def documented(self, network: object, what: object) -> None:
        """Nothing."""

    async def waits(self, network: object, what: object) -> None:
        await trio.lowlevel.checkpoint()

    async def notes(self, network: object, what: object) -> None:
        self.what = what

    async def raises(self, network: object, what: object) -> None:
        raise ValueError

    def is_no_coroutine(self, network: object, what: object) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "nothing"),
    [
        ("passes", True),
        ("returns", True),
        ("documented", True),
        ("waits", False),
        ("notes", False),
        ("raises", False),
        ("is_no_coroutine", False),
        ("missing", False),
    ],
)
def test_methods_that_do_nothing_are_known(name: str, nothing: bool) -> None:
    assert _does_nothing(getattr(Methods(), name, None)) is nothing
