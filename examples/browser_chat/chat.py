"""A chat between browsers and this terminal: a node that they dial over WebTransport, and the page's server.

python examples/browser_chat/chat.py chat.js    # chat.js: the bundle of chat.mjs; docs/howto/browsers.md

Lines and files that a page sends go to every other page. What is typed here goes to every page.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from libp2p_quic import Identity
from libp2p_quic.asyncio import Connection, Endpoint, QUICError, Stream

LINES = "/browser-chat/lines/1.0.0"
"""Both ends write lines of text."""
FILE = "/browser-chat/file/1.0.0"
"""The sender writes one line of JSON, ``name`` and ``size``, and then the bytes."""

LONGEST_LINE = 4096
BLOCK = 65_536
PATIENCE = 10.0
"""Seconds that a page may take no bytes before its stream is reset: a slow page must not stop the others."""


async def line_of(stream: Stream) -> str:
    """The next line, without its end. Raises EOFError at the end of the stream."""
    line = b""
    while not line.endswith(b"\n"):
        if len(line) == LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE} bytes")
        line += await stream.read_exactly(1)
    return line.decode(errors="replace").rstrip("\n")


class Chat:
    """The pages that take part, each with the stream of its lines."""

    def __init__(self) -> None:
        self.pages: dict[Connection, Stream] = {}

    async def serve(self, connection: Connection) -> None:
        name = str(connection.peer_id)[-6:]
        try:
            await connection.serve(
                {
                    LINES: functools.partial(self.take_lines, connection, name),
                    FILE: functools.partial(self.pass_file, connection, name),
                }
            )
        finally:
            if self.pages.pop(connection, None):
                await self.say(f"{name} has left")

    async def take_lines(self, connection: Connection, name: str, stream: Stream) -> None:
        self.pages[connection] = stream
        await self.say(f"{name} has come")
        with suppress(EOFError, ValueError, QUICError):
            while True:
                await self.say(f"{name}: {await line_of(stream)}", sender=connection)

    async def say(self, line: str, sender: Connection | None = None) -> None:
        """Print the line, and send it to every page but its sender's."""
        print(line, flush=True)
        others = [stream for page, stream in self.pages.items() if page is not sender]
        await asyncio.gather(*(sent(stream, f"{line}\n".encode()) for stream in others))

    async def pass_file(self, connection: Connection, name: str, stream: Stream) -> None:
        """Send a file on to the other pages while it arrives. Nothing of it is kept here."""
        head = json.loads(await line_of(stream))
        size = int(head["size"])
        others = [page for page in self.pages if page is not connection]
        async with AsyncExitStack() as stack:
            # If the sender fails, the stack resets the copies, so that no page takes a part for the whole.
            copies = [await stack.enter_async_context(await page.open_stream(FILE)) for page in others]
            first = json.dumps({"name": head["name"], "size": size, "from": name})
            await asyncio.gather(*(sent(copy, f"{first}\n".encode()) for copy in copies))
            digest, left = hashlib.sha256(), size
            while left:
                data = await stream.read(min(left, BLOCK))
                if not data:
                    raise EOFError(f"{name} sent {left} bytes of {head['name']} too few")
                digest.update(data)
                left -= len(data)
                # The slowest page decides how fast the sender may send: that is the back-pressure.
                await asyncio.gather(*(sent(copy, data) for copy in copies))
        await self.say(f"{name} sent {head['name']}, {size} bytes, SHA-256 {digest.hexdigest()}")


async def sent(stream: Stream, data: bytes) -> None:
    """Write, or give the stream up."""
    try:
        await asyncio.wait_for(stream.write(data), PATIENCE)
    except (QUICError, asyncio.TimeoutError):
        stream.reset()


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[str]:
    """Serve these files on localhost, which browsers trust as they do HTTPS; the address of the first."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/") or "index.html"
            if name not in files:
                self.send_error(404)
                return
            kinds = {"js": "text/javascript", "html": "text/html; charset=utf-8"}
            self.send_response(200)
            self.send_header("Content-Type", kinds.get(name.rpartition(".")[2], "text/plain"))
            self.end_headers()
            self.wfile.write(files[name])

        def log_message(self, *_: object) -> None:
            """The terminal is for the chat."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


async def main(files: dict[str, bytes]) -> None:
    chat = Chat()
    async with Endpoint(Identity.generate()) as endpoint:
        listener = await endpoint.listen("/ip4/127.0.0.1/udp/0/quic-v1/webtransport")
        address = f"{listener.webtransport_address}/p2p/{endpoint.peer_id}"
        with served({**files, "address": address.encode()}) as url:
            print(f"open {url} in two browsers; type here to take part\n{address}", flush=True)
            typing = asyncio.create_task(say_what_is_typed(chat))
            tasks = set()
            async for connection in listener:
                tasks.add(task := asyncio.create_task(chat.serve(connection)))
                task.add_done_callback(tasks.discard)
            typing.cancel()


async def say_what_is_typed(chat: Chat) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        await chat.say(f"the node: {line.rstrip()}")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        index = Path(__file__).with_name("index.html").read_bytes()
        asyncio.run(main({"index.html": index, "chat.js": Path(sys.argv[1]).read_bytes()}))
