"""Two endpoints of the engine on loopback, awaited without an event loop.

For tests of the binding and of the driver. Waits on the ready queue's descriptor, as an event loop would.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from libp2p.crypto.ed25519 import create_new_key_pair

from libp2p_quic._engine import Config, Connection, Endpoint, Identity, Listener, ReadyQueue, Stream
from libp2p_quic._host_key import identity_of
from testkit.census import PATIENCE

T = TypeVar("T")


def identity() -> Identity:
    return identity_of(create_new_key_pair().private_key)


class Pair:
    """A listening and a dialing endpoint that share a ready queue, which may be one that ``receives``."""

    def __init__(
        self, near: dict[str, Any] | None = None, far: dict[str, Any] | None = None, receives: bool = False
    ) -> None:
        self.ready_queue = ReadyQueue(receives)
        self.near_identity, self.far_identity = identity(), identity()
        self.near = Endpoint(self.near_identity, Config(**(near or {})), self.ready_queue)
        self.far = Endpoint(self.far_identity, Config(**(far or {})), self.ready_queue)
        self.listener: Listener = self.far.listen("127.0.0.1", 0)
        self.ready: set[int] = set()

    def flush(self) -> None:
        self.near.flush()
        self.far.flush()

    def take(self, method: Callable[[], T | None], token: int, within: float = PATIENCE) -> T:
        """Call ``method`` until it returns a result, again each time ``token`` is ready."""
        deadline = time.monotonic() + within
        while True:
            self.flush()
            result = method()
            if result is not None:
                return result
            self.ready.discard(token)
            while token not in self.ready:
                left = deadline - time.monotonic()
                assert left > 0, f"{method} returned None for {within} s"
                select.select([self.ready_queue.fileno()], [], [], left)
                self.ready.update(self.ready_queue.drain())

    def connected(self) -> tuple[Connection, Connection]:
        """A new connection: the dialer's end and the listener's."""
        host, port = self.listener.local_address
        near = self.near.connect(host, port, self.far_identity.peer_id)
        self.take(near.connected_nowait, near.connected)
        far = self.take(self.listener.accept_nowait, self.listener.acceptable)
        return near, far

    def streams(self, near: Connection, far: Connection) -> tuple[Stream, Stream]:
        """A stream that ``near`` opened; its first byte has been read by ``far``."""
        ours = self.take(near.open_stream_nowait, near.openable)
        assert ours.write_nowait(b".") == 1
        theirs = self.take(far.accept_stream_nowait, far.acceptable)
        assert self.read(theirs, 1) == b"."
        return ours, theirs

    def read(self, stream: Stream, n: int) -> bytes:
        return self.take(lambda: stream.read_nowait(n), stream.readable)

    def write(self, stream: Stream, data: bytes) -> None:
        start = 0
        while start < len(data):
            start += self.take(partial(stream.write_nowait, data, start), stream.writable)
        self.flush()

    def close(self) -> None:
        for endpoint in (self.near, self.far):
            endpoint.close(0, b"")
        for endpoint in (self.near, self.far):
            assert self.take(endpoint.closed_nowait, endpoint.closed)


@contextmanager
def pair(
    near: dict[str, Any] | None = None, far: dict[str, Any] | None = None, receives: bool = False
) -> Iterator[Pair]:
    """Both endpoints; `near` and `far` are their configurations. Both are closed on exit."""
    made = Pair(near, far, receives)
    try:
        yield made
    finally:
        made.close()
