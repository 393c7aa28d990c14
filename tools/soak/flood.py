"""Sends random datagrams to a listener, such as every port on the internet receives."""

from __future__ import annotations

import random

import trio
from multiaddr import Multiaddr

_SOCKETS = 4
_BURST = 25


def _long_header(dice: random.Random, version: int) -> bytes:
    """A packet with the form of an Initial of valid size, random after the header."""
    ids = b"".join(bytes([8]) + dice.randbytes(8) for _ in range(2))
    # Token length 0, then a length of two bytes (RFC 9000 section 17.2.2).
    head = bytes([0xC0]) + version.to_bytes(4, "big") + ids + b"\x00" + (0x4000 | 1170).to_bytes(2, "big")
    return head + dice.randbytes(1170)


def garbage(dice: random.Random) -> bytes:
    kind = dice.randrange(4)
    if kind == 0:
        return dice.randbytes(dice.randint(1, 1400))
    if kind == 1:
        # A packet with a short header, of an unknown connection (section 17.3).
        return bytes([0x40 | dice.randrange(64)]) + dice.randbytes(dice.randint(20, 1400))
    return _long_header(dice, version=1 if kind == 2 else dice.randrange(2, 1 << 32))


async def flood(address: Multiaddr, dice: random.Random, count: int) -> None:
    """Send ``count`` datagrams from several ports, as fast as other tasks allow."""
    to = (address.value_for_protocol("ip4"), int(address.value_for_protocol("udp") or 0))
    sockets = [trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) for _ in range(_SOCKETS)]
    try:
        for number in range(count):
            await sockets[number // _BURST % _SOCKETS].sendto(garbage(dice), to)
    finally:
        for each in sockets:
            each.close()
