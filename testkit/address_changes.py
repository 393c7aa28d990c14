"""Changes of this machine's addresses, which a test reports in place of the system."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio


@contextmanager
def address_changes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], object]]:
    """A function that reports a change to the host that watches next."""
    watched, changes = socket.socketpair(type=socket.SOCK_DGRAM)
    monkeypatch.setattr(
        "libp2p_quic._hole_punching._announce._subscribed", lambda: trio.socket.from_stdlib_socket(watched)
    )
    # The host's watch closes the first, unless the test fails before.
    with watched, changes:
        yield lambda: changes.send(b"a change")
