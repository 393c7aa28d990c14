"""A browser dials a node, and the parts of `make interop-browsers` that need none.

The page here has no js-libp2p, which would need npm: the browser's own API asks for a session, and that
Noise is required. `tools.interop.browsers` runs everything else, in every browser.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from libp2p_quic.asyncio import Address, Endpoint, Identity
from testkit import browser
from testkit.census import PATIENCE
from testkit.page import Page, PageError, served
from tools.interop.browser.cases import CASES
from tools.interop.browser.report import BrowserReport, BrowserResult
from tools.interop.browser.rollover import PERIOD, renewal, seed_renewed_in
from tools.interop.browsers import chosen

BROWSERS = "/ip4/127.0.0.1/udp/0/quic-v1/webtransport"
PATH = "/.well-known/libp2p-webtransport?type=noise"
PAGE = """<!doctype html>
<script type="module">
import { serve } from './caller.mjs'

const outcome = promise => promise.then(() => 'done', error => error.name)

serve({
  // What a session with this hash comes to, and what it does with a first stream that is not Noise.
  async dial (url, hash) {
    const value = Uint8Array.from(atob(hash), c => c.charCodeAt(0))
    const session = new WebTransport(url, { serverCertificateHashes: [{ algorithm: 'sha-256', value }] })
    const closed = outcome(session.closed)
    const ready = await outcome(session.ready)
    if (ready !== 'done') {
      return { ready }
    }
    const { readable, writable } = await session.createBidirectionalStream()
    const writer = writable.getWriter()
    writer.closed.catch(() => {})
    await writer.write(Uint8Array.of(0, 3, 1, 2, 3))
    return { ready, read: await outcome(readable.getReader().read()), closed: await closed }
  },

  fail () {
    throw new TypeError('outer', { cause: new RangeError('inner') })
  }
})
</script>
"""


def test_chromium_dials_by_the_hash(tmp_path: Path) -> None:
    chromium = browser.found("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    (tmp_path / "index.html").write_text(PAGE)
    asyncio.run(dial_in_chromium(chromium, tmp_path / "index.html"))


async def dial_in_chromium(chromium: browser.Browser, index: Path) -> None:
    async with Endpoint(Identity.generate()) as node:
        listener = await node.listen(BROWSERS)
        address = Address.parse(listener.webtransport_address)
        with served({"index.html": index}) as page, browser.running(chromium, page.url) as running:

            async def dialed(multihash: bytes) -> object:
                url = f"https://127.0.0.1:{address.port}{PATH}"
                text = base64.b64encode(multihash[2:]).decode()
                return await asyncio.to_thread(page.call, "dial", url, text, limit=45)

            right, wrong = address.certificate_hashes[0], b"\x12\x20" + bytes(32)
            assert await dialed(wrong) == {"ready": "WebTransportError"}
            assert await dialed(right) == {
                "ready": "done",
                "read": "WebTransportError",
                "closed": "WebTransportError",
            }
            with pytest.raises(PageError, match="TypeError: outer <- RangeError: inner"):
                await asyncio.to_thread(page.call, "fail", limit=15)
    assert running.process.returncode == -signal.SIGKILL
    assert not running.profile.exists()


STARTER = """
import sys
from pathlib import Path
from testkit import browser, page

with page.served({"index.html": Path(sys.argv[1])}) as shown:
    with browser.running(browser.found("chromium"), shown.url) as chromium:
        shown.has_come.wait(20)
        print(chromium.process.pid, chromium.profile.parent, flush=True)
        input()
