"""Standard input as it comes, so that a command can stop waiting for it."""

from __future__ import annotations

import asyncio
import os
import termios

from libp2p_quic._command.output import write

_DESCRIPTOR = 0
_BLOCK = 64 * 1024


def is_terminal() -> bool:
    """Whether a person types."""
    return os.isatty(_DESCRIPTOR)


async def read() -> bytes:
    """At least one byte; b"" at the end. A terminal gives whole lines.

    Canceling loses no byte. A thread could not be canceled, and the end of the command would wait for it.
    """
    while True:
        await _readable()
        try:
            return os.read(_DESCRIPTOR, _BLOCK)
        except BlockingIOError:
            # Another program that has the same pipe or terminal has set it to non-blocking, and was faster.
            continue


async def _readable() -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    try:
        loop.add_reader(_DESCRIPTOR, _complete, ready)
    except PermissionError:
        # epoll takes no regular file, which can always be read.
        return
    try:
        await ready
    finally:
        loop.remove_reader(_DESCRIPTOR)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def answer(question: str) -> bool:
    """Ask a person at the terminal, on standard error. Only "y" and "yes" agree.

    Raises NoReaderError or UnusableArgumentError if the question cannot be written.
    """
    # What was typed before the question does not answer it.
    termios.tcflush(_DESCRIPTOR, termios.TCIFLUSH)
    write(f"{question} [y/N] ", is_error=True, end=False)
    return (await read()).strip().lower() in (b"y", b"yes")
