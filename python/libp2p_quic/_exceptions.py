"""The exceptions that this transport raises, and the translation of the engine's errors into them.

py-libp2p decides by exception class, and its families are disjoint (QUICError is not a
BaseLibp2pError). So each class here inherits from every family whose callers must recognize it.
No other module of the adapter translates an error of the engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from libp2p.io.exceptions import IOException
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamReset,
)
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.quic.exceptions import (
    QUICConnectionClosedError,
    QUICConnectionTimeoutError,
    QUICDialError,
    QUICHandshakeError,
    QUICInvalidConfigError,
    QUICListenError,
    QUICPeerVerificationError,
    QUICSecurityError,
    QUICStreamClosedError,
    QUICStreamError,
    QUICStreamResetError,
)
from libp2p.transport.quic.stream import _QUICStreamEOF

from libp2p_quic._errors import (
    ConnectionLostError,
    EngineError,
    StreamResetError,
    StreamStoppedError,
)

# The peer finished the stream and all of it was read. A MuxedStreamEOF, IOException and EOFError.
StreamEOF = _QUICStreamEOF


class DialError(QUICDialError, OpenConnectionError):
    """The dial failed. ``error_code`` is the peer's error code, if it sent one.

    After a dial by name, ``causes`` has one error for each address, in the order in which the
    attempts failed.
    """

    causes: tuple[DialError, ...] = ()


class PeerIdMismatchError(DialError, QUICPeerVerificationError):
    """A peer other than the dialed one answered. Dialing the address again does not help."""


class HandshakeRefusedError(DialError, QUICHandshakeError):
    """The peer refused us, or we refused the peer, in the handshake or directly after it.

    ``error_code`` is 0x2 (RFC 9000 section 20.1) for a limit or a denied address, 0x100 plus the
    TLS alert for a certificate, and after the handshake libp2p's code: 0x1001 for a limit, 0x1007
    for a gate.
    """


class HandshakeTimeoutError(DialError, QUICConnectionTimeoutError):
    """The handshake did not complete within CONNECTION_HANDSHAKE_TIMEOUT."""


class UnreachableError(DialError):
    """No answer can come from the address, or the system or a router reports that it is unreachable."""


class InvalidConfigError(QUICInvalidConfigError, ValueError):
    """A field of the configuration is invalid. The message names it."""


class HostKeyError(QUICSecurityError):
    """The private key cannot be used, or is not the host's key."""


class HostKeyTypeError(HostKeyError, TypeError):
    """The transport was given something other than a private key."""


class ListenError(QUICListenError, OpenConnectionError):
    """Listening on the address failed. `Swarm.listen` catches OpenConnectionError only."""


class ConnectionClosed(QUICConnectionClosedError, MuxedConnUnavailable):
    """The connection is over: no stream can be opened or accepted.

    ``error_code`` is the error code of the close, if there was one.
    """


class StreamReset(QUICStreamResetError, MuxedStreamReset, IOException):
    """The stream was reset by the peer or by this program, or the peer stopped reading it.

    ``error_code`` is the peer's application error code, None after a reset by this program.
    """


class StreamLost(QUICStreamError, MuxedStreamReset, IOException):
    """Both directions are over: the connection ended, or the peer reset the stream during a write.

    It is never a clean end of the stream. It is not a QUICStreamResetError, as py-libp2p treats
    that class, raised by a write, as the end of one direction only.
    """


class StreamClosed(QUICStreamClosedError, MuxedStreamClosed, IOException):
    """This program has already closed this direction of the stream."""


def dial_error(error: ConnectionLostError, address: str) -> DialError:
    """Why a dial to ``address`` failed."""
    kind = DialError
    if error.kind == "peer_id_mismatch":
        # The engine's text begins with "Peer ID mismatch". The swarm searches for this phrase, and
        # then removes the address and does not retry.
        kind = PeerIdMismatchError
    elif error.kind in ("refused", "version", "closed"):
        kind = HandshakeRefusedError
    elif error.kind in ("handshake_timeout", "idle_timeout"):
        kind = HandshakeTimeoutError
    elif error.kind == "unreachable":
        kind = UnreachableError
    return kind(f"failed to dial {address}: {error}", error.code)


# The class of a joint error, by precedence: an attempt that was answered comes first.
_MOST_TELLING = (HandshakeRefusedError, PeerIdMismatchError, HandshakeTimeoutError, UnreachableError)


def joint_dial_error(name: str, causes: Sequence[DialError]) -> DialError:
    """The error of a dial to ``name`` that failed at every address with ``causes``.

    It is a PeerIdMismatchError only if every peer that answered was another one, as the swarm then
    removes all addresses of the peer.
    """
    chosen = next((e for kind in _MOST_TELLING for e in causes if isinstance(e, kind)), causes[0])
    told = "; ".join(str(each).removeprefix("failed to dial ") for each in causes)
    if not isinstance(chosen, PeerIdMismatchError):
        # The swarm searches for this phrase and ignores the class.
        told = told.replace("Peer ID mismatch", "another peer answered")
    error = type(chosen)(f"failed to dial {name}: {told}", chosen.error_code)
    error.causes = tuple(causes)
    error.__cause__ = chosen
    return error


def connection_error(error: ConnectionLostError) -> ConnectionClosed:
    """Why a stream cannot be opened or accepted."""
    # The same beginning as py-libp2p's own text, "Connection is closed".
    how = str(error).removeprefix("connection ")
    message = f"Connection is {how}" if how.startswith("closed by") else f"Connection is closed: {how}"
    return ConnectionClosed(message, error.code)


def stream_error(error: EngineError, stream_id: str) -> StreamReset | StreamLost | StreamClosed:
    """Why a read or a write failed."""
    message = f"stream {stream_id}: {str(error).removeprefix('stream ')}"
    if isinstance(error, StreamResetError | StreamStoppedError):
        return StreamReset(message, stream_id, error.code, reset_by_peer=True)
    if isinstance(error, ConnectionLostError):
        return StreamLost(message, stream_id, error.code)
    return StreamClosed(message, stream_id)
