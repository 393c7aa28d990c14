"""Locks in the place of py-libp2p's, which cost no pass of trio's scheduler while they are free.

Taking a free `trio.Lock` is a checkpoint: the run polls for I/O, and every other task that can run does so
first. py-libp2p 0.8.1 takes up to five for one read or write.
"""

from __future__ import annotations

import trio

from libp2p_quic._driver import Driver, running_driver


class PromptLock:
    """Admits tasks as the lock, semaphore or limiter that it wraps does, and in its order; a canceled task
    does not take it.

    To take it while it is free lets no other task run: what is done with it must have checkpoints of its own.
    """

    __slots__ = ("_lock",)

    def __init__(self, lock: trio.Lock | trio.Semaphore | trio.CapacityLimiter) -> None:
        self._lock = lock

    async def acquire(self) -> None:
        # Before py-libp2p takes received bytes, counts credit, or encrypts with the next nonce: if a later
        # checkpoint of the same call canceled it, these would be lost.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(self, *_: object) -> None:
        self.release()


class PromptSemaphore(PromptLock):
    """Has as many tokens as the semaphore that it wraps."""

    __slots__ = ()

    @property
    def value(self) -> int:
        """The tokens that are left."""
        assert isinstance(self._lock, trio.Semaphore)
        return self._lock.value


class TurnLock(PromptLock):
    """Lets other tasks run before it is taken, as often as the driver's own calls do: each 16th time."""

    __slots__ = ("_driver",)

    def __init__(self, lock: trio.Lock | trio.Semaphore) -> None:
        super().__init__(lock)
        # Of the run that the lock is used in, once that has one.
        self._driver: Driver | None = None

    async def acquire(self) -> None:
        driver = self._driver
        if driver is None:
            driver = self._driver = running_driver()
        if driver is None or driver.count_call():
            await trio.lowlevel.checkpoint()
        await super().acquire()
