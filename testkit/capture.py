"""A UDP relay on loopback that keeps the datagrams, and writes them as a capture for Wireshark and tshark.

It needs no privilege, as a capture of an interface would.
"""

from __future__ import annotations

import ipaddress
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from multiaddr import Multiaddr

_HOST = "127.0.0.1"
_LARGEST = 65_536
# The format of libpcap: its magic number, version 2.4, and packets that begin with an IP header.
_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _LARGEST, 101)


class Capture:
    """Dial ``address`` to reach the listener through it."""

    def __init__(self, address: Multiaddr) -> None:
        self.address = address
        self._packets: list[bytes] = []

    def keep(self, source: int, destination: int, datagram: bytes) -> None:
        """A datagram that was sent from one port to another."""
        loopback = ipaddress.IPv4Address(_HOST).packed
        udp = struct.pack("!HHHH", source, destination, 8 + len(datagram), 0) + datagram
        # Version 4, 20 bytes of header, a TTL of 64, UDP. tshark does not verify checksums by default.
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, loopback, loopback)
        now = time.time_ns() // 1000
        packet = ip + udp
        stamp = struct.pack("<IIII", now // 1_000_000, now % 1_000_000, len(packet), len(packet))
        self._packets.append(stamp + packet)

    def write(self, path: Path) -> None:
        path.write_bytes(_HEADER + b"".join(self._packets))


@asynccontextmanager
async def captured(listener: Multiaddr) -> AsyncIterator[Capture]:
    """Relay one dialer to the listener at that address."""
    target = int(str(listener.value_for_protocol("udp")))
    front, back = (
        trio.socket.socket(type=trio.socket.SOCK_DGRAM),
        trio.socket.socket(type=trio.socket.SOCK_DGRAM),
    )
    with front, back:
        await front.bind((_HOST, 0))
        await back.connect((_HOST, target))
        port = front.getsockname()[1]
        capture = Capture(Multiaddr(f"/ip4/{_HOST}/udp/{port}/quic-v1"))
        dialers: list[tuple[str, int]] = []

        async def forward() -> None:
            while True:
                datagram, dialer = await front.recvfrom(_LARGEST)
                dialers[:] = [dialer]
                capture.keep(dialer[1], target, datagram)
                await back.send(datagram)

        async def answer() -> None:
            while True:
                datagram = await back.recv(_LARGEST)
                capture.keep(target, dialers[0][1], datagram)
                await front.sendto(datagram, dialers[0])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forward)
            nursery.start_soon(answer)
            yield capture
            nursery.cancel_scope.cancel()
