"""Names that a test gives addresses to, and ports that nobody has."""

from __future__ import annotations

import socket
from typing import Any

import trio


def free_port() -> int:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


class Names(trio.abc.HostnameResolver):
    """The names of this test, as the system's resolver would give them."""

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
