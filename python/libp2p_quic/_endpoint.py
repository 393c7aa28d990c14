"""The engine's endpoint, bound to the event loop in which it was made. It owns the connections.

A transport has one endpoint per trio run. All its listeners and dials share it, so that dials
leave from the listening socket. Background tasks run in the swarm's nursery, so that they end with
the swarm; a transport without a swarm runs them as system tasks. What listeners, connections and
streams share is here, so that none of them has to know the object that made it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from libp2p.peer.id import ID

from libp2p_quic._config import Limits
from libp2p_quic._driver import Driver, current_driver, running_driver
from libp2p_quic._engine import Config, Connection, Endpoint, Identity
from libp2p_quic._gates import Gates

# Time beyond `linger` for the last packets and for closing the sockets. Seconds.
_CLOSE_MARGIN = 2.0


class LoopEndpoint:
    """``engine`` with the ``driver`` of its event loop. Construct it inside that loop."""

    def __init__(self, identity: Identity, config: Config, limits: Limits, gates: Gates) -> None:
        self.driver: Driver = current_driver()
        self.engine = Endpoint(identity, config, self.driver.ready_queue)
        self.peer_id = ID(identity.peer_id)
        self.limits = limits
        self.gates = gates
        # Each connection until its tasks have ended, and the scope that cancels them.
        self.connections: dict[object, trio.CancelScope] = {}
        # The listening sockets by their address.
        self.sockets: dict[tuple[str, int], object] = {}
        self.touch = partial(self.driver.touch, self.engine)
        self.nursery: trio.Nursery | None = None
        self._is_over = trio.Event()
        self.driver.adopt(self.engine)

    @property
    def is_current(self) -> bool:
        """Whether the endpoint is open and belongs to the running event loop."""
        return self.driver is running_driver() and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether the endpoint is closing or closed."""
        return self._is_over.is_set()

    def end_with(self, nursery: trio.Nursery) -> None:
        """Close the endpoint when ``nursery`` is canceled: a swarm that its service manager stops,
        instead of `Swarm.close`, is canceled before it closes its transports."""
        try:
            nursery.start_soon(self._end)
        except RuntimeError:
            # The nursery is closed already. The endpoint is then closed at the end of the run.
            return

    async def _end(self) -> None:
        try:
            await self._is_over.wait()
        finally:
            self._start_close()
            self.driver.release(self.engine)

    def _start_close(self) -> None:
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
                    # The nursery is closed: its swarm has ended, or it belongs to an earlier run.
                    continue
        trio.lowlevel.spawn_system_task(work)

    def close_connection(self, connection: Connection, code: int = 0, reason: bytes = b"") -> None:
        """Close a connection, or end a handshake, and tell the peer ``code`` and ``reason``.

        Data of finished streams is delivered first. Idempotent; raises nothing.
        """
        connection.close(code, reason)
        self.touch()

    async def close(self) -> None:
        """Close everything and wait until finished streams are delivered.

        Then cancels the tasks of all connections. Waits for at most `linger` and two seconds.
        Canceling ends the wait, not the close.
        """
        self._start_close()
        try:
            with trio.move_on_after(self.limits.linger + _CLOSE_MARGIN):
                await self.driver.ready(self.engine.closed_nowait, self.engine.closed)
        finally:
            self.driver.release(self.engine)
            for scope in list(self.connections.values()):
                scope.cancel()
