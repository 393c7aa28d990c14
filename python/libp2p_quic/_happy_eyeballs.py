"""Races connection attempts by RFC 8305 (Happy Eyeballs version 2): the next attempt starts 250 ms
after the previous one, or at once when one fails or its port is reported as unreachable, and the
first that connects wins.

The caller decides what a way is (an address of a name, a multiaddr of a peer) and how it is dialed.
This module waits through the driver only and knows neither py-libp2p nor an event loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar

from libp2p_quic._driver import Driver
from libp2p_quic._engine_errors import ConnectionLostError

# RFC 8305 section 5, the recommended Connection Attempt Delay. Seconds.
ATTEMPT_DELAY = 0.25


class Attempt(Protocol):
    """A handshake in flight. The engine's `Connection` implements it."""

    @property
    def connected(self) -> int: ...

    @property
    def is_port_unreachable(self) -> bool: ...

    def connected_nowait(self) -> bool | None: ...

    def unconnected(self) -> ConnectionLostError | None: ...


Way = TypeVar("Way")
A = TypeVar("A", bound=Attempt)
R = TypeVar("R")


class AllFailedError(Exception, Generic[Way]):
    """Every attempt failed. ``causes`` has each way with its error, in the order of failing."""

    def __init__(self, causes: list[tuple[Way, Exception]]) -> None:
        super().__init__(causes)
        self.causes = causes


class Ways(Generic[Way]):
    """Ways that become known while their race runs, as names resolve (RFC 8305 section 3).

    ``order`` sorts those that are not tried yet.
    """

    def __init__(self, order: Callable[[Sequence[Way]], list[Way]]) -> None:
        self.waiting: list[Way] = []
        self.is_complete = False
        """Whether no more ways can come."""
        self.wake: Callable[[], None] = lambda: None
        """Ends the wait of the race. Set by its ``wait``."""
        self._order = order
        self._known: set[Way] = set()

    @classmethod
    def of(cls, ways: Sequence[Way]) -> Ways[Way]:
        """All ways, in this order."""
        made = cls(list)
        made.waiting, made.is_complete = list(ways), True
        return made

    def add(self, ways: Sequence[Way]) -> None:
        """Add those that were not added before."""
        new = [each for each in dict.fromkeys(ways) if each not in self._known]
        self._known.update(new)
        self.waiting = self._order(self.waiting + new)
        self.wake()

    def end(self) -> None:
        """No more come."""
        self.is_complete = True
        self.wake()


class Observer(Generic[Way, A]):
    """Is told by a race what becomes of each way, at once. This one ignores it."""

    def tried(self, way: Way) -> None:
        """An attempt at ``way`` begins."""

    def started(self, way: Way, attempt: A) -> None:
        """Its handshake has begun."""

    def connected(self, way: Way) -> None:
        """It is the result of the race."""

    def failed(self, way: Way, error: Exception) -> None:
        """It failed."""

    def abandoned(self, way: Way) -> None:
        """It is not needed, and will be ended."""

    def interrupted(self, way: Way, reason: ConnectionLostError | None) -> None:
        """The race is canceled. ``reason`` is why it is not connected; None if it is, and ``finish`` has
        not returned."""


