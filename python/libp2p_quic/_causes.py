"""Finds this transport's errors under those that py-libp2p makes of them.

The swarm raises SwarmException from a list of errors (MultiError), streams raise errors of their
own from ours, and nurseries wrap everything in exception groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libp2p.exceptions import MultiError

from libp2p_quic._exceptions import (
    ConnectionClosed,
    DialError,
    HostKeyError,
    InvalidConfigError,
    ListenError,
    StreamClosed,
    StreamEOF,
    StreamLost,
    StreamReset,
)

_OURS = (
    ConnectionClosed,
    DialError,
    HostKeyError,
    InvalidConfigError,
    ListenError,
    StreamClosed,
    StreamEOF,
    StreamLost,
    StreamReset,
)


def causes(error: BaseException) -> list[Exception]:
    """This transport's errors that led to ``error``, or ``error`` itself if it is one.

    In the order in which they happened; of a failed ``host.connect``, one for each address that
    the swarm dialed, of its last attempt. Empty when the failure was not this transport's.
    """
    return [each for each in _chain(error, set()) if isinstance(each, _OURS)]


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the texts of `causes`, each once, or of ``error`` itself."""
    texts = list(dict.fromkeys(str(each) for each in causes(error)))
    return "; ".join(texts) or str(error) or type(error).__name__


def _chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """An error after everything that led to it."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    if isinstance(error, MultiError):
        several: Sequence[BaseException] = error.errors
    else:
        # A group of exceptions: Python 3.10 has no class for it.
        several = getattr(error, "exceptions", ())
    for each in several:
        yield from _chain(each, seen)
    yield from _chain(error.__cause__, seen)
    if not error.__suppress_context__:
        yield from _chain(error.__context__, seen)
    yield error
