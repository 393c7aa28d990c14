"""Finds this transport's errors inside the exceptions that py-libp2p raises.

The swarm raises SwarmException from a list of errors (MultiError), py-libp2p's streams raise their
own errors from ours, and nurseries wrap errors in exception groups.
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

    They are in the order in which they happened. For a failed ``host.connect`` the list has one
    error for each address that the swarm dialed in its last attempt. It is empty if the failure
    came from elsewhere.
    """
    return [each for each in _chain(error, set()) if isinstance(each, _OURS)]


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the distinct texts of `causes`, or the text of ``error``."""
    texts = list(dict.fromkeys(str(each) for each in causes(error)))
    return "; ".join(texts) or str(error) or type(error).__name__


def _chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """Every error that led to ``error``, then ``error``."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    if isinstance(error, MultiError):
        several: Sequence[BaseException] = error.errors
    else:
        # An exception group. Python 3.10 has no class for it.
        several = getattr(error, "exceptions", ())
    for each in several:
        yield from _chain(each, seen)
    yield from _chain(error.__cause__, seen)
    if not error.__suppress_context__:
        yield from _chain(error.__context__, seen)
    yield error
