"""Leaks on purpose, once in every round, so that tests can show that leaks are detected."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
from libp2p.abc import IHost

from testkit.near import near_transport

MIB = 1 << 20


class Leak:
    """Keeps resources that should be released; `release` frees those that would outlive the run."""

    def __init__(self, home: IHost) -> None:
        self._home = home
        self._descriptors: list[int] = []
        self._allocated: list[bytes] = []
        self._objects: list[list[object]] = []
        self._is_over = threading.Event()

    async def descriptors(self) -> None:
        self._descriptors.append(os.dup(0))

    async def threads(self) -> None:
        threading.Thread(target=self._is_over.wait, daemon=True).start()

    async def tasks(self) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)

    async def allocated(self) -> None:
        # Random, because the system does not back pages of zeros.
        self._allocated.append(os.urandom(MIB) * 64)

    async def objects(self) -> None:
        self._objects.append([object() for _ in range(200_000)])

    async def connections(self) -> None:
        # The trio run, not this object, keeps the endpoint and its connection.
        await near_transport(keep_alive_interval=0.5).dial(self._home.get_addrs()[0])

    def release(self) -> None:
        self._is_over.set()
        for descriptor in self._descriptors:
            os.close(descriptor)


KINDS = ("descriptors", "threads", "tasks", "allocated", "objects", "connections")


@contextmanager
def leaking(kind: str, home: IHost) -> Iterator[Callable[[], Awaitable[None]]]:
    """A function that leaks once; none if ``kind`` is empty."""
    leak = Leak(home)
    try:
        yield getattr(leak, kind) if kind in KINDS else trio.lowlevel.checkpoint
    finally:
        leak.release()
