"""Makes SIGINT work in every test process, and ends the process of a test that exceeds its time limit. Such
a test leaves a trio run, threads and sockets behind, with which no later test could pass; xdist starts a new
process in its place."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from typing import Any, TextIO

import pytest
import trio

# A shell starts its background jobs with SIGINT ignored, and their children inherit that, so the programs
# that tests interrupt would ignore it. A handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Seconds after the limit, for a test that blocks the interpreter itself.
_GRACE = 5.0
_SCREEN = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", type=int, default=1, help="run each test this many times (make test-repeat)")


@pytest.fixture(scope="session")
def repetition(request: pytest.FixtureRequest) -> Any:
    return request.param


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    times = metafunc.config.getoption("times")
    if times > 1:
        metafunc.fixturenames.append("repetition")
        metafunc.parametrize("repetition", range(times), indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    # While a test runs, pytest redirects standard error to its own file.
    config.stash[_SCREEN] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_SCREEN])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that none starts last while other processes idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Exclude what exists before the first test from later collections of garbage. A census starts one each
    time, and would look at every object of all modules."""
    gc.collect()
    gc.freeze()


def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    screen = item.config.stash[_SCREEN]

    def give_up(*_: object) -> None:
        with open(screen, "w", closefd=False) as out:
            print(f"\n{item.nodeid} took longer than {settings.timeout:g} s.", file=out)
            _show_tasks(out)
        faulthandler.dump_traceback(screen)
        os._exit(1)

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    faulthandler.dump_traceback_later(settings.timeout + _GRACE, exit=True, file=screen)
    return True


def pytest_timeout_cancel_timer() -> bool:
    _stop_timers()
    return True


def pytest_enter_pdb() -> None:
    _stop_timers()


def _stop_timers() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()


def _show_tasks(out: TextIO) -> None:
    """Print where each task of this thread's trio run waits, if there is a run."""
    try:
        root = trio.lowlevel.current_root_task()
    except RuntimeError:
        return
    waiting = [root]
    for task in waiting:
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        print(f"Task {task.name}:", file=out)
        for frame, line in task.iter_await_frames():
            print(f'  File "{frame.f_code.co_filename}", line {line} in {frame.f_code.co_name}', file=out)
