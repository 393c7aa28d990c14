"""The only room that waits.

The engine says "not yet" with ``None`` and a token; this room turns that into ``await``.
What an event loop must offer for it is the `Driver` protocol; trio's form is in `_trio`,
and an asyncio form would be one more file beside it. Nothing here knows py-libp2p, peers
or addresses.
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
        """What endpoints of this loop ring."""

    async def wait(self, token: int) -> None:
        """Park the calling task until the token rings. Any number of tasks may wait for one.

        There must be no ``await`` between the verb that returned ``None`` and this call.
        Cancelling leaves nothing behind. Raises RuntimeError when the loop is shutting down.
        """

    async def wait_any(self, tokens: Sequence[int], until: float) -> None:
        """`wait` for the first of several tokens, or until this time of `current_time`."""

    def current_time(self) -> float:
        """The event loop's clock. Seconds."""

    async def ready(self, verb: Callable[[], T | None], token: int) -> T:
        """Call ``verb`` until it returns something, waiting for ``token`` between the calls.

        Always a checkpoint. Cancelling never loses what the verb returned.
        """

    async def checkpoint(self) -> None:
        """Let other tasks run; a point where the caller may be cancelled."""

    async def checkpoint_if_cancelled(self) -> None:
        """The cancellable half of `checkpoint`: before a verb takes something."""

    async def cancel_shielded_checkpoint(self) -> None:
        """The other half: lets other tasks run after a verb took something."""

    def is_turn_over(self) -> bool:
        """Whether a verb that took something without waiting should let other tasks run now.

        Every sixteenth is told so, counted over all tasks since others last ran. A pass of
        the scheduler costs as much as moving 64 KiB (decision 0004).
        """

    def touch(self, endpoint: Endpoint) -> None:
        """A verb gave this endpoint work: flush it at the end of the scheduler pass."""

    def adopt(self, endpoint: Endpoint) -> None:
        """Close this endpoint when the loop ends, unless it is released before."""

    def follow_log_level(self) -> None:
        """Have the engine tell what the logger "libp2p_quic.engine" takes now. Cheap."""

    def release(self, endpoint: Endpoint) -> None:
        """Forget an endpoint that is closed."""


def current_driver() -> Driver:
    """The driver of the running event loop, made on first use.

    Raises RuntimeError outside of a trio run.
    """
    from libp2p_quic._driver import _trio

    return _trio.current()


__all__ = ["Driver", "current_driver"]
