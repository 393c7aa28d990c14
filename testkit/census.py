"""Counts what a process has in use: descriptors, threads and trio tasks."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import trio

# Enough for a loaded machine, and less than the idle timeout (30 s), after which many events that a test
# waits for would happen anyway. Seconds.
PATIENCE = 20.0


@dataclass(frozen=True)
class Census:
    """Names rather than numbers, so that a difference says what was left."""

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: tuple[str, ...]
    # Where the task at the same index of `tasks` waits. Not compared.
    stacks: tuple[str, ...]

    def beyond(self, other: Census) -> dict[str, list[str]]:
        """What this census has and ``other`` has not, and where the tasks of these names wait."""
        found = {}
        for kind in ("descriptors", "threads", "tasks"):
            more = Counter(getattr(self, kind)) - Counter(getattr(other, kind))
            if more:
                found[kind] = sorted(more.elements())
        if "tasks" in found:
            named = zip(self.tasks, self.stacks, strict=True)
            found["stacks"] = [f"{name}: {stack}" for name, stack in named if name in found["tasks"]]
        return found


def collected(is_gone: Callable[[], bool]) -> bool:
    """Collect garbage until ``is_gone``, at most PATIENCE. Returns whether it is: objects of earlier tests
    may wait for the collector, and what they hold for another thread. `eventually` is for a trio run."""
    deadline, never = time.monotonic() + PATIENCE, threading.Event()
    while gc.collect() >= 0 and not is_gone():
        if time.monotonic() >= deadline:
            return False
        never.wait(0.01)
    return True


def census() -> Census:
    # A cycle that holds a descriptor is garbage, not a leak.
    gc.collect()
    tasks = _tasks()
    names, stacks = tuple(name for name, _ in tasks), tuple(stack for _, stack in tasks)
    return Census(_descriptors(), _threads(), names, stacks)


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


def _tasks() -> list[tuple[str, str]]:
    """The name and the stack of each task of this run."""
    try:
        todo = [trio.lowlevel.current_root_task()]
    except RuntimeError:
        # Outside of a run.
        return []
    found = []
    while todo:
        task = todo.pop()
        assert task is not None
        found.append((task.name, _stack(task)))
        todo.extend(child for nursery in task.child_nurseries for child in nursery.child_tasks)
    return sorted(found)


def _stack(task: trio.lowlevel.Task) -> str:
    """The functions that await each other, the innermost last."""
    frames = task.iter_await_frames()
    return " > ".join(
        f"{frame.f_code.co_name} ({os.path.basename(frame.f_code.co_filename)}:{line})"
        for frame, line in frames
    )


def left_since(before: Census, within: float = PATIENCE) -> dict[str, list[str]]:
    """What is in use now and was not in ``before``, after at most ``within`` seconds to release it."""
    # This waits without trio, because a trio run would be counted.
    never = threading.Event()
    deadline = time.monotonic() + within
    while (left := census().beyond(before)) and time.monotonic() < deadline:
        never.wait(0.01)
    return left


async def eventually(condition: Callable[[], bool], within: float = PATIENCE) -> bool:
    """Whether the condition became true within ``within`` seconds.

    For conditions that have no event, such as the end of a thread. The condition is checked every 10 ms.
    """
    with trio.move_on_after(within) as limit:
        while not condition():
            with trio.move_on_after(0.01):
                await trio.sleep_forever()
    # A condition that held is not looked at again: another thread may change what it is about.
    return not limit.cancelled_caught or condition()