class Race(Generic[Way, A, R]):
    """A race, with the callbacks of its caller.

    ``begin`` starts an attempt and returns it. ``finish`` takes over an attempt that connected.
    ``abandon`` ends an attempt that is not needed. An exception of the classes ``failures`` from
    ``begin``, ``finish`` or the attempt ends that attempt only; if ``finish`` raises, it has
    already ended the attempt. ``delay`` is the pause between two attempts, in seconds. ``is_final``
    (default: no error) is whether an error of one way is also that of all others, so that it ends the race.
    ``wait`` (default: the driver's `wait_any`) waits as `Driver.wait_any`, or until `Ways.wake` is called.
    ``observer`` (default: none) is told what becomes of each way.
    """

    def __init__(
        self,
        driver: Driver,
        begin: Callable[[Way], Awaitable[A]],
        finish: Callable[[Way, A], Awaitable[R]],
        abandon: Callable[[A], None],
        failures: tuple[type[Exception], ...],
        delay: float = ATTEMPT_DELAY,
        is_final: Callable[[Exception], bool] = lambda _: False,
        wait: Callable[[Sequence[int], float], Awaitable[None]] | None = None,
        observer: Observer[Way, A] | None = None,
    ) -> None:
        self._driver = driver
        self._begin = begin
        self._finish = finish
        self._abandon = abandon
        self._failures = failures
        self._delay = delay
        self._is_final = is_final
        self._wait = wait or driver.wait_any
        self._observer: Observer[Way, A] = observer or Observer()
        self.causes: list[tuple[Way, Exception]] = []
        """The ways that failed so far, in the order of failing."""
        self._running: list[tuple[Way, A]] = []

    async def run(self, ways: Sequence[Way] | Ways[Way]) -> R:
        """Try ``ways`` in their order and return the result of the first that connects.

        Call it once per object. All other attempts are abandoned before this returns, raises or is
        canceled, also those that connected at the same time. Raises AllFailedError.
        """
        if not isinstance(ways, Ways):
            if len(ways) == 1:
                return await self._run_only(ways[0])
            ways = Ways.of(ways)
        next_at, hopeless = float("-inf"), 0
        is_decided = False
        try:
            while ways.waiting or self._running or not ways.is_complete:
                result = await self._first_connected()
                if result is not None:
                    is_decided = True
                    return result[0]
                if any(self._is_final(error) for _, error in self.causes):
                    break
                if self._count_hopeless() > hopeless:
                    hopeless, next_at = self._count_hopeless(), float("-inf")
                now = self._driver.current_time()
                if ways.waiting and now >= next_at:
                    next_at = now + self._delay
                    await self._start(ways.waiting.pop(0))
                elif self._running or not ways.is_complete:
                    # `wait_any` allows no await between polling the attempts and this call.
                    tokens = [attempt.connected for _, attempt in self._running]
                    until = next_at if ways.waiting else float("inf")
                    await self._wait(tokens, until)
            is_decided = True
            raise AllFailedError(self.causes)
        finally:
            for way, attempt in self._running:
                if is_decided:
                    self._observer.abandoned(way)
                else:
                    self._observer.interrupted(way, attempt.unconnected())
                self._abandon(attempt)
            self._running.clear()

    async def _run_only(self, way: Way) -> R:
        """`run` for a single way, which needs no timer and no polling of several attempts."""
        if not await self._start(way):
            raise AllFailedError(self.causes)
        _, attempt = self._running.pop()
        is_decided = False
        try:
            await self._driver.ready(attempt.connected_nowait, attempt.connected)
            result = await self._finish(way, attempt)
            is_decided = True
            self._observer.connected(way)
            return result
        except self._failures as error:
            is_decided = True
            self._fail(way, error)
        finally:
            if not is_decided:
                self._observer.interrupted(way, attempt.unconnected())
                self._abandon(attempt)
        raise AllFailedError(self.causes)

    def _fail(self, way: Way, error: Exception) -> None:
        self.causes.append((way, error))
        self._observer.failed(way, error)

    def _count_hopeless(self) -> int:
        """Ways that failed, and those that continue although nothing listens on the port: the peer
        may be starting."""
        return len(self.causes) + sum(attempt.is_port_unreachable for _, attempt in self._running)

    async def _start(self, way: Way) -> bool:
        """Begin an attempt. Returns whether it runs."""
        self._observer.tried(way)
        try:
            attempt = await self._begin(way)
        except self._failures as error:
            self._fail(way, error)
            return False
        self._observer.started(way, attempt)
        self._running.append((way, attempt))
        return True

    async def _first_connected(self) -> tuple[R] | None:
        while (each := self._next_connected()) is not None:
            # It stays in `_running`, so that it is abandoned if `finish` is canceled.
            try:
                result = await self._finish(*each)
            except self._failures as error:
                self._running.remove(each)
                self._fail(each[0], error)
                if self._is_final(error):
                    return None
                continue
            self._running.remove(each)
            self._observer.connected(each[0])
            return (result,)
        return None

    def _next_connected(self) -> tuple[Way, A] | None:
        """An attempt whose handshake is complete. Moves failed attempts to `causes`."""
        for each in list(self._running):
            way, attempt = each
            try:
                if attempt.connected_nowait() is not None:
                    return each
            except self._failures as error:
                self._running.remove(each)
                self._fail(way, error)
        return None


def interleaved(ways: Sequence[Way], host_of: Callable[[Way], str] = str) -> list[Way]:
    """The ways with the families of their IP literals alternating, IPv6 first (RFC 8305 section 4).

    Order within a family is kept. ``host_of`` gives the IP literal of a way.
    """
    if len(ways) < 2:
        return list(ways)
    families: dict[int, deque[Way]] = {6: deque(), 4: deque()}
    for way in ways:
        families[ip_address(host_of(way)).version].append(way)
    found: list[Way] = []
    while any(families.values()):
        found += [family.popleft() for family in families.values() if family]
    return found
