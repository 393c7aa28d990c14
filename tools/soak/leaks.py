"""Leaks on purpose, one more in every round, so that the tests see that they are noticed."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio
from libp2p.abc import IHost

from peers.near import near_transport

MIB = 1 << 20


class Plant:
    """Keeps what should have gone; `dig_up` lets go of what would outlive the run."""

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
        # Not zeros, which the system would not keep.
        self._allocated.append(os.urandom(MIB) * 64)

    async def objects(self) -> None:
        self._objects.append([object() for _ in range(200_000)])

    async def connections(self) -> None:
        # Its run, not this object, keeps the endpoint, and with it the connection.
        await near_transport(keep_alive_interval=0.5).dial(self._home.get_addrs()[0])

    def dig_up(self) -> None:
        self._is_over.set()
        for descriptor in self._descriptors:
            os.close(descriptor)


KINDS = ("descriptors", "threads", "tasks", "allocated", "objects", "connections")


@contextmanager
def planted(kind: str, home: IHost) -> Iterator[Callable[[], Awaitable[None]]]:
    """What each round has to leave behind; nothing when ``kind`` is empty."""
    plant = Plant(home)
    try:
        yield getattr(plant, kind) if kind in KINDS else trio.lowlevel.checkpoint
    finally:
        plant.dig_up()
