"""Finds this transport's errors inside the exceptions that py-libp2p raises.

The swarm raises SwarmException from a list of errors (MultiError), py-libp2p's streams raise their
own errors from ours, and nurseries wrap errors in exception groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libp2p.exceptions import MultiError

from libp2p_quic.exceptions import (
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


_IS_RUNNING = "is host.run() active?"
# What is added to texts of py-libp2p 0.8.1 that do not say what to do.
_HINTS = {
    "Connection closed while starting": _IS_RUNNING,
    # A host that was never run.
    "'Swarm' object has no attribute '_manager'": _IS_RUNNING,
    "No supported transport found": "no address has /quic-v1, which QUICTransport needs",
    "(negative cache)": "the swarm dials it again after 60 s, or after unblock_peer(peer_id) of the network; "
    "last_failure(address) of the transport has the cause",
}


def causes(error: BaseException) -> list[Exception]:
    """This transport's errors that led to ``error``, or ``error`` itself if it is one.

    They are in the order in which they happened. For a failed ``host.connect`` the list has one
    error for each address that the swarm dialed in its last attempt. It is empty if the failure
    came from elsewhere.
    """
    return [each for each in _chain(error, set()) if isinstance(each, _OURS)]


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the distinct texts of `causes`.

    If none of the causes is ours, it is the texts of the deepest ones (``__cause__``, members of groups),
    with what to check for errors of py-libp2p that do not say it.
    """
    found = causes(error)
    # The error of a dial of several addresses has the texts of its causes in its own.
    told = {id(cause) for each in found if isinstance(each, DialError) for cause in each.causes}
    texts = list(dict.fromkeys(str(each) for each in found if id(each) not in told))
    return "; ".join(texts or dict.fromkeys(_deepest_texts(error, set()))) or type(error).__name__


def _deepest_texts(error: BaseException, seen: set[int]) -> list[str]:
    """The texts of the errors that ``error`` began with. Those without a text are left out."""
    seen.add(id(error))
    below = [*_members(error), *([error.__cause__] if error.__cause__ is not None else [])]
    texts = [text for each in below if id(each) not in seen for text in _deepest_texts(each, seen)]
    if texts or not str(error):
        return texts
    text = str(error)
    return [f"{text}: {hint}" for part, hint in _HINTS.items() if part in text] or [text]


def _members(error: BaseException) -> Sequence[BaseException]:
    """The errors that ``error`` consists of."""
    if isinstance(error, MultiError):
        return error.errors
    # An exception group. Python 3.10 has no class for it.
    members: Sequence[BaseException] = getattr(error, "exceptions", ())
    return members


def _chain(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """Every error that led to ``error``, then ``error``."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    for each in _members(error):
        yield from _chain(each, seen)
    yield from _chain(error.__cause__, seen)
    if not error.__suppress_context__:
        yield from _chain(error.__context__, seen)
    yield error
