"""IP literals in the answers of the system's resolver, and the index of a zone. Queries no name."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

# The family that getaddrinfo is asked for, by the protocol of a multiaddr.
FAMILIES = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}


def literals(found: Iterable[tuple[Any, ...]]) -> list[str]:
    """The IP literals of getaddrinfo's answer, each once, in its order."""
    return list(dict.fromkeys(_literal(each[4]) for each in found))


def _literal(sockaddr: tuple[Any, ...]) -> str:
    host, scope = str(sockaddr[0]).partition("%")[0], sockaddr[3] if len(sockaddr) > 3 else 0
    return f"{host}%{scope}" if scope else host


def interface_index(zone: str) -> int:
    """The index of the interface that ``zone`` names or numbers (RFC 4007 section 11).

    Raises OSError or ValueError if this machine has no such interface.
    """
    return int(zone) if zone.isascii() and zone.isdigit() else socket.if_nametoindex(zone)
