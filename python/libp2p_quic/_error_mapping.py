"""Translates the engine's errors into this transport's exceptions.

No other module translates them, except `_config` and `_host_key`, each for the one error of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from libp2p_quic import _exception_types as shared
from libp2p_quic._dial_progress import DialProgress
from libp2p_quic._engine_errors import (
    ConnectionLostError,
    EngineError,
    StreamResetError,
    StreamStoppedError,
)
from libp2p_quic.exceptions import (
    ConnectionClosed,
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    PeerIdMismatchError,
    StreamClosed,
    StreamLost,
    StreamReset,
    UnreachableError,
)

_OF_PY_LIBP2P: dict[type[shared.DialError], type[DialError]] = {
    shared.DialError: DialError,
    shared.HandshakeRefusedError: HandshakeRefusedError,
    shared.HandshakeTimeoutError: HandshakeTimeoutError,
    shared.PeerIdMismatchError: PeerIdMismatchError,
    shared.UnreachableError: UnreachableError,
}


def dial_error(error: ConnectionLostError, address: str) -> DialError:
    """Why a dial to ``address`` failed."""
    # After another peer's answer the engine's text begins with "Peer ID mismatch". The swarm searches
    # for this phrase, and then removes the address and does not retry.
    return _OF_PY_LIBP2P[shared.dial_error_class(error)](f"failed to dial {address}: {error}", error.code)


def canceled_dial_error(progress: DialProgress) -> DialError:
    """The error of a dial that the program canceled."""
    error = progress.canceled()
    return _OF_PY_LIBP2P[type(error)](str(error), error.error_code)


def joint_dial_error(name: str, causes: Sequence[DialError]) -> DialError:
    """The error of a dial to ``name`` that failed at every address with ``causes``.

    It is a PeerIdMismatchError only if every peer that answered was another one, as the swarm then
    removes all addresses of the peer.
    """
    chosen, told = shared.most_telling(causes), shared.joint_text(causes)
    if not isinstance(chosen, PeerIdMismatchError):
        # The swarm searches for this phrase and ignores the class.
        told = told.replace("Peer ID mismatch", "another peer answered")
    error = type(chosen)(f"failed to dial {name}: {told}", chosen.error_code)
    error.causes = tuple(causes)
    error.__cause__ = chosen
    return error


def connection_error(error: ConnectionLostError) -> ConnectionClosed:
    """Why a stream cannot be opened or accepted, or why a connection ended."""
    # The same beginning as py-libp2p's own text, "Connection is closed".
    how = str(error).removeprefix("connection ")
    message = f"Connection is {how}" if how.startswith("closed by") else f"Connection is closed: {how}"
    made = ConnectionClosed(message, error.code)
    # py-libp2p's constructor, the first in the order of the base classes, takes no more.
    made.by, made.kind, made.reason = error.by, error.kind, error.reason
    made.__cause__ = error
    return made


def stream_error(error: EngineError, stream_id: str) -> StreamReset | StreamLost | StreamClosed:
    """Why a read or a write failed."""
    message = f"stream {stream_id}: {str(error).removeprefix('stream ')}"
    if isinstance(error, StreamResetError | StreamStoppedError):
        return StreamReset(message, stream_id, error.code, reset_by_peer=True)
    if isinstance(error, ConnectionLostError):
        return StreamLost(message, stream_id, error.code)
    return StreamClosed(message, stream_id)
