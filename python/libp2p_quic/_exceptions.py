"""Every class this transport raises towards py-libp2p, and the way from the engine's words.

py-libp2p decides by exception class, and by families that do not meet (QUICError is not a
BaseLibp2pError). So each class here belongs to all families whose callers must recognise
it. Nothing else in the adapter translates an error of the engine.
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

# The peer finished, and everything was read: a MuxedStreamEOF, IOException and EOFError.
StreamEOF = _QUICStreamEOF


class DialError(QUICDialError, OpenConnectionError):
    """The dial failed. ``error_code`` is the peer's, if it gave one.

    ``causes`` has one error for each address that was dialed, in the order of failing, where a
    name was.
    """

    causes: tuple[DialError, ...] = ()


class PeerIdMismatchError(DialError, QUICPeerVerificationError):
    """Another peer answered than the one that was dialed. Dialing again is no use."""


class HandshakeRefusedError(DialError, QUICHandshakeError):
    """The peer refused us, or we refused the peer: in the handshake, or right after it.

    ``error_code``: RFC 9000's 0x2 for a limit or a denied address, a TLS alert's (0x100 and
    above), or libp2p's after the handshake: 0x1001 for a limit, 0x1007 for a gate.
    """


class HandshakeTimeoutError(DialError, QUICConnectionTimeoutError):
    """Nobody answered within the handshake timeout."""


class UnreachableError(DialError):
    """No answer can come from the address, or the system or a router said that no datagram gets there."""


class InvalidConfigError(QUICInvalidConfigError, ValueError):
    """A field of the configuration makes no sense, and the message names it."""


class HostKeyError(QUICSecurityError):
    """The host's private key cannot be used, or is not that of the host."""


class HostKeyTypeError(HostKeyError, TypeError):
    """The transport was given something other than a private key."""


class ListenError(QUICListenError, OpenConnectionError):
    """The address cannot be listened on. `Swarm.listen` knows the second family only."""


class ConnectionClosed(QUICConnectionClosedError, MuxedConnUnavailable):
    """The connection is over: no stream can be opened, and none will be accepted."""


class StreamReset(QUICStreamResetError, MuxedStreamReset, IOException):
    """This direction was abandoned, by the peer or here. ``error_code`` is the code."""


class StreamLost(QUICStreamError, MuxedStreamReset, IOException):
    """Neither direction is left: the connection is gone, or a write met the peer's reset.

    Never a clean end of stream. Not a QUICStreamResetError, since py-libp2p takes that, on
    a write, for the end of one direction only.
    """


class StreamClosed(QUICStreamClosedError, MuxedStreamClosed, IOException):
    """This program closed this direction of the stream before."""


def dial_error(error: ConnectionLostError, address: str) -> DialError:
    """Why a dial to ``address`` failed."""
    kind = DialError
    if error.kind == "peer_id_mismatch":
        # The swarm looks for "Peer ID mismatch", with which the engine's text begins: it forgets
        # the address and does not try again.
        kind = PeerIdMismatchError
    elif error.kind in ("refused", "version", "closed"):
        kind = HandshakeRefusedError
    elif error.kind in ("handshake_timeout", "idle_timeout"):
        kind = HandshakeTimeoutError
    elif error.kind == "unreachable":
        kind = UnreachableError
    return kind(f"failed to dial {address}: {error}", error.code)


# Of several causes, the class that says most: who answered comes before who did not.
_MOST_TELLING = (HandshakeRefusedError, PeerIdMismatchError, HandshakeTimeoutError, UnreachableError)


def joint_dial_error(name: str, causes: Sequence[DialError]) -> DialError:
    """Why a dial to ``name`` failed, when it failed at every address for these ``causes``.

    A PeerIdMismatchError only when every peer that answered was another one: the swarm forgets all
    addresses of a peer for it.
    """
    chosen = next((e for kind in _MOST_TELLING for e in causes if isinstance(e, kind)), causes[0])
    told = "; ".join(str(each).removeprefix("failed to dial ") for each in causes)
    if not isinstance(chosen, PeerIdMismatchError):
        # The swarm goes by this phrase, not by the class.
        told = told.replace("Peer ID mismatch", "another peer answered")
    error = type(chosen)(f"failed to dial {name}: {told}", chosen.error_code)
    error.causes = tuple(causes)
    error.__cause__ = chosen
    return error


def connection_error(error: ConnectionLostError) -> ConnectionClosed:
    """Why a stream cannot be opened or accepted."""
    # py-libp2p's own text begins with "Connection is closed".
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
