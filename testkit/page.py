"""A web page on localhost that Python drives: serves its files, passes calls to it, returns their answers.

The page asks for each call by HTTP, so any browser will do, without a protocol or a library of browser
automation. `testkit.browser` starts browsers; `page.mjs` here is the page's side.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_POLL = 10.0
"""Seconds until a request for the next call is answered without one, so that no browser times out."""

_TYPES = {".html": "text/html; charset=utf-8", ".mjs": "text/javascript", ".js": "text/javascript"}

CALLER = Path(__file__).with_suffix(".mjs")


class PageError(Exception):
    """A call failed in the page, or the page did not answer in time."""


class Page:
    """One page, open in one browser. Its calls run one after the other."""

    def __init__(self, url: str) -> None:
        self.url = url
        """What the browser opens."""
        self.has_come = threading.Event()
        """Set when the page has asked for its first call."""
        self._calls: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._count = 0

    def call(self, name: str, *arguments: object, limit: float) -> Any:
        """What the page's function ``name`` returns. Blocks; raises PageError after ``limit`` seconds."""
        self._count += 1
        self._calls.put(json.dumps({"id": self._count, "name": name, "arguments": arguments}).encode())
        deadline = time.monotonic() + limit
        while True:
            try:
                answer = self._answers.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                why = "" if self.has_come.is_set() else "; the page was not loaded"
                raise PageError(f"{name}: no answer within {limit:.0f} s{why}") from None
            if answer["id"] != self._count:
                # The late answer of a call that was given up.
                continue
            if "error" in answer:
                raise PageError(answer["error"])
            return answer["result"]

    def next_call(self) -> bytes:
        """The next call for the page, or ``null``."""
        self.has_come.set()
        try:
            return self._calls.get(timeout=_POLL)
        except queue.Empty:
            return b"null"

    def answered(self, body: bytes) -> None:
        self._answers.put(json.loads(body))


@contextmanager
def served(files: Mapping[str, Path]) -> Iterator[Page]:
    """Serve ``files`` by their names on a free port of localhost; the first is the page itself."""
    files = {**files, "caller.mjs": CALLER}
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    page = Page(f"http://localhost:{server.server_address[1]}/{next(iter(files))}")
    # The handler's class is made once, so what it serves hangs on its server.
    server.page, server.files = page, files  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, name="page server", daemon=True)
    thread.start()
    try:
        yield page
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.partition("?")[0].lstrip("/")
        files: dict[str, Path] = self.server.files  # type: ignore[attr-defined]
        if name == "next-call":
            self._answer(self.server.page.next_call(), "application/json")  # type: ignore[attr-defined]
        elif name in files:
            self._answer(files[name].read_bytes(), _TYPES.get(files[name].suffix, "text/plain"))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.page.answered(body)  # type: ignore[attr-defined]
        self._answer(b"null", "application/json")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            # The browser has ended, or left the page.
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Requests are not logged: the caller reports the calls."""
