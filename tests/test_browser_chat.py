"""examples/browser_chat passes lines and files: between two asyncio dialers, and between two browsers.

The pages need the bundle of js-libp2p, which `make browser-demo` and `make interop-browsers` build.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from libp2p_quic.asyncio import Endpoint, Identity, Stream
from testkit import browser
from testkit.loops import soon
from testkit.page import Page, served
from tools.interop.browser.bundle import BUILD

CHAT = Path(__file__).parent.parent / "examples" / "browser_chat"
LINES, FILE = "/browser-chat/lines/1.0.0", "/browser-chat/file/1.0.0"

DRIVER = """<!doctype html>
<iframe src="index.html"></iframe>
<script type="module">
import { serve } from './caller.mjs'

const frame = document.querySelector('iframe')
const element = id => frame.contentDocument?.getElementById(id)
const until = async condition => {
  while (!await condition()) {
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

serve({
  connected: () => until(() => element('state')?.textContent.startsWith('connected')),
  say (text) {
    element('text').value = text
    element('form').requestSubmit()
  },
  sees: text => until(() => element('lines').textContent.includes(text)),
  async sendFile (size) {
    const files = new frame.contentWindow.DataTransfer()
    files.items.add(new frame.contentWindow.File([new Uint8Array(size).map((_, i) => i % 251)], 'a file'))
    element('file').files = files.files
    element('file').dispatchEvent(new Event('change'))
  },
  async received () {
    await until(() => element('lines').querySelector('a'))
    const link = element('lines').querySelector('a')
    const data = new Uint8Array(await (await frame.contentWindow.fetch(link.href)).arrayBuffer())
    return { name: link.download, size: data.length, same: data.every((byte, i) => byte === i % 251) }
  }
})
</script>
"""


@contextmanager
def chat(bundle: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The example; its process, the URL of its page, and its address."""
    command = [sys.executable, str(CHAT / "chat.py"), str(bundle)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1]
            yield process, url, process.stdout.readline().strip()
        finally:
            process.kill()


async def line(stream: Stream) -> str:
    read = b""
    while not read.endswith(b"\n"):
        read += await stream.read_exactly(1)
    return read.decode().rstrip("\n")


async def talk(process: subprocess.Popen[str], address: str) -> None:
    async with Endpoint(Identity.generate()) as first, Endpoint(Identity.generate()) as second:
        names = [str(each.peer_id)[-6:] for each in (first, second)]
        pages = [await each.connect(address) for each in (first, second)]
        received: asyncio.Queue[bytes] = asyncio.Queue()

        async def take(stream: Stream) -> None:
            await received.put(await stream.read_to_end())

        serving = asyncio.create_task(pages[1].serve({FILE: take}))
        a = await pages[0].open_stream(LINES)
        assert await line(a) == f"{names[0]} has come"
        b = await pages[1].open_stream(LINES)
        # The first read of a stream proposes its protocol.
        assert [await line(b), await line(a)] == [f"{names[1]} has come"] * 2
        await a.write("grüß dich\n".encode())
        assert await line(b) == f"{names[0]}: grüß dich"
        assert process.stdin is not None
        process.stdin.write("from the terminal\n")
        process.stdin.flush()
        assert [await line(a), await line(b)] == ["the node: from the terminal"] * 2

        data = os.urandom(300_000)
        whole = json.dumps({"name": "a file", "size": len(data)}).encode() + b"\n" + data
        async with await pages[0].open_stream(FILE) as file:
            await file.write(whole)
        head, _, rest = (await received.get()).partition(b"\n")
        assert json.loads(head) == {"name": "a file", "size": len(data), "from": names[0]}
        assert rest == data
        assert (await line(a)).startswith(f"{names[0]} sent a file, {len(data)} bytes, SHA-256 ")

        # A part of a file is reset, and no file for the other page.
        cut = await pages[0].open_stream(FILE)
        await cut.write(whole[:100_000])
        cut.finish()
        await b.write(b"still here\n")
        assert await line(a) == f"{names[1]}: still here"
        pages[0].close()
        while await line(b) != f"{names[0]} has left":
            pass
        assert received.empty()
        serving.cancel()


def test_lines_and_files_are_passed_on(tmp_path: Path) -> None:
    (tmp_path / "chat.js").write_text("")
    with chat(tmp_path / "chat.js") as (process, url, address):
        assert b"Browser chat" in urllib.request.urlopen(url, timeout=20).read()
        assert urllib.request.urlopen(f"{url}address", timeout=20).read().decode() == address
        asyncio.run(soon(talk(process, address)))


@pytest.mark.slow
def test_browsers_chat_and_send_a_file(tmp_path: Path) -> None:
    bundle = BUILD / "chat.js"
    if not bundle.exists():
        pytest.skip("the page is not built: `make browser-demo` does that")
    first, second = browser.found("chromium"), browser.found("firefox") or browser.found("chromium")
    if first is None or second is None:
        pytest.skip("chromium is not installed")
    (tmp_path / "drive.html").write_text(DRIVER)
    with chat(bundle) as (process, _, address), ExitStack() as stack:
        (tmp_path / "address").write_text(address)
        files = {
            "drive.html": tmp_path / "drive.html",
            "index.html": CHAT / "index.html",
            "chat.js": bundle,
            "address": tmp_path / "address",
        }

        def opened(program: browser.Browser) -> Page:
            page = stack.enter_context(served(files))
            stack.enter_context(browser.running(program, page.url))
            page.call("connected", limit=30)
            return page

        a, b = opened(first), opened(second)
        a.call("sees", "has come", limit=20)
        a.call("say", "hello", limit=20)
        b.call("sees", ": hello", limit=20)
        b.call("say", "hello back", limit=20)
        a.call("sees", ": hello back", limit=20)
        assert process.stdin is not None
        process.stdin.write("from the terminal\n")
        process.stdin.flush()
        for page in (a, b):
            page.call("sees", "the node: from the terminal", limit=20)
        for sender, taker, size in ((a, b, 5_000_000), (b, a, 1)):
            sender.call("sendFile", size, limit=20)
            assert taker.call("received", limit=20) == {"name": "a file", "size": size, "same": True}
