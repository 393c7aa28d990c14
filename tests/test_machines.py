"""The machines of the tests: what belongs to them, and what does not stay in them. Needs root."""

from __future__ import annotations

import os

import trio

from testkit.machines import machines


def namespace() -> str:
    """The network namespace of this thread."""
    return os.readlink("/proc/thread-self/ns/net")


async def test_worker_threads_that_begin_in_a_machine_are_not_reused_outside_of_it() -> None:
    outside = namespace()
    # This worker thread is idle then.
    assert await trio.to_thread.run_sync(namespace) == outside
    with machines(1) as (machine,):
        with machine.entered():
            inside = namespace()
            assert inside != outside
            assert await trio.to_thread.run_sync(namespace) == inside
        assert namespace() == outside
        assert await trio.to_thread.run_sync(namespace) == outside
