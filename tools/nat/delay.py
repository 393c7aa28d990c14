"""A network with delay and loss, for kernels without netem: holds the packets between the networks in user
space. Runs in the namespace that joins them, and ends with its standard input.

Every packet that comes in through one of the named interfaces is routed to a TUN interface, waits here, and
is routed on to where it goes. Nothing in it is changed but its hop limit.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_DEVICE = "delay"
# Bytes; veth's MTU is 1500.
_LARGEST = 65_536
# The routing table of packets that have not waited yet.
_TABLE = "100"


def open_tun() -> int:
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return tun


def route(interfaces: list[str]) -> None:
    """Packets from the interfaces go to the TUN interface; what it gives back goes by the main table."""

    def ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    ip(f"link set {_DEVICE} up")
    for family in ("-4", "-6"):
        ip(f"{family} route add default dev {_DEVICE} table {_TABLE}")
        for interface in interfaces:
            ip(f"{family} rule add iif {interface} lookup {_TABLE} pref 100")


def forward(tun: int, delay: float, loss: float, chance: random.Random) -> None:
    """Until the end of standard input. ``delay`` in seconds, ``loss`` as a share."""
    waiting: list[tuple[float, int, bytes]] = []
    poll = select.poll()
    poll.register(tun, select.POLLIN)
    poll.register(0, select.POLLIN)
    number = 0
    while True:
        # Rounded up: no packet is early.
        wait = None if not waiting else max(0, int((waiting[0][0] - time.monotonic()) * 1000) + 1)
        for descriptor, _ in poll.poll(wait):
            if descriptor == 0:
                return
            number = _take(tun, waiting, number, delay, loss, chance)
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            os.write(tun, heapq.heappop(waiting)[2])


def _take(
    tun: int,
    waiting: list[tuple[float, int, bytes]],
    number: int,
    delay: float,
    loss: float,
    chance: random.Random,
) -> int:
    while True:
        try:
            packet = os.read(tun, _LARGEST)
        except BlockingIOError:
            return number
        if packet[0] >> 4 == 6 and packet[24] == 0xFF:
            # Multicast comes from the interface itself.
            continue
        number += 1
        if chance.random() >= loss:
            heapq.heappush(waiting, (time.monotonic() + delay, number, packet))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.nat.delay")
    parser.add_argument("--delay", type=float, required=True, help="milliseconds, one way")
    parser.add_argument("--loss", type=float, default=0.0, help="percent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("interfaces", nargs="+")
    told = parser.parse_args()
    tun = open_tun()
    route(told.interfaces)
    sys.stdout.write(json.dumps({"event": "ready"}) + "\n")
    sys.stdout.flush()
    forward(tun, told.delay / 1000, told.loss / 100, random.Random(told.seed))


if __name__ == "__main__":
    main()
