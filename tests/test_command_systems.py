"""What the command does where an operating system lacks something: event loops that wait neither for standard
input nor for signals, and names of files that mean something else on Windows. All of it runs on Linux.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libp2p_quic._command import partial_file, windows_name
from libp2p_quic._command.input_thread import InputThread
from libp2p_quic._command.partial_file import PartialFile, PartialFileError
from libp2p_quic._command.system import LockedFile
from testkit.census import PATIENCE
from testkit.loops import passes

REFUSING = """
import asyncio
def refuse(*arguments):
    raise NotImplementedError
for name in ("add_reader", "add_signal_handler"):
    setattr(asyncio.SelectorEventLoop, name, refuse)
"""
"""The loops of Windows have neither."""

INTERRUPTED = """
import signal
from libp2p_quic._command.interruption import run
async def command(interruption):
    signal.raise_signal(signal.{signal})
    await asyncio.get_running_loop().create_future()
run(command)
"""

READS = """
from libp2p_quic._command import standard_input
async def main():
    while data := await standard_input.read():
        print(data, flush=True)
asyncio.run(main())
"""


def program(text: str) -> list[str]:
    return [sys.executable, "-c", REFUSING + text]


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_signals_interrupt_a_loop_without_handlers(signal: str) -> None:
    command = program(INTERRUPTED.format(signal=signal))
    done = subprocess.run(command, capture_output=True, timeout=3 * PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_standard_input_is_read_as_it_comes() -> None:
    with subprocess.Popen(program(READS), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for block in (b"first", b"second"):
            reader.stdin.write(block)
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{block!r}\n".encode()
        reader.stdin.close()
        assert reader.stdout.read() == b""
    assert reader.returncode == 0


def test_file_as_standard_input_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "some.file").write_bytes(b"all of it")
    with (tmp_path / "some.file").open("rb") as given:
        done = subprocess.run(
            program(READS), stdin=given, capture_output=True, timeout=3 * PATIENCE, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"b'all of it'\n", b"")


def test_device_as_standard_input_has_an_end() -> None:
    """epoll refuses /dev/null, as kqueue does on macOS."""
    command = [sys.executable, "-c", "import asyncio" + READS]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=3 * PATIENCE, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's descriptors: to read, to write."""
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


def waits(thread: InputThread) -> bool:
    return thread.is_reading


def test_canceled_read_on_a_thread_loses_no_byte(pipe: tuple[int, int]) -> None:
    source, target = pipe
    thread = InputThread(source, 100)

    async def main() -> None:
        canceled = asyncio.ensure_future(thread.read())
        await passes(2)
        assert waits(thread)
        canceled.cancel()
        await asyncio.wait([canceled])
        assert canceled.cancelled()
        os.write(target, b"kept")
        assert await asyncio.wait_for(thread.read(), PATIENCE) == b"kept"
        assert not waits(thread)
        os.write(target, b"next")
        assert await asyncio.wait_for(thread.read(), PATIENCE) == b"next"

    asyncio.run(main())


def test_what_arrived_before_a_question_can_be_dropped(pipe: tuple[int, int]) -> None:
    source, target = pipe
    thread = InputThread(source, 100)

    async def main() -> None:
        canceled = asyncio.ensure_future(thread.read())
        await passes(2)
        canceled.cancel()
        await asyncio.wait([canceled])
        # A read that waits is kept: its thread gets the next bytes.
        thread.drop()
        assert thread.is_reading
        reading = thread._reading
        assert reading is not None
        os.write(target, b"early")
        assert await asyncio.to_thread(reading.result, PATIENCE) == b"early"
        thread.drop()
        os.write(target, b"answer")
        assert await asyncio.wait_for(thread.read(), PATIENCE) == b"answer"

    asyncio.run(main())


def test_error_of_a_read_is_raised_and_not_kept(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    thread = InputThread(folder, 100)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(IsADirectoryError):
                await asyncio.wait_for(thread.read(), PATIENCE)
        assert not thread.is_reading

    asyncio.run(main())
    os.close(folder)


@pytest.mark.parametrize(
    "name",
    [
        "C:x",
        "file.txt:stream",
        "nul",
        "NUL.txt",
        "Aux .tar.gz",
        "com1",
        "LPT\u00b9.log",
        "CONIN$",
        "ends with a dot.",
        "ends with a space ",
        "a|b",
        "what?",
        "a\\b",
        "a\x1fb",
    ],
)
def test_name_that_windows_takes_for_another_is_refused_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not windows_name.is_file_name(name)
    monkeypatch.setattr(partial_file, "is_file_name", windows_name.is_file_name)
    with pytest.raises(PartialFileError, match="the receiver's system has no files of the name"):
        PartialFile(tmp_path, name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["backup.tar", "nullable.txt", "com10", "a b.c", "com", "\u00fcber.txt", "console.log"]
)
def test_name_that_means_itself_is_taken_on_windows(name: str) -> None:
    assert windows_name.is_file_name(name)


def test_name_with_a_colon_is_taken_here(tmp_path: Path) -> None:
    with PartialFile(tmp_path, "12:30") as partial:
        partial.append(b"x")
        partial.complete(force=False)
    assert (tmp_path / "12:30").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["12:30"]


def test_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    first = LockedFile(tmp_path / "x")
    assert first.write_at(memoryview(b"abc"), 0) == 3
    with pytest.raises(BlockingIOError):
        LockedFile(tmp_path / "x")
    first.close()
    first.close()
    second = LockedFile(tmp_path / "x")
    assert second.read_at(10, 1) == b"bc"
    second.truncate()
    assert second.status().st_size == 0
    second.remove()
    assert os.listdir(tmp_path) == []


def test_next_owner_of_a_name_keeps_its_file(tmp_path: Path) -> None:
    first = LockedFile(tmp_path / "x")
    first.replace(tmp_path / "y")
    second = LockedFile(tmp_path / "x")
    assert not first.has_its_name()
    first.remove()
    assert second.has_its_name()
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]
    second.close()
