"""The engine's endpoint, tied to the event loop it was made in.

A transport has one per run: all its listeners and dials share it, so that dials leave from
the listening socket. Says where background work runs: in the nursery that the swarm gave,
so that it ends with the swarm, and without one in a system task, so that a bare transport
works too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from libp2p_quic._driver import Driver, current_driver
from libp2p_quic._engine import Config, Connection, Endpoint, Identity

# Beyond the linger time, for the last packets and the sockets. Seconds.
_CLOSE_MARGIN = 2.0


class LoopEndpoint:
    """``engine`` with the ``driver`` of its event loop. Make it inside that loop."""

    def __init__(self, identity: Identity, config: Config, linger: float) -> None:
        self.driver: Driver = current_driver()
        self.engine = Endpoint(identity, config, self.driver.ready_queue)
        self.linger = linger
        self.touch = partial(self.driver.touch, self.engine)
        self.nursery: trio.Nursery | None = None
        self._is_over = trio.Event()
        self.driver.adopt(self.engine)

    @property
    def is_current(self) -> bool:
        """Whether it is open, and the running event loop is the one it was made in."""
        return self.driver is current_driver() and not self._is_over.is_set()

    def end_with(self, nursery: trio.Nursery) -> None:
        """Close it when that nursery is cancelled: a swarm that is stopped by its service and
        not by `Swarm.close` is itself cancelled before it gets to its transports."""
        try:
            nursery.start_soon(self._end)
        except RuntimeError:
            # It is closed already; then the run's end is what is left.
            return

    async def _end(self) -> None:
        try:
            await self._is_over.wait()
        finally:
            self._begin_to_close()
            self.driver.release(self.engine)

    def _begin_to_close(self) -> None:
        self._is_over.set()
        self.engine.close(0, b"")
        self.touch()

    def spawn(self, work: Callable[[], Awaitable[None]], nursery: trio.Nursery | None) -> None:
        """Run ``work`` in ``nursery``, else in the swarm's, else in a system task."""
        for home in (nursery, self.nursery):
            if home is not None:
                try:
                    home.start_soon(work)
                    return
                except RuntimeError:
                    # That nursery is closed: a swarm that is gone, or an earlier run's.
                    continue
        trio.lowlevel.spawn_system_task(work)

    def abandon(self, attempt: Connection) -> None:
        """Give a dial up; a peer that has answered meanwhile sees it closed with code 0."""
        attempt.close(0, b"")
        self.touch()

    async def close(self) -> None:
        """Close everything and wait, for a bounded time, until what is owed is delivered.

        Cancelling stops the waiting, not the closing.
        """
        self._begin_to_close()
        try:
            with trio.move_on_after(self.linger + _CLOSE_MARGIN):
                await self.driver.ready(self.engine.closed_nowait, self.engine.closed)
        finally:
            self.driver.release(self.engine)
