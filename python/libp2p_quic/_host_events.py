"""The events of a host's swarm: a notifee that needs no task of its own is told without one. What the
notifees do is theirs.

py-libp2p 0.8.1 begins a nursery for each event, with a task for each notifee, also for those that ignore the
event: a host has two such notifees for each stream that is opened or closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.network.swarm import Swarm
from multiaddr import Multiaddr

from libp2p_quic._callback import call_foreign
from libp2p_quic._driver import running_driver
from libp2p_quic._repair import ClassPatch, Repair, result_in_run

_METHOD = "_notify"
_stock: Any = getattr(Swarm, _METHOD, None)


class Notifee(INotifee):
    """A notifee that ignores all events; a subclass overrides the methods of those that it wants.

    py-libp2p's `INotifee` has each method abstract.
    """

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        return None

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        return None

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        return None

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        return None

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        return None

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        return None


class PromptNotifee(Notifee):
    """A notifee whose methods never wait, so that they need no task of their own."""


def repair_events(owner: object) -> Repair | None:
    """Have swarms begin tasks for notifees that may need them only, unless they do.

    The repair ends with the last ``owner`` that wanted it, an object that can be referenced weakly.
    """
    if _stock is None or _is_mended():
        return None
    return Repair(
        "an event of a swarm begins a task for a notifee only if several may wait",
        _patch.apply(owner),
        why="py-libp2p 0.8.1 begins one for each notifee, also for those that ignore the event",
    )


async def _notify(swarm: Any, method: str, *what: object) -> None:
    """Tell each notifee of ``swarm``, and return once all have returned. Their exceptions are logged."""
    others: list[Callable[[], Awaitable[bool]]] = []
    for notifee in list(swarm.notifees):
        if _does_nothing(getattr(notifee, method, None)):
            continue
        call = partial(_tell, notifee, method, (swarm, *what))
        if isinstance(notifee, PromptNotifee):
            await call()
        else:
            others.append(call)
    if len(others) > 1:
        # One of them may wait for another.
        async with trio.open_nursery() as nursery:
            for each in others:
                nursery.start_soon(each)
        return
    for each in others:
        await each()
    driver = running_driver()
    if driver is None or driver.count_call():
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _tell(notifee: object, method: str, arguments: Sequence[object]) -> bool:
    name = f"{type(notifee).__name__}.{method}"
    return await call_foreign(name, lambda: getattr(notifee, method)(*arguments))


def _does_nothing(method: object) -> bool:
    """Whether a method, if it is one, returns at once."""
    code = getattr(method, "__code__", None)
    return code is not None and code.co_code in _NOTHING


async def _ignore(_notifee: object, _network: object, _what: object) -> None:
    return None


async def _ignore_with_docstring(_notifee: object, _network: object, _what: object) -> None:
    """None is another constant if there is a docstring."""


# What the interpreter runs for methods that have no statement.
_NOTHING = frozenset(each.__code__.co_code for each in (_ignore, _ignore_with_docstring))

_patch = ClassPatch(Swarm, _METHOD, _notify)


@cache
def _is_mended() -> bool:
    return result_in_run(_is_told_in_same_task) is True


async def _is_told_in_same_task() -> bool:
    """Whether py-libp2p's swarm tells its only notifee without another task."""
    tasks = [trio.lowlevel.current_task()]

    async def opened_stream(*_: object) -> None:
        tasks.append(trio.lowlevel.current_task())

    notifee = SimpleNamespace(opened_stream=opened_stream)
    await _stock(SimpleNamespace(notifees=[notifee]), "opened_stream", None)
    return len(tasks) == 2 and tasks[0] is tasks[1]
