"""Runs a function in a forked child of the test's process."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable

LIMIT = 20.0


def in_a_child(work: Callable[[], object], within: float = LIMIT) -> object:
    """The result of ``work`` in a forked child, which then exits at once. A child that hangs is killed and
    fails the test."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b""
        try:
            answer = json.dumps(work()).encode()
        finally:
            # No code of pytest may run here, in no case.
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    try:
        answered, _, _ = select.select([reading], [], [], within)
        if not answered:
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
    finally:
        os.waitpid(child, 0)
    assert answered, "the child hangs"
    assert answer, "the child failed"
    return json.loads(answer)
