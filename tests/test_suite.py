"""The suite itself: a test that runs into its time limit fails alone, and says where it waited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
HANGING = """
import ctypes, threading
import pytest, trio

limited = pytest.mark.timeout(1)

async def test_before(): await trio.lowlevel.checkpoint()

async def wait(): await trio.sleep_forever()

@limited
async def test_in_a_task_that_cannot_be_cancelled():
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
def test_one_that_hangs_fails_alone_and_says_where(tmp_path: Path) -> None:
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
    # Only the plugins that this is about: five processes are started.
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
    said = ended.stdout + ended.stderr
    hanging = set(re.findall(r"^@limited\n(?:async )?def (\w+)", HANGING, re.MULTILINE))
    assert set(re.findall(r"crashed while running 'test_hanging.py::(\w+)'", said)) == hanging, said
    assert re.search(r"^=+ 3 failed, 11 passed in ", said, re.MULTILINE), said
    assert ended.returncode == 1
    # Not only the thread, which is in the middle of trio, but the task that it runs.
    assert re.search(
        r"Task .*wait:\n(?:  File .*\n)*?  File \".*test_hanging.py\", line \d+ in wait\n", said
    ), said
    for place in ("test_that_lets_no_python_run", "stuck"):
        assert re.search(rf'  File ".*test_hanging.py", line \d+ in {place}\n', said), said
