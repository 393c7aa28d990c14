"""The suite itself: a test that runs into its time limit fails alone and says where it waited, and
what is left is counted from a quiet host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio
import trio.testing
from libp2p.host.ping import PingService

from testkit.census import PATIENCE, census
from testkit.far import far_host
from testkit.near import near_host, near_transport

TESTS = Path(__file__).parent
HANGING = """
import ctypes, threading
import pytest, trio

limited = pytest.mark.timeout(1)

async def test_before(): await trio.lowlevel.checkpoint()

async def wait(): await trio.sleep_forever()

@limited
async def test_in_a_task_that_cannot_be_canceled():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

@limited
def test_that_lets_no_python_run():
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)

@pytest.fixture
def stuck(): threading.Event().wait()

@limited
def test_in_a_fixture(stuck): pass

@pytest.mark.parametrize("n", range(10))
async def test_after(n): await trio.lowlevel.checkpoint()
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_test_that_hangs_fails_alone_and_reports_where(tmp_path: Path) -> None:
    shutil.copy(TESTS / "conftest.py", tmp_path)
    (tmp_path / "test_hanging.py").write_text(HANGING)
    settings = [
        "-c",
        str(TESTS.parent / "pyproject.toml"),
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    # Only the plugins under test, because five processes are started.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugins = [
        part for name in ("xdist.plugin", "pytest_timeout", "pytest_trio.plugin") for part in ("-p", name)
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *plugins, "-n", "2", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    output = ended.stdout + ended.stderr
    hanging = set(re.findall(r"^@limited\n(?:async )?def (\w+)", HANGING, re.MULTILINE))
    assert set(re.findall(r"crashed while running 'test_hanging.py::(\w+)'", output)) == hanging, output
    assert re.search(r"^=+ 3 failed, 11 passed in ", output, re.MULTILINE), output
    assert ended.returncode == 1
    # Not only the thread, which is inside trio, but also its task.
    assert re.search(
        r"Task .*wait:\n(?:  File .*\n)*?  File \".*test_hanging.py\", line \d+ in wait\n", output
    ), output
    for place in ("test_that_lets_no_python_run", "stuck"):
        assert re.search(rf'  File ".*test_hanging.py", line \d+ in {place}\n', output), output


async def test_a_task_that_is_left_says_where_it_waits() -> None:
    async def wait() -> None:
        await trio.sleep_forever()

    before = census()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        left = census().beyond(before)
        (name,), (stack,) = left["tasks"], left["stacks"]
        assert stack.startswith(f"{name}: wait (test_suite.py:"), stack
        assert " > sleep_forever (" in stack, stack
        nursery.cancel_scope.cancel()


async def test_a_far_host_is_counted_without_connections_that_are_ending() -> None:
    async with far_host() as far, near_host() as near:
        await near.connect(far.info)
        await PingService(near).ping(far.peer_id, 1)
        first = await far.census_of(connections=1)
        for _ in range(6):
            dialer = near_transport()
            dialed = await dialer.dial(far.info.addrs[0])
            with trio.fail_after(PATIENCE):
                # The far host asks with identify: it has added the connection.
                await dialed.accept_stream()
            await dialer.close()
            counted = await far.census_of(connections=1)
            assert counted.beyond(first) == {}
