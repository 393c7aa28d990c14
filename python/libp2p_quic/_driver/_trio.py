"""The driver of one trio run.

The ready queue's descriptor wakes a sleeping run: trio's epoll set watches it, or a system task waits for it
where that is not possible. An instrument drains the queue directly after trio polls for I/O, so that woken
tasks run in the same scheduler pass. It flushes the endpoints directly before trio polls again, so that all
writes of one pass cost one wake-up of the engine. While several tasks are on their way through a checkpoint
of this driver, the flush waits for what they write next. When the run ends, its endpoints are closed.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeVar

import trio
from trio.lowlevel import Abort, RunVar, Task

from libp2p_quic._driver._epoll import watch
from libp2p_quic._driver._log import EngineLog, follow_level
from libp2p_quic._driver._turn import Turn
from libp2p_quic._engine import Endpoint, ReadyQueue

T = TypeVar("T")

# Calls of one task that do not wait, before other tasks may run.
_TURN = 16
# Calls of all tasks in one scheduler pass, and the bytes that they move, before each further call lets others
# run. Either takes some 0.3 ms: a call of a few bytes costs an eighth of one of 64 KiB.
_MOST_CALLS = 128
_MOST_MOVED = 1024 * 1024
# A flush waits for the next pass if at least this many tasks passed a checkpoint of the driver in this one:
# they go on at once, and are likely to write. The bytes of a single one need not wait for any other's.
_SEVERAL = 2
# How long it waits, from the beginning of the first of these passes. Seconds. A flush that sends costs about
# as much as a pass with two tasks.
_HOLD = 0.0002
# The sleep data of a task that waits for a token; that of a task that waits in turn is its turn.
_WAITING = object()


class TrioDriver(trio.abc.Instrument):
    """See `libp2p_quic._driver.Driver`."""

    checkpoint_if_cancelled = staticmethod(trio.lowlevel.checkpoint_if_cancelled)
    cancel_shielded_checkpoint = staticmethod(trio.lowlevel.cancel_shielded_checkpoint)
    current_time = staticmethod(trio.current_time)

    def __init__(self) -> None:
        self.ready_queue = ReadyQueue(receives=True)
        self._log = EngineLog(self.ready_queue)
        self._waiting: dict[int, list[Task]] = {}
        # Tasks that wait for the first of several tokens.
        self._choosing: dict[Task, Sequence[int]] = {}
        # Tasks that wait for one result each, in order. Ordered so that the first is found and removed at
        # once; a dict's first is behind all the places that were removed.
        self._turns: dict[int, OrderedDict[Task, Turn[Any]]] = {}
        self._dirty: set[Endpoint] = set()
        self._endpoints: set[Endpoint] = set()
        self._is_closed = False
        # Calls of this pass that took something without waiting, and the bytes that they moved.
        self._calls = 0
        self._moved = 0
        # Tasks that passed a checkpoint of the driver in this pass.
        self._passing = 0
        # When the pass began, and when the first of those whose flush has not been made. Of `perf_counter`.
        self._pass_began = perf_counter()
        self._held_since: float | None = None
        # Flushes wait until this time for tasks that are ready to run; None: they do not wait.
        self._gathering_until: float | None = None

    async def checkpoint(self) -> None:
        self._passing += 1
        await trio.lowlevel.checkpoint()

    async def wait(self, token: int) -> None:
        self._check_open()
        task = trio.lowlevel.current_task()
        self._waiting.setdefault(token, []).append(task)

        def abort(_: object) -> Abort:
            self._forget(task, token)
            return Abort.SUCCEEDED

        task.custom_sleep_data = _WAITING
        await trio.lowlevel.wait_task_rescheduled(abort)

    async def wait_any(self, tokens: Sequence[int], until: float) -> None:
        self._check_open()
        task = trio.lowlevel.current_task()
        self._choosing[task] = tokens
        for token in tokens:
            self._waiting.setdefault(token, []).append(task)

        def abort(_: object) -> Abort:
            self._leave(task)
            return Abort.SUCCEEDED

        with trio.move_on_at(until):
            task.custom_sleep_data = _WAITING
            await trio.lowlevel.wait_task_rescheduled(abort)

    def _leave(self, task: Task) -> None:
        """Remove ``task`` from all tokens of its `wait_any`, if it is in one."""
        for token in self._choosing.pop(task, ()):
            self._forget(task, token)

    def _forget(self, task: Task, token: int) -> None:
        """Remove ``task`` from those that wait for ``token``, unless an interrupted `_wake` has done so."""
        tasks = self._waiting.get(token, [])
        if task in tasks:
            tasks.remove(task)
            if not tasks:
                del self._waiting[token]

    def _check_open(self) -> None:
        if self._is_closed:
            # The ready queue is no longer drained, so waiting would never end.
            raise RuntimeError("the trio run that this endpoint belongs to is ending")

    async def ready(self, method: Callable[[], T | None], token: int) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        result = method()
        if result is not None:
            # The result is already taken, so cancellation is delayed to the next call.
            self._passing += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
            return result
        while result is None:
            await self.wait(token)
            result = method()
        return result

    async def in_turn(self, method: Callable[[], T | None], token: int) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        turns = self._turns.get(token)
        if turns is None:
            result = method()
            if result is not None:
                self._passing += 1
                await trio.lowlevel.cancel_shielded_checkpoint()
                return result
            self._check_open()
            turns = self._turns[token] = OrderedDict()
        task = trio.lowlevel.current_task()
        turn: Turn[T] = Turn(method)
        turns[task] = turn

        # Not called for a task that is rescheduled: no result is lost.
        def abort(_: object) -> Abort:
            # An interrupted `_serve` may have removed it.
            turns.pop(task, None)
            if not turns and self._turns.get(token) is turns:
                del self._turns[token]
            return Abort.SUCCEEDED

        task.custom_sleep_data = turn
        await trio.lowlevel.wait_task_rescheduled(abort)
        return turn.outcome()

    def turns(self, token: int) -> int:
        return len(self._turns.get(token, ()))

    def _serve(self, token: int) -> None:
        """Take a result for each task that waits for one, in order, until there is none."""
        turns = self._turns[token]
        while turns:
            task, turn = next(iter(turns.items()))
            if not turn.has_outcome() and not turn.take():
                return
            if task.custom_sleep_data is turn:
                trio.lowlevel.reschedule(task)
            del turns[task]
        del self._turns[token]

    def count_call(self, size: int = 0) -> bool:
        self._calls += 1
        self._moved += size
        return self._calls % _TURN == 0 or self._calls > _MOST_CALLS or self._moved >= _MOST_MOVED

    def touch(self, endpoint: Endpoint) -> None:
        if self._is_closed:
            endpoint.flush()
        else:
            self._dirty.add(endpoint)

    def gather(self, limit: float) -> None:
        if self._gathering_until is None:
            self._gathering_until = self.current_time() + limit

    def send_gathered(self) -> None:
        if self._gathering_until is not None:
            # In the past: this pass flushes.
            self._gathering_until = 0.0

    def adopt(self, endpoint: Endpoint) -> None:
        self._endpoints.add(endpoint)
        self.follow_log_level()

    def follow_log_level(self) -> None:
        follow_level()

    def release(self, endpoint: Endpoint) -> None:
        self._endpoints.discard(endpoint)

    # trio calls the next two methods in every pass. They must not raise: trio removes an
    # instrument that does. A signal handler of the program may still raise in them, and `_restore` then adds
    # it again.

    def before_io_wait(self, timeout: float) -> None:
        is_whole = is_held = False
        try:
            self._calls = self._moved = 0
            passing, self._passing = self._passing, 0
            # Without a timeout a task is ready to run, and may write more.
            if self._gathering_until is not None:
                is_held = timeout <= 0 and self.current_time() < self._gathering_until
                if not is_held:
                    self._gathering_until = None
            elif timeout <= 0 and passing >= _SEVERAL and self._dirty and self._may_hold():
                is_held = True
            if not is_held:
                self._held_since = None
                while self._dirty:
                    self._dirty.pop().flush()
                if timeout > 0:
                    # Without a wait `after_io_wait` drains the queue at once, and needs no signal.
                    self.ready_queue.before_wait()
            is_whole = True
        finally:
            if not is_whole:
                self._restore_soon()

    def _may_hold(self) -> bool:
        """Whether the flush of this pass may wait for the next one."""
        if self._held_since is None:
            self._held_since = self._pass_began
        return perf_counter() - self._held_since < _HOLD

    def after_io_wait(self, timeout: float) -> None:
        is_whole = False
        try:
            self._pass_began = perf_counter()
            self._wake(self.ready_queue.drain(True))
            is_whole = True
        finally:
            if not is_whole:
                self._restore_soon()

    def _restore_soon(self) -> None:
        """Have the run call `_restore` for the error that is being raised, also if it is about to sleep."""
        trio.lowlevel.current_trio_token().run_sync_soon(self._restore, sys.exc_info()[1])

    def _restore(self, error: BaseException | None) -> None:
        """Go on after ``error`` interrupted a method of the instrument: trio has logged it, and removed the
        instrument. Otherwise the watched descriptor would stay readable, and the run would never sleep."""
        if not self._is_closed:
            trio.lowlevel.add_instrument(self)
            # What was interrupted is unknown: flush every endpoint, and have each task look for its result.
            self._dirty.update(self._endpoints)
            self._wake([*self._waiting, *self._turns])
        if error is not None and not isinstance(error, Exception):
            # As SystemExit: the handler ends the program. It ends the run as in trio's own code.
            raise error

    def _wake(self, tokens: Iterable[int]) -> None:
        # A token without a waiting task is dropped: a later caller calls the method before it
        # waits, and gets the result.
        for token in tokens:
            # Removed last: a signal handler of the program may raise between any two steps. A task that was
            # rescheduled has no sleep data any longer.
            for task in tuple(self._waiting.get(token, ())):
                if task.custom_sleep_data is _WAITING:
                    trio.lowlevel.reschedule(task)
                if self._choosing:
                    self._leave(task)
            self._waiting.pop(token, None)
            if token in self._turns:
                self._serve(token)

    async def run(self) -> None:
        """Wake a sleeping run when a token is ready; clean up when the run ends."""
        end_watch = watch(self.ready_queue.fileno())
        try:
            if end_watch is not None:
                await trio.sleep_forever()
            while True:
                await trio.lowlevel.wait_readable(self.ready_queue.fileno())
                # Usually `after_io_wait` has already drained the queue.
                self._wake(self.ready_queue.drain(True))
        finally:
            if end_watch is not None:
                end_watch()
            self._close()

    async def log(self) -> None:
        """Log the engine's events as they arrive."""
        while True:
            await self.ready(self._log.drain_nowait, self._log.arrived)

    def _close(self) -> None:
        self._is_closed = True
        with suppress(KeyError):
            # trio has removed it if one of its methods was interrupted and the run ended before `_restore`.
            trio.lowlevel.remove_instrument(self)
        for endpoint in self._endpoints:
            endpoint.close(0, b"")
        for endpoint in self._endpoints | self._dirty:
            endpoint.flush()
        # No pass drains the queue any more.
        self.ready_queue.before_wait()
        self._log.close()
        self._endpoints.clear()
        self._dirty.clear()
        # Only system tasks can still wait here, and trio has canceled them.
        self._waiting.clear()
        self._turns.clear()
        self._choosing.clear()


_driver: RunVar[TrioDriver] = RunVar("libp2p_quic driver")


def current() -> TrioDriver:
    """The driver of the current trio run, made on first use. Raises RuntimeError outside a run."""
    try:
        return _driver.get()
    except RuntimeError as error:
        needs = "libp2p_quic needs a trio event loop: run the program with trio.run(main)"
        raise RuntimeError(needs) from error
    except LookupError:
        driver = TrioDriver()
        trio.lowlevel.spawn_system_task(driver.run, name="libp2p_quic ready_queue")
        trio.lowlevel.spawn_system_task(driver.log, name="libp2p_quic log")
        trio.lowlevel.add_instrument(driver)
        _driver.set(driver)
        return driver


def running() -> TrioDriver | None:
    """The driver of the current trio run, None if it has none or outside a run."""
    try:
        return _driver.get()
    except (LookupError, RuntimeError):
        return None
