"""Records the attempts of a dial: when each address was tried, and how it ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import DialError
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint


@dataclass
class TracedAttempt:
    """One address of a dial. Times are in seconds since the dial began; ``result`` is one of "connected",
    "abandoned" (another address connected first) and the reason of the failure."""

    address: str
    began: float
    ended: float | None = None
    result: str = "abandoned"


class TracedEndpoint(Endpoint):
    """An endpoint for one dial, which ``attempts`` then describes."""

    def begin_trace(self) -> None:
        """Times count from now on."""
        self.attempts: list[TracedAttempt] = []
        self._dial_began = time.monotonic()
        self._watching: set[asyncio.Task[None]] = set()

    def elapsed(self) -> float:
        """Seconds since `begin_trace`."""
        return time.monotonic() - self._dial_began

    async def _begin(self, address: Address, host: str) -> EngineConnection:
        traced = TracedAttempt(str(address.at(host)), self.elapsed())
        self.attempts.append(traced)
        try:
            attempt = await super()._begin(address, host)
        except DialError as error:
            traced.ended, traced.result = self.elapsed(), str(error)
            raise
        task = asyncio.create_task(self._watch(traced, attempt))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        return attempt

    async def _watch(self, traced: TracedAttempt, attempt: EngineConnection) -> None:
        driver, _, _ = self._opened()
        try:
            await driver.ready(attempt.connected_nowait, attempt.connected)
            traced.result = "connected"
        except ConnectionLostError as error:
            # Closed here: another attempt won.
            if (error.by, error.kind) != ("local", "closed"):
                traced.result = str(error)
        traced.ended = self.elapsed()

    async def traced(self) -> None:
        """Wait until the end of each attempt is recorded."""
        if self._watching:
            await asyncio.wait(self._watching)

    async def _finish(self, address: Address, host: str, attempt: EngineConnection) -> Connection:
        connection = await super()._finish(address, host, attempt)
        reached = str(address.at(host))
        for each in self.attempts:
            if each.address == reached and each.ended is None:
                each.ended, each.result = self.elapsed(), "connected"
        return connection
