"""Finds this package's errors inside the exceptions that reach a program.

py-libp2p's swarm raises SwarmException from a list of errors (MultiError), its streams raise their own
errors from ours or refuse a call for their own state, nurseries wrap errors in exception groups, and a time
limit of the program replaces the cancellation of a dial by an error of its own. Imports no library: it looks
at classes of those that are imported already.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from math import nan
from traceback import walk_tb
from typing import Any

from libp2p_quic._engine_errors import EngineError, StreamClosedError
from libp2p_quic._exception_types import DialError, HandshakeTimeoutError, QUICError
from libp2p_quic._limited_dials import limited_dials
from libp2p_quic._state import RecvState

_IS_RUNNING = "is host.run() active?"
_NO_ADDRESS = (
    "this host knows no address of the peer, or no longer: give host.connect a PeerInfo with its addresses"
)
_OWN_MANAGER = "by the resource manager of this host, not by the peer"
# What is added to texts of py-libp2p 0.8.1 that do not say what to do.
_HINTS = {
    "Connection closed while starting": _IS_RUNNING,
    # A host that was never run.
    "'Swarm' object has no attribute '_manager'": _IS_RUNNING,
    "No supported transport found": "no address has /quic-v1, which QUICTransport needs",
    # The peer store forgets addresses after a time, and the swarm those of a peer that was another one.
    "No known addresses": _NO_ADDRESS,
    "peer ID not found": _NO_ADDRESS,
    "peer ID is expired": _NO_ADDRESS,
    "Maximum connections limit reached": "of this host, not of the peer: max_connections of its "
    "connection_config (ConnectionConfig)",
    "Connection denied by resource manager": _OWN_MANAGER,
    "Stream limit exceeded": _OWN_MANAGER,
    "(negative cache)": "the swarm dials it again after 60 s, or after unblock_peer(peer_id) of the network; "
    "last_failure(address) of the transport has the cause",
}
_NET_STREAM = "libp2p.network.stream.net_stream"
# The module of `trio.fail_after` and `fail_at`. If it moves, the cause of a TooSlowError is not found.
_RAISES = "trio._timeouts"
_CANCELED = "canceled by this program"
_UNANSWERED = (
    "check the address, whether the peer runs, and firewalls; a longer time limit helps only a slow peer"
)
_UNFINISHED = "allow more time"
# Errors of other libraries beside ours in a group: how many are told, and how many characters of each.
_MOST_OTHERS = 5
_LONGEST = 200


def causes(error: BaseException) -> list[Exception]:
    """This package's errors that led to ``error``, or ``error`` itself if it is one.

    They are in the order in which they happened. For a failed ``host.connect`` the list has one
    error for each address that the swarm dialed in its last attempt. If a time limit of the program
    ended (`trio.fail_after`, `asyncio.timeout`), it has the errors of the dials that failed within it, of
    which those that were canceled say so. If a host's stream refuses a read or a write because its connection
    has ended, the list has the `ConnectionClosed` of that. It is empty if the failure came from elsewhere.
    """
    ours: tuple[type[Exception], ...] = (QUICError, *_class("libp2p.transport.quic.stream", "_QUICStreamEOF"))
    return [each for each in _chain(error, set()) if isinstance(each, ours)]


def explain(error: BaseException) -> str:
    """What went wrong, in one line: the distinct texts of `causes`, with what to check after a dial that
    the program canceled. Members of groups that have none of our errors follow, at most five, with their
    classes.

    If none of the causes is ours, it is the texts of the deepest ones (``__cause__``, members of groups),
    with what to check for errors of py-libp2p that do not say it.
    """
    found = causes(error)
    # The error of a dial of several addresses has the texts of its causes in its own.
    told = {id(cause) for each in found if isinstance(each, DialError) for cause in each.causes}
    texts = list(dict.fromkeys(_told(each) for each in found if id(each) not in told))
    if texts:
        return "; ".join([*texts, *_bounded(_named(each) for each in _others(error, set()))])
    return "; ".join(dict.fromkeys(_deepest_texts(error, set()))) or _without_text(error)


def _others(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """The members of the groups that led to ``error``, except groups and errors that ours led to."""
    # What was handled when an error was raised (``__context__``) may have nothing to do with it.
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    for each in _members(error):
        if _members(each) or causes(each):
            yield from _others(each, seen)
        elif isinstance(each, Exception):  # and no cancellation
            yield each
    yield from _others(error.__cause__, seen)


def _named(error: BaseException) -> str:
    """The class of ``error`` and the text of the error that it began with, in one line."""
    text = " ".join("; ".join(dict.fromkeys(_deepest_texts(error, set()))).split())
    if not text:
        return _without_text(error)
    return f"{type(error).__name__}: {text if len(text) <= _LONGEST else text[:_LONGEST] + '…'}"


def _bounded(texts: Iterable[str]) -> list[str]:
    distinct = list(dict.fromkeys(texts))
    left_out = len(distinct) - _MOST_OTHERS
    return distinct if left_out <= 0 else [*distinct[:_MOST_OTHERS], f"and {left_out} more"]


def _told(error: Exception) -> str:
    if not (isinstance(error, DialError) and _CANCELED in str(error)):
        return str(error)
    return f"{error}: {_UNANSWERED if isinstance(error, HandshakeTimeoutError) else _UNFINISHED}"


def _without_text(error: BaseException) -> str:
    if not isinstance(error, _class("trio", "TooSlowError") + _class("asyncio", "TimeoutError")):
        return type(error).__name__
    return (
        f"a time limit of the program ended ({type(error).__name__}), and no dial is known that it canceled; "
        "last_failure(address) has what came of a dial"
    )


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
    if isinstance(error, _class("libp2p.exceptions", "MultiError")):
        return tuple(error.errors)
    if isinstance(error, _class("trio", "TooSlowError")):
        return limited_dials.within(_deadline(error))
    if (
        isinstance(error, _class("libp2p.network.stream.exceptions", "StreamReset"))
        and error.__cause__ is None
    ):
        return _ends(error)
    # An exception group. Python 3.10 has no class for it.
    members: Sequence[BaseException] = getattr(error, "exceptions", ())
    return members


def _deadline(error: BaseException) -> float:
    """The deadline of the `trio.fail_after` that raised ``error``; NaN if the traceback does not have it."""
    deadline = nan
    for frame, _ in walk_tb(error.__traceback__):
        scope = frame.f_locals.get("scope")
        if isinstance(scope, _class("trio", "CancelScope")) and frame.f_globals["__name__"] == _RAISES:
            deadline = scope.deadline
    return deadline


def _ends(error: BaseException) -> list[Exception]:
    """Why the connection is over whose stream refused a call with ``error``, for py-libp2p's state "reset".

    When a connection ends, py-libp2p 0.8.1 resets its streams (`SwarmConn._cleanup`), which then call the
    transport no more. A stream that was reset before that has not ended with the connection.
    """
    found = (frame.f_locals.get("self") for frame, _ in walk_tb(error.__traceback__))
    streams = [each for each in found if isinstance(each, _class(_NET_STREAM, "NetStream"))]
    ours = _class("libp2p_quic._stream", "QUICStream")
    muxed = [each.muxed_stream for each in streams[-1:] if isinstance(each.muxed_stream, ours)]
    ends = [each.muxed_conn._end() for each in muxed if not _is_reset_before(each)]
    return [each for each in ends if each is not None]


def _is_reset_before(stream: Any) -> bool:
    """Whether the peer or this program reset this `QUICStream` before its connection ended.

    The engine's stream knows: when py-libp2p resets the streams of a connection that is over, they do not
    call the engine (`QUICStream.reset`).
    """
    if stream._recv is RecvState.RESET_RECVD:
        return True
    try:
        # Returns at once. A finish that the peer has acknowledged does not tell what came after it.
        stream._engine.finished_nowait()
    except StreamClosedError:
        return True
    except EngineError:
        return False
    return False


def _class(module: str, name: str) -> tuple[type[Any], ...]:
    """A class of another library. None if that is not imported: no error is then of the class."""
    found = getattr(sys.modules.get(module), name, None)
    return () if found is None else (found,)


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
