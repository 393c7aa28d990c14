"""A link with a delay between two machines of this process: two TUN devices, and a thread that passes the
packets on. For kernels without netem. Needs root.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address

from testkit.machines import Machine

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_UDP = 17
_LONGEST = 65_535


@dataclass(frozen=True)
class Passed:
    """A UDP datagram that was delivered, on the monotonic clock; ``size`` is its payload's."""

    at: float
    source: tuple[str, int]
    target: tuple[str, int]
    size: int


@dataclass
class DelayedLink:
    """Carries packets both ways, each ``delay`` seconds late, in order and without loss."""

    delay: float
    passed: list[Passed] = field(default_factory=list)
    _is_cut: bool = False
    _waiting: tuple[deque[tuple[float, bytes]], ...] = field(default_factory=lambda: (deque(), deque()))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def round_trip(self) -> float:
        return 2 * self.delay

    def cut(self) -> None:
        """Lose the packets that are under way, and all until `mend`."""
        with self._lock:
            self._is_cut = True
            for waiting in self._waiting:
                waiting.clear()

    def mend(self) -> float:
        """Carry packets again. Returns the time."""
        with self._lock:
            self._is_cut = False
            return time.monotonic()

    def first_since(self, when: float, source: str) -> Passed | None:
        """The first datagram from that address that was sent after ``when`` and delivered."""
        from_there = (each for each in list(self.passed) if each.source[0] == source)
        return next((each for each in from_there if each.at - self.delay >= when), None)

    def _run(self, ends: tuple[int, int], stop: int) -> None:
        while True:
            now = time.monotonic()
            due = [self._deliver(now, number, ends) for number in (0, 1)]
            next_due = min((each for each in due if each is not None), default=None)
            timeout = None if next_due is None else max(0.0, next_due - time.monotonic())
            readable, _, _ = select.select([*ends, stop], [], [], timeout)
            if stop in readable:
                return
            for number, end in enumerate(ends):
                if end in readable:
                    self._take(number, end)

    def _take(self, number: int, end: int) -> None:
        while True:
            try:
                packet = os.read(end, _LONGEST)
            except BlockingIOError:
                return
            with self._lock:
                if not self._is_cut:
                    self._waiting[number].append((time.monotonic() + self.delay, packet))

    def _deliver(self, now: float, number: int, ends: tuple[int, int]) -> float | None:
        """Deliver what is due; when the next packet is."""
        waiting = self._waiting[number]
        while True:
            with self._lock:
                if not waiting or waiting[0][0] > now:
                    return waiting[0][0] if waiting else None
                _, packet = waiting.popleft()
            if (read := _datagram(packet)) is not None:
                self.passed.append(Passed(now, *read))
            try:
                os.write(ends[1 - number], packet)
            except OSError:
                # The device is down, or its queue is full: lost, as on any link.
                continue


def _datagram(packet: bytes) -> tuple[tuple[str, int], tuple[str, int], int] | None:
    # The protocol, the offset of both addresses and their size, and the size of the header: RFC 791 section
    # 3.1 and RFC 8200 section 3. No extension header is before the UDP header here.
    if packet[0] >> 4 == 4:
        protocol, first, size, start = packet[9], 12, 4, (packet[0] & 15) * 4
    else:
        protocol, first, size, start = packet[6], 8, 16, 40
    if protocol != _UDP:
        return None
    source, target, length = struct.unpack_from("!HHH", packet, start)
    addresses = [str(ip_address(packet[at : at + size])) for at in (first, first + size)]
    return (addresses[0], source), (addresses[1], target), length - 8


def _tun(machine: Machine, device: str) -> int:
    with machine.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _IFF_TUN | _IFF_NO_PI))
    machine.ip(f"link set {device} up txqueuelen 10000")
    return descriptor


@contextmanager
def delayed_link(one: Machine, other: Machine, device: str, delay: float) -> Iterator[DelayedLink]:
    """Join two machines; the device has that name on both, is up, and has no address."""
    link = DelayedLink(delay)
    ends = (_tun(one, device), _tun(other, device))
    stopped, stop = os.pipe()
    thread = threading.Thread(target=link._run, args=(ends, stopped), name="delayed link")
    thread.start()
    try:
        yield link
    finally:
        os.write(stop, b".")
        thread.join()
        for descriptor in (*ends, stopped, stop):
            os.close(descriptor)
