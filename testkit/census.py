"""What a process has in use: descriptors, threads and trio tasks. Counting only."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

# Enough for a loaded machine, and less than the idle timeout (30 s), after which much of what a test
# waits for would come by itself. Seconds.
PATIENCE = 20.0


@dataclass(frozen=True)
class Census:
    """Names rather than numbers, so that a difference says what was left."""

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: tuple[str, ...]

    def beyond(self, other: Census) -> dict[str, list[str]]:
        """What is here and was not there."""
        found = {}
        for kind in ("descriptors", "threads", "tasks"):
            more = Counter(getattr(self, kind)) - Counter(getattr(other, kind))
            if more:
                found[kind] = sorted(more.elements())
        return found


def census() -> Census:
    # A cycle that holds a descriptor is garbage, not a leak.
    gc.collect()
    return Census(_descriptors(), _threads(), _tasks())


def _descriptors() -> tuple[str, ...]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            # The descriptor that listed the directory.
            continue
        # Inode numbers differ between two sockets that serve the same purpose.
        is_numbered = target.startswith(("socket:", "pipe:"))
        found.append(target.split(":")[0] if is_numbered else target)
    return tuple(sorted(found))


def _threads() -> tuple[str, ...]:
    found = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as comm:
                found.append(comm.read().strip())
        except (FileNotFoundError, ProcessLookupError):
            # It ended meanwhile.
            continue
    return tuple(sorted(found))


def _tasks() -> tuple[str, ...]:
    try:
        todo = [trio.lowlevel.current_root_task()]
    except RuntimeError:
        # Outside of a run.
        return ()
    names = []
    while todo:
        task = todo.pop()
        assert task is not None
        names.append(task.name)
        todo.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return tuple(sorted(names))


def left_since(before: Census, within: float = PATIENCE) -> dict[str, list[str]]:
    """What is there now and was not there then, once it had time to go."""
    # Not with trio, whose run would itself be counted.
    never = threading.Event()
    deadline = time.monotonic() + within
    while (left := census().beyond(before)) and time.monotonic() < deadline:
        never.wait(0.01)
    return left


async def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Whether the condition came true in time.

    For what announces itself by no event, like a thread that has ended. The condition is
    looked at again whenever a hundredth of a second passed.
    """
    with trio.move_on_after(within):
        while not condition():
            with trio.move_on_after(0.01):
                await trio.sleep_forever()
    return condition()
