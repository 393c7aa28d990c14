"""Waits for the engine: turns ``None`` ("not yet") and a token into ``await``.

`Driver` is the interface that an event loop must provide; `_trio` implements it for trio, `_asyncio`
for asyncio. Waiting for the engine happens in this package only: it alone watches the ready queue's
descriptor, suspends and wakes tasks by token, and flushes endpoints. It does not know py-libp2p, peers
or addresses. What the adapter's own tasks do meanwhile (nurseries, time limits, locks) is the adapter's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from libp2p_quic._engine import Endpoint, ReadyQueue

T = TypeVar("T")


class Driver(Protocol):
    """One event loop's way of waiting for the engine. Use it only inside that loop."""

    @property
    def ready_queue(self) -> ReadyQueue:
        """The ready queue of this loop, to which its endpoints add tokens."""

    async def wait(self, token: int) -> None:
        """Suspend the calling task until ``token`` is ready. Several tasks may wait for one token.

        There must be no ``await`` between the method that returned ``None`` and this call.
        Canceling leaves nothing behind. Raises RuntimeError if the loop is shutting down.
        """

    async def wait_any(self, tokens: Sequence[int], until: float) -> None:
        """`wait` for the first of several tokens, but not beyond the time ``until`` of
        `current_time`."""

    def current_time(self) -> float:
        """The time of the event loop's clock, in seconds."""

    async def ready(self, method: Callable[[], T | None], token: int) -> T:
        """Call ``method`` until it returns a result, waiting for ``token`` between the calls.

        Always a checkpoint. Canceling never loses a result.
        """

    async def in_turn(self, method: Callable[[], T | None], token: int) -> T:
        """`ready` for results that thousands of tasks may wait for: each gets one, in the order of the calls.

        One wake-up serves as many tasks as there are results, and wakes no others. All waiting calls of
        a token must be for the same results, and their methods must not wait or raise anything but the
        engine's errors. Always a checkpoint in trio. asyncio may cancel a task after it got a result:
        the next that waits gets it, and if none does, it is dropped, which resets a stream.
        """

    def turns(self, token: int) -> int:
        """How many tasks wait in `in_turn` for results of ``token``."""

    async def checkpoint(self) -> None:
        """Let other tasks run; the caller may be canceled here."""

    async def checkpoint_if_cancelled(self) -> None:
        """The cancelable half of `checkpoint`, for use before a method takes something."""

    async def cancel_shielded_checkpoint(self) -> None:
        """The other half: lets other tasks run after a method took something."""

    def count_call(self, size: int = 0) -> bool:
        """Count a call that did not wait and moved ``size`` bytes. Returns whether the caller should let
        other tasks run.

        True at every sixteenth call of one scheduler pass, counted over all tasks. In trio also at each
        call after 128, or after those that moved 1 MiB, until the pass ends. A pass costs as much as moving
        64 KiB (decision 0004).
        """

    def touch(self, endpoint: Endpoint) -> None:
        """Flush this endpoint at the end of the scheduler pass: a method gave it work.

        In trio the flush waits, for 0.2 ms and the pass in which they end, while at least two tasks a pass go
        through a checkpoint of this driver, as they are about to write too.
        """

    def adopt(self, endpoint: Endpoint) -> None:
        """Close this endpoint when the loop ends, unless `release` is called before."""

    def follow_log_level(self) -> None:
        """Set the engine's log level to that of the logger "libp2p_quic.engine". Takes 1 µs."""

    def release(self, endpoint: Endpoint) -> None:
        """Undo `adopt` for an endpoint that is closed."""


def current_driver() -> Driver:
    """The driver of the running event loop, made on first use.

    Raises RuntimeError outside a trio run.
    """
    from libp2p_quic._driver import _trio

    return _trio.current()


def gather_writes(limit: float) -> None:
    """Let what the tasks of this trio run write leave together, once none of them is ready to run.

    For an exchange whose messages are written in many scheduler passes: a packet for each pass would wake
    the peer as often. Lasts at most ``limit`` seconds, or until `send_gathered`, and is no promise: the
    engine may be sending. Raises RuntimeError outside a trio run.
    """
    from libp2p_quic._driver import _trio

    _trio.current().gather(limit)


def send_gathered() -> None:
    """Let what is gathered leave in this scheduler pass, with what is still written in it: that is all that
    the peer waits for.

    Raises RuntimeError outside a trio run.
    """
    from libp2p_quic._driver import _trio

    _trio.current().send_gathered()


def running_driver() -> Driver | None:
    """The driver of the running event loop if it has one. Makes none, and raises nothing."""
    from libp2p_quic._driver import _trio

    return _trio.running()


__all__ = ["Driver", "current_driver", "gather_writes", "running_driver", "send_gathered"]