"""


def test_a_browser_ends_with_a_program_that_is_killed(tmp_path: Path) -> None:
    if browser.found("chromium") is None or shutil.which("setpriv") is None:
        pytest.skip("chromium or setpriv is not installed")
    index = tmp_path / "index.html"
    index.write_text(PAGE)
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(index)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pid, folder = starter.stdout.readline().split()
        running = os.pidfd_open(int(pid))
        try:
            assert not select.select([running], [], [], 0)[0]
            starter.kill()
            assert select.select([running], [], [], PATIENCE)[0]
        finally:
            starter.kill()
            os.close(running)
            browser.wait_for_group(int(pid))
            shutil.rmtree(folder, ignore_errors=True)


# The page that Python drives


@pytest.fixture
def index(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<!doctype html>")
    return tmp_path / "index.html"


def got(page: Page, name: str) -> bytes:
    with urllib.request.urlopen(page.url.replace("index.html", name), timeout=20) as answer:
        return bytes(answer.read())


def post(page: Page, **answer: object) -> None:
    request = urllib.request.Request(page.url.replace("index.html", "answer"), json.dumps(answer).encode())
    urllib.request.urlopen(request, timeout=20).close()


def test_a_call_returns_its_own_answer(index: Path) -> None:
    with served({"index.html": index}) as page:
        with pytest.raises(PageError, match="the page was not loaded"):
            page.call("slow", limit=0)
        assert not page.has_come.is_set()

        def answer() -> None:
            for _ in range(2):
                call = json.loads(got(page, "next-call"))
                post(page, id=call["id"], result=[call["name"], call["arguments"]])

        thread = threading.Thread(target=answer)
        thread.start()
        assert page.call("fast", 1, "a", limit=20) == ["fast", [1, "a"]]
        thread.join()
        assert page.has_come.is_set()


def test_only_the_named_files_are_served(index: Path) -> None:
    (index.parent / "secret").write_text("")
    with served({"index.html": index}) as page:
        assert got(page, "index.html") == b"<!doctype html>"
        assert b"export async function serve" in got(page, "caller.mjs")
        for name in ("secret", "../secret", "answer"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                got(page, name)


def test_a_browser_that_is_not_installed_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert browser.found("chromium") is None
    assert browser.found("firefox") is None


# The runner


def report(*outcomes: str, missing: tuple[str, ...] = ()) -> BrowserReport:
    cases = CASES[: len(outcomes)]
    results = [
        BrowserResult("chromium", "host", case.name, outcome, 1, "a | <b>")
        for case, outcome in zip(cases, outcomes, strict=True)
    ]
    return BrowserReport(
        versions={"chromium": "Chromium 156"} if outcomes else {},
        missing=list(missing),
        nodes=["host"],
        cases=cases,
        results=results,
        packages={"libp2p": "3", "@libp2p/webtransport": "6"},
        seconds=1,
    )


def test_a_run_is_green_only_if_every_browser_ran_and_no_case_is_red() -> None:
    assert report("green", "absent").is_green
    assert not report("green", "red").is_green
    assert not report("green", missing=("firefox",)).is_green
    assert not report().is_green
    assert not report("absent").is_green


def test_a_missing_browser_is_named_everywhere() -> None:
    run = report("green", "red", missing=("firefox",))
    assert run.counted == "1 green, 1 red, firefox not installed"
    assert run.table().splitlines()[1].split() == ["connect", "✓", "not", "installed"]
    assert "- firefox: not installed" in run.page()
    assert "| connects by the hash | ✓ | not installed |" in run.page()
    assert json.loads(run.json())["browsers"]["firefox"] == "not installed"
    assert "a \\| &lt;b>" in run.page()


def test_unknown_names_are_refused() -> None:
    assert chosen("", ["a", "b"], "node") == ["a", "b"]
    assert chosen("b", ["a", "b"], "node") == ["b"]
    with pytest.raises(KeyError, match="no node 'c': there are a, b"):
        chosen("b,c", ["a", "b"], "node")


@pytest.mark.slow
def test_the_found_key_has_a_new_certificate_at_the_computed_time() -> None:
    async def hashes_around() -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        seed = seed_renewed_in(5, 11)
        at = renewal(seed, time.time())
        assert (renewal(seed, at - 1), renewal(seed, at)) == (at, at + PERIOD)
        async with Endpoint(Identity.from_secret("ed25519", seed)) as node:
            listener = await node.listen(BROWSERS)

            def hashes() -> tuple[bytes, ...]:
                return Address.parse(listener.webtransport_address).certificate_hashes

            before = hashes()
            assert time.time() < at, "the machine was too slow to see the time before"
            await asyncio.sleep(at + 0.1 - time.time())  # scenario: the time at which it is replaced
            return before, hashes()

    before, after = asyncio.run(hashes_around())
    assert before[1] == after[0]
    assert before[0] not in after
