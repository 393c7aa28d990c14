"""Standard input as it comes, so that a command can stop waiting for it."""

from __future__ import annotations

import asyncio
import os
import stat

from libp2p_quic._command.input_thread import InputThread
from libp2p_quic._command.output import write
from libp2p_quic._command.system import drop_typed

_DESCRIPTOR = 0
_BLOCK = 64 * 1024

# What the event loop cannot wait for is read on a thread.
_thread = InputThread(_DESCRIPTOR, _BLOCK)


def is_terminal() -> bool:
    """Whether a person types."""
    return os.isatty(_DESCRIPTOR)


async def read() -> bytes:
    """At least one byte; b"" at the end. A terminal gives whole lines.

    Canceling loses no byte.
    """
    if stat.S_ISREG(os.fstat(_DESCRIPTOR).st_mode):
        # It can always be read. epoll takes no regular file, and kqueue never reports the end of one.
        return os.read(_DESCRIPTOR, _BLOCK)
    while await _wait_readable():
        try:
            return os.read(_DESCRIPTOR, _BLOCK)
        except BlockingIOError:
            # Another program that has the same pipe or terminal has set it to non-blocking, and was faster.
            continue
    return await _thread.read()


async def _wait_readable() -> bool:
    """False at once if the event loop cannot wait for it."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(_DESCRIPTOR, _complete, ready)
    except (NotImplementedError, OSError):
        # Windows' Proactor loop waits for no descriptor, epoll and kqueue not for every device.
        return False
    try:
        await ready
    finally:
        loop.remove_reader(_DESCRIPTOR)
    return True


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def answer(question: str) -> bool:
    """Ask a person at the terminal, on standard error. Only "y" and "yes" agree.

    Raises NoReaderError or UnusableArgumentError if the question cannot be written.
    """
    # What was typed before the question does not answer it. A thread that waits gets all that is typed.
    _thread.drop()
    if not _thread.is_reading:
        drop_typed(_DESCRIPTOR)
    write(f"{question} [y/N] ", is_error=True, end=False)
    return (await read()).strip().lower() in (b"y", b"yes")
