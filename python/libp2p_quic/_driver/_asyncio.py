"""The driver of one asyncio event loop.

The loop watches the ready queue's descriptor, or a thread does for a loop that cannot. Its callback
drains the queue and completes the futures of waiting tasks. Endpoints that were given work are
flushed by one callback behind those tasks, so that all writes of a pass cost one wake-up of the
engine. There is no task. When the loop ends, its endpoints are closed.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from threading import Lock
from types import coroutine
from typing import Any, TypeVar
from weakref import WeakMethod, WeakValueDictionary, finalize

from libp2p_quic._driver._log import EngineLog, follow_level
from libp2p_quic._driver._turn import Turn
from libp2p_quic._driver._watch_thread import WatchThread
from libp2p_quic._engine import Endpoint, ReadyQueue

T = TypeVar("T")

# Calls that do not wait, in one pass of the loop, before other tasks may run.
_TURN = 16


class AsyncioDriver:
    """See `libp2p_quic._driver.Driver`.

    asyncio delivers a cancellation only where a task suspends. A method that takes something must
    therefore suspend before it takes, never after.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ready_queue = ReadyQueue(receives=True)
        self.current_time = loop.time
        self._log = EngineLog(self.ready_queue)
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        # Calls that wait for one result each, in order. Ordered so that the first is found and removed at
        # once; a dict's first is behind all the places that were removed.
        self._turns: dict[int, OrderedDict[asyncio.Future[None], Turn[Any]]] = {}
        self._dirty: set[Endpoint] = set()
        # Calls of `_flush` that are scheduled.
        self._flushes_due = 0
        self._endpoints: set[Endpoint] = set()
        self._is_closed = False
        self._calls = 0
        self._watch_thread: WatchThread | None = None
        try:
            loop.add_reader(self.ready_queue.fileno(), self._drain)
        except NotImplementedError:
            self._watch_thread = _watched(self, loop)
        self._drain_log()
        self._watch_end = self._until_shutdown()
        _start(self._watch_end)

    # Waiting

    async def wait(self, token: int) -> None:
        future = self._future((token,))
        try:
            await future
        finally:
            # A completed one was removed before.
            if future.cancelled():
                self._leave(future, (token,))

    async def wait_any(self, tokens: Sequence[int], until: float) -> None:
        future = self._future(tokens)
        timer = None if until == float("inf") else self.loop.call_at(until, _complete, future)
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(future, tokens)

    def call_when(self, token: int, callback: Callable[[], None]) -> asyncio.Future[None]:
        """Call ``callback`` once when ``token`` is ready. `withdraw` the result to cancel it.

        For code that must not have a task. There must be no ``await`` between the method that
        returned ``None`` and this call.
        """
        future = self._future((token,))
        future.add_done_callback(lambda done: None if done.cancelled() else callback())
        return future

    def withdraw(self, token: int, future: asyncio.Future[None]) -> None:
        """Cancel a `call_when`. Idempotent."""
        self._leave(future, (token,))
        future.cancel()

    def _check_open(self) -> None:
        if self._is_closed or self.loop.is_closed():
            # The ready queue is no longer drained, so waiting would never end.
            raise RuntimeError("the event loop that this endpoint belongs to has ended")

    def _future(self, tokens: Sequence[int]) -> asyncio.Future[None]:
        self._check_open()
        future: asyncio.Future[None] = self.loop.create_future()
        for token in tokens:
            self._waiting.setdefault(token, []).append(future)
        return future

    def _leave(self, future: asyncio.Future[None], tokens: Sequence[int]) -> None:
        for token in tokens:
            futures = self._waiting.get(token, [])
            if future in futures:
                futures.remove(future)
                if not futures:
                    del self._waiting[token]

    async def ready(self, method: Callable[[], T | None], token: int) -> T:
        if self.count_call():
            await self.checkpoint()
        while (result := method()) is None:
            await self.wait(token)
        return result

    async def in_turn(self, method: Callable[[], T | None], token: int) -> T:
        turn: Turn[T] = Turn(method)
        turns = self._turns.get(token)
        if turns is None:
            if turn.take():
                # After the result was taken: a task that lets others run first would lose its place.
                if self.count_call():
                    await self._in_possession(self.checkpoint(), token, turn)
                return turn.outcome()
            self._check_open()
            turns = self._turns[token] = OrderedDict()
        future: asyncio.Future[None] = self.loop.create_future()
        turns[future] = turn
        try:
            await self._in_possession(future, token, turn)
        finally:
            # One that is canceled may be behind one that goes on waiting.
            waiting = self._turns.get(token)
            if waiting is not None and waiting.pop(future, None) is not None and not waiting:
                del self._turns[token]
        return turn.outcome()

    async def _in_possession(self, pause: Awaitable[None], token: int, turn: Turn[Any]) -> None:
        """Wait for ``pause``. If the task is canceled, the next one that waits gets its result; if none
        waits, the result is dropped.
        """
        try:
            await pause
        except asyncio.CancelledError:
            self._serve(token, turn.pass_to)
            turn.drop()
            raise

    def turns(self, token: int) -> int:
        return len(self._turns.get(token, ()))

    def _serve(self, token: int, supply: Callable[[Turn[Any]], bool] = Turn.take) -> None:
        """Get each task that waits for a result one by ``supply``, in order, until that returns False."""
        turns = self._turns.get(token)
        if turns is None:
            return
        while turns:
            future, turn = next(iter(turns.items()))
            # A task that is being canceled gets nothing.
            if not future.done():
                if not supply(turn):
                    return
                future.set_result(None)
            del turns[future]
        del self._turns[token]

    async def checkpoint(self) -> None:
        self._calls = 0
        await _one_pass()

    async def checkpoint_if_cancelled(self) -> None:
        """Does nothing: asyncio delivers a cancellation at the next suspension only."""

    async def cancel_shielded_checkpoint(self) -> None:
        """Does nothing: a cancellation that arrives while a task suspends cannot be postponed."""

    def count_call(self, size: int = 0) -> bool:
        self._calls += 1
        return self._calls >= _TURN

    # Endpoints

    def touch(self, endpoint: Endpoint) -> None:
        if self._is_closed or self.loop.is_closed():
            endpoint.flush()
            return
        self._dirty.add(endpoint)
        self._flush_soon()

    def adopt(self, endpoint: Endpoint) -> None:
        self._endpoints.add(endpoint)
        self.follow_log_level()

    def follow_log_level(self) -> None:
        follow_level()

    def release(self, endpoint: Endpoint) -> None:
        self._endpoints.discard(endpoint)

    def _flush_soon(self) -> None:
        if not self._flushes_due:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        self._flushes_due += 1
        self.loop.call_soon(self._flush)

    # Called by the loop

    def _flush(self) -> None:
        self._flushes_due -= 1
        self._calls = 0
        while self._dirty:
            self._dirty.pop().flush()

    def _drain(self) -> None:
        # A token without a waiting task is dropped: a later caller calls the method before it
        # waits, and gets the result.
        for token in self.ready_queue.drain():
            if token == self._log.arrived:
                self._drain_log()
                continue
            for future in self._waiting.pop(token, ()):
                _complete(future)
            self._serve(token)
        # After the tasks that this woke, in the same pass: without it, what they write waits for one
        # more pass of the loop. A flush that was scheduled before runs before them.
        self._schedule_flush()

    def _drain_log(self) -> None:
        # In the next pass again, until the log returns None, which registers the token: events that come
        # faster than they are logged hold up no task.
        if self._log.drain_nowait() and not self._is_closed:
            self.loop.call_soon(self._drain_log)

    async def _until_shutdown(self) -> AsyncGenerator[None, None]:
        # `loop.shutdown_asyncgens`, which `asyncio.run` and `asyncio.Runner` call when all tasks
        # have ended, is asyncio's only notice of the end of a loop.
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """Close the endpoints and stop watching the ready queue. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._watch_thread is not None:
            self._watch_thread.end()
        elif not self.loop.is_closed():
            self.loop.remove_reader(self.ready_queue.fileno())
        for endpoint in self._endpoints:
            endpoint.close(0, b"")
        for endpoint in self._endpoints | self._dirty:
            endpoint.flush()
        self._log.close()
        self._endpoints.clear()
        self._dirty.clear()
        for futures in (*self._waiting.values(), *self._turns.values()):
            for future in futures:
                # A task that outlives `shutdown_asyncgens` would wait for ever.
                if not self.loop.is_closed():
                    future.cancel()
        self._waiting.clear()
        self._turns.clear()
        with _lock:
            if _drivers.get(id(self.loop)) is self:
                del _drivers[id(self.loop)]


@coroutine
def _one_pass() -> Generator[None, None, None]:
    """Suspend for one pass of the loop."""
    yield


def _watched(driver: AsyncioDriver, loop: asyncio.AbstractEventLoop) -> WatchThread:
    """A thread that does not keep the driver: see `_drivers`. It ends with the driver."""
    weak = WeakMethod(driver._drain)

    def drain() -> None:
        method = weak()
        if method is not None:
            method()

    watch_thread = WatchThread(loop, driver.ready_queue.fileno(), drain)
    # Called before the ready queue closes its descriptor. The end of the process does not wait for it.
    finalize(driver, watch_thread.end).atexit = False
    return watch_thread


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _start(generator: AsyncGenerator[None, None]) -> None:
    """Run to the first ``yield``, which registers the generator with the loop."""
    try:
        generator.__anext__().send(None)
    except StopIteration:
        return


# Weak: a loop that is closed without `shutdown_asyncgens` frees its driver, as only the loop's
# selector and the program's endpoints refer to it. Several threads have loops of their own.
_drivers: WeakValueDictionary[int, AsyncioDriver] = WeakValueDictionary()
_lock = Lock()


def current() -> AsyncioDriver:
    """The driver of the running event loop, made on first use.

    Raises RuntimeError if no loop runs in this thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        needs = "libp2p_quic.asyncio needs an asyncio event loop: run the program with asyncio.run(main())"
        raise RuntimeError(needs) from error
    with _lock:
        driver = _drivers.get(id(loop))
        # The number of a loop that was freed may be in use again.
        if driver is not None and driver.loop is loop and not driver._is_closed:
            return driver
    driver = AsyncioDriver(loop)
    with _lock:
        _drivers[id(loop)] = driver
    return driver
