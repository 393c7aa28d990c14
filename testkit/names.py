"""Host names with the addresses that a test sets, and unused ports."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port, by default of UDP, that no socket gets by asking for port 0: a test can listen on it again
    later."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = secrets.choice(range(10_000, low))
        with socket.socket(socket.AF_INET6, kind) as probe, suppress(OSError):
            probe.bind(("::", port))
            return port


class Names(trio.abc.HostnameResolver):
    """The names of one test, in the form of the system's resolver."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): hosts for name, hosts in names.items()}
        self.asked: list[str] = []

    async def getaddrinfo(self, host: Any, port: Any, family: int = 0, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        found = [each for each in self.names.get(name, ()) if family in (0, family_of(each))]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = socket.SOCK_DGRAM
        return [(family_of(each), kind, 17, "", (each, port or 0)) for each in found]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


def family_of(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
