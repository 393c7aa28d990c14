"""The network between a dialer and a listener: `crates/relay` as a process of its own, with faults by seed.
Its options and commands are in `relay --help`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from multiaddr import Multiaddr

from testkit.program import Program, running

PROGRAM = Path(__file__).parent.parent / "target" / "release" / "relay"


class Relay:
    """Dial ``address`` to reach the listener through it."""

    def __init__(self, program: Program, address: str) -> None:
        self._program = program
        ip, _, port = address.rpartition(":")
        self.address = Multiaddr(f"/ip4/{ip}/udp/{port}/quic-v1")

    @classmethod
    @asynccontextmanager
    async def to(cls, listener: Multiaddr, *options: str) -> AsyncIterator[Relay]:
        assert PROGRAM.exists(), "libp2p-quic-relay is not built: run `make build`"
        target = f"{listener.value_for_protocol('ip4')}:{listener.value_for_protocol('udp')}"
        async with running([str(PROGRAM), "--to", target, *options]) as program:
            ready = await program.line(lambda line: "address" in line, 10, "address")
            yield cls(program, str(ready["address"]))

    async def tell(self, command: str) -> dict[str, Any]:
        """Send a command and return the answer, which the relay sends when the command is done."""
        before = len(self._program.lines)
        seen = count()
        await self._program.say(command)
        answer = await self._program.line(lambda _: next(seen) >= before, 10, f"answer to {command}")
        assert "error" not in answer, answer
        return answer

    async def move(self) -> None:
        """From now on the listener sees another port, and its answers to the old one are lost."""
        await self.tell("rebind")

    async def totals(self) -> dict[str, Any]:
        """Counts of forwarded, dropped and changed datagrams, ``to_target`` and ``to_client``."""
        return await self.tell("totals")
