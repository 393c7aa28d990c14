"""Has a trio run watch a descriptor without a task, where it waits by epoll.

`trio.lowlevel.wait_readable` costs a step of a task and an `epoll_ctl` for each wake-up, on the way of each
message. trio's epoll set reports a descriptor that no task waits for, too, and trio then only goes through
a pass. This is no part of trio's API: `watch` tries it out, and the caller has a task wait where it does not
work.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import trio


def watch(fd: int) -> Callable[[], None] | None:
    """Have the current trio run make a pass while ``fd`` is readable. No task may wait for ``fd``.

    Returns what ends it, to be called once before ``fd`` or the run is closed; it raises nothing. None if
    this trio, or this system, cannot do it. Raises RuntimeError outside a task.
    """
    if sys.platform != "linux":
        return None
    runner = getattr(trio.lowlevel.current_task(), "_runner", None)
    io_manager: Any = getattr(runner, "io_manager", None)
    epoll = getattr(io_manager, "_epoll", None)
    if not isinstance(epoll, select.epoll):
        return None
    try:
        # Level-triggered, and not EPOLLONESHOT as trio's own: what a pass leaves unread begins the next one.
        epoll.register(fd, select.EPOLLIN)
    except OSError:
        return None
    try:
        # What an event of it will cause: nothing. In the run, an error of this call would end the program.
        io_manager.process_events([(fd, select.EPOLLIN)])
    except (AttributeError, LookupError, OSError, TypeError, ValueError):
        epoll.unregister(fd)
        return None
    owner = os.getpid()

    def end() -> None:
        # A fork shares the epoll set: the child of one would end the watch of its parent's run.
        if os.getpid() == owner:
            # As in trio: the set may be closed, or `fd` no member any more. The run still has to clean up.
            with suppress(OSError, ValueError):
                epoll.unregister(fd)

    return end
