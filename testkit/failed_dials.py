"""Dials that fail on purpose, each as a person would provoke it with the command `libp2p-quic`.

docs/howto/failing-dial.md shows what they print, and a test compares it with the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from testkit.asyncio_ends import LOOPBACK
from testkit.command import running
from testkit.expired_server import expired_server
from testkit.unwilling import black_hole, dead_port

OTHER_PEER = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
Arguments = tuple[str, ...]


@contextmanager
def _wrong_peer() -> Iterator[Arguments]:
    with running("listen", "--json", LOOPBACK) as listener:
        address, _, _ = listener.event("listening")["address"].rpartition("/p2p/")
        yield (f"{address}/p2p/{OTHER_PEER}",)


@contextmanager
def _dead_port() -> Iterator[Arguments]:
    yield "--timeout", "2", dead_port()


@contextmanager
def _no_answer() -> Iterator[Arguments]:
    with black_hole() as address:
        yield "--timeout", "2", address


@contextmanager
def _gated() -> Iterator[Arguments]:
    with running("listen", "--json", "--allow", OTHER_PEER, LOOPBACK) as listener:
        yield (listener.event("listening")["address"].partition("/p2p/")[0],)


@contextmanager
def _limit() -> Iterator[Arguments]:
    with running("listen", "--json", "--max-connections", "1", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with running("ping", "--json", address) as other:
            other.event("round")
            yield (address.partition("/p2p/")[0],)


@contextmanager
def _clock() -> Iterator[Arguments]:
    with expired_server("libp2p") as (address, _):
        yield (address,)


# The cause that the command names -> the arguments of `dial`, while the failure is there.
FAILURES: dict[str, Callable[[], AbstractContextManager[Arguments]]] = {
    "dead_port": _dead_port,
    "no_answer": _no_answer,
    "wrong_peer": _wrong_peer,
    "gated": _gated,
    "limit": _limit,
    "clock": _clock,
}

_VARYING = (
    (r"/udp/\d+", "/udp/PORT"),
    (r"\b12D3KooW\w+", "PEER"),
    (r"\bCAES[\w+/]+=*", "KEY"),
    (r"\b\d+(?:\.\d+)? (?:µs|ms|s)\b", "TIME"),
    (r"\bserial [0-9a-f]+", "serial HEX"),
    # Seconds since 1970.
    (r"\b1\d{9}\b", "TIME"),
    (r"\b\d+ datagrams? sent", "N datagrams sent"),
    (r"(?m)(?:, \d+ times|, once|, twice)$", ""),
)


def without_chance(text: str) -> str:
    """The text of a run without its ports, peer ids, times and counts."""
    for pattern, instead in _VARYING:
        text = re.sub(pattern, instead, text)
    return text
