"""Simulates machines by network namespaces of this process, each with its own interfaces, addresses and
routes. They end with the test and its sockets. Needs root.

A socket stays in the namespace that its thread was in when it was made, so endpoints of several
machines live in one run of the event loop.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio._core._thread_cache as thread_cache
from libp2p.utils.address_validation import has_public_ipv6

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A namespace whose loopback is up. Raises OSError if the system allows none."""

    def __init__(self) -> None:
        outside = _current()
        try:
            _check(_libc.unshare(_CLONE_NEWNET))
            self._fd = _current()
            _check(_libc.setns(outside, _CLONE_NEWNET))
        finally:
            os.close(outside)
        self.ip("link set lo up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread opens inside the block belong to this machine, in every task."""
        outside = _current()
        try:
            _check(_libc.setns(self._fd, _CLONE_NEWNET))
            # py-libp2p looks at the addresses of the machine once in a process.
            has_public_ipv6.cache_clear()
            with _own_workers():
                yield
        finally:
            has_public_ipv6.cache_clear()
            _check(_libc.setns(outside, _CLONE_NEWNET))
            os.close(outside)

    def ip(self, command: str) -> None:
        """A command of iproute2."""
        with self.entered():
            subprocess.run(["ip", *command.split()], check=True)

    def run(self, command: str, text: str = "") -> None:
        """Another command in this machine, with ``text`` on its standard input."""
        with self.entered():
            subprocess.run(command.split(), check=True, input=text, text=True)

    def command(self, arguments: list[str]) -> list[str]:
        """The command that runs another in this machine, for processes that are started elsewhere."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self._fd}", *arguments]

    def link(self, device: str, other: Machine, other_device: str) -> None:
        """A cable between two machines, or two interfaces of one; up on both ends."""
        end = f"/proc/self/fd/{other._fd}"
        command = f"link add {device} type veth peer name {other_device} netns {end}"
        with self.entered():
            subprocess.run(["ip", *command.split()], check=True, pass_fds=[other._fd])
        for machine, name in ((self, device), (other, other_device)):
            with machine.entered():
                # No duplicate address detection, so that addresses can be used at once.
                Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
            machine.ip(f"link set {name} up")

    def link_local(self, device: str) -> str:
        """The link-local IPv6 address of an interface."""
        with self.entered():
            shown = subprocess.run(
                ["ip", "-6", "-o", "addr", "show", "dev", device, "scope", "link"],
                check=True,
                capture_output=True,
                text=True,
            )
        return shown.stdout.split("inet6 ")[1].split("/")[0]

    def close(self) -> None:
        os.close(self._fd)


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """New machines, without cables. Skips the test if the system allows none."""
    made: list[Machine] = []
    try:
        try:
            made += [Machine() for _ in range(count)]
        except PermissionError as error:
            pytest.skip(f"a network namespace needs root: {error}")
        yield made
    finally:
        for machine in made:
            machine.close()


@contextmanager
def _own_workers() -> Iterator[None]:
    """Give trio other worker threads inside the block than outside of it.

    A thread stays in the namespace that it began in. trio keeps an idle one for 10 s, and a later test would
    get it. `trio.lowlevel.open_process` uses one.
    """
    shared = thread_cache.THREAD_CACHE
    thread_cache.THREAD_CACHE = thread_cache.ThreadCache()
    try:
        yield
    finally:
        thread_cache.THREAD_CACHE = shared


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
