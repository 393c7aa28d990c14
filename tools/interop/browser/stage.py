"""What a case has: a node in a process of its own, and a page in a browser with a new profile.

All of it ends with the case. Has no cases and no verdicts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import trio

from libp2p_quic.asyncio import Address, PeerId
from testkit.browser import Browser, Running
from testkit.browser import running as browser_running
from testkit.page import Page
from testkit.page import served as page_served
from testkit.program import Line, ProgramError
from testkit.program import running as program_running
from tools.interop.case import Failed
from tools.interop.matrix import Listening

START_LIMIT = 30.0
"""Seconds until a node has printed its address, and until a browser has loaded the page."""
CALL_LIMIT = 50.0
"""Seconds for one call of the page. The limit of a case is longer."""
_EVENT_LIMIT = 10.0


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run what blocks; a canceled call ends by itself, by its own limit."""
    # The parameter is newer than the stubs that mypy finds.
    return await trio.to_thread.run_sync(function, abandon_on_cancel=True)  # type: ignore[call-arg]


class NodeAddress:
    """The address of a node, and wrong ones that are like it."""

    wrong_hash = b"\x12\x20" + bytes(32)

    def __init__(self, text: str) -> None:
        self._address = Address.parse(text)
        self.hashes = self._address.certificate_hashes

    def __str__(self) -> str:
        return str(self._address)

    def with_hashes(self, *hashes: bytes) -> str:
        return str(replace(self._address, certificate_hashes=hashes))

    def with_peer(self, peer: str) -> str:
        return str(replace(self._address, peer_id=PeerId.parse(peer)))


class Stage:
    """The interface of a case."""

    def __init__(self, kind: str, ip: str, page: Page, browser: Running) -> None:
        self._kind = kind
        self._ip = ip
        self.page = page
        self.browser = browser
        self.node: Listening
        self._seed = os.urandom(32)
        self._nodes = AsyncExitStack()

    @property
    def address(self) -> NodeAddress:
        return NodeAddress(self.node.address)

    async def start_node(self, port: str = "0") -> None:
        command = [sys.executable, "-m", "tools.interop.browser.node", self._kind]
        command += ["--ip", self._ip, "--seed", self._seed.hex(), "--port", port]
        program = await self._nodes.enter_async_context(program_running(command))
        said = await program.line(lambda line: "addrs" in line, START_LIMIT, "address")
        self.node = Listening(program, said)

    async def restart_node(self, seed: bytes | None = None) -> None:
        """Kill the node and start it again on its port, with this key or that of before."""
        self._seed = seed or self._seed
        port = self.node.port
        await self.end_node()
        await self.start_node(port)

    async def end_node(self) -> None:
        await self._nodes.aclose()

    async def connect(self, address: str = "") -> Any:
        return await self.call("connect", address or str(self.address))

    async def call(self, name: str, *arguments: object, limit: float = CALL_LIMIT) -> Any:
        """What the page's function returns. Raises PageError."""
        return await in_thread(partial(self.page.call, name, *arguments, limit=limit))

    async def ends(self, peer: str, count: int, limit: float = _EVENT_LIMIT) -> list[Line]:
        """The first ``count`` ends of streams to ``watch`` that the node reports of ``peer``."""

        def are_there(_: Line) -> bool:
            return len(found()) >= count

        def found() -> list[Line]:
            lines = self.node.program.lines
            return [line for line in lines if line.get("event") == "end" and line.get("peer") == peer]

        try:
            await self.node.program.line(are_there, limit, f"{count} ends of streams")
        except ProgramError as error:
            raise Failed(str(error)) from error
        return found()[:count]


@asynccontextmanager
async def set_up(kind: str, ip: str, browser: Browser, bundle: Path) -> AsyncIterator[Stage]:
    """A node of that kind, and the page in that browser. Raises ProgramError and PageError."""
    files = {"index.html": Path(__file__).parent / "page" / "index.html", "page.js": bundle}
    with page_served(files) as page, browser_running(browser, page.url) as running:
        stage = Stage(kind, ip, page, running)
        try:
            await stage.start_node()
            loaded = partial(page.has_come.wait, START_LIMIT)
            if not await in_thread(loaded):
                raise Failed(f"the page was not loaded within {START_LIMIT:.0f} s; {running.last_output}")
            yield stage
        finally:
            with trio.CancelScope(shield=True):
                await stage.end_node()
