"""The exceptions that this transport raises. They are exported by `libp2p_quic` too.

py-libp2p decides by exception class, and its families are disjoint (QUICError is not a
BaseLibp2pError). So each class here inherits from every family whose callers must recognize it, and
from the class of its name in `_exception_types`, which `libp2p_quic.asyncio` raises.
"""

from __future__ import annotations

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

from libp2p_quic import _exception_types as shared

__all__ = [
    "ConnectionClosed",
    "DialError",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "HostKeyError",
    "HostKeyTypeError",
    "InvalidConfigError",
    "ListenError",
    "PeerIdMismatchError",
    "StreamClosed",
    "StreamEOF",
    "StreamLost",
    "StreamReset",
    "UnreachableError",
]

# The peer finished the stream and all of it was read. A MuxedStreamEOF, IOException and EOFError.
StreamEOF = _QUICStreamEOF


class DialError(QUICDialError, OpenConnectionError, shared.DialError):
    """The dial failed. ``error_code`` is the peer's error code, if it sent one."""

    causes: tuple[DialError, ...] = ()
    """After a dial by name, one error for each address, in the order in which the attempts failed."""


class PeerIdMismatchError(DialError, QUICPeerVerificationError, shared.PeerIdMismatchError):
    """A peer other than the dialed one answered. Dialing the address again does not help."""


class HandshakeRefusedError(DialError, QUICHandshakeError, shared.HandshakeRefusedError):
    """The peer refused us, or we refused the peer, in the handshake or directly after it.

    ``error_code`` is 0x2 (RFC 9000 section 20.1) for a limit or a denied address, 0x100 plus the
    TLS alert for a certificate, and after the handshake libp2p's code: 0x1001 for a limit, 0x1007
    for a gate.
    """


class HandshakeTimeoutError(DialError, QUICConnectionTimeoutError, shared.HandshakeTimeoutError):
    """The handshake did not complete within CONNECTION_HANDSHAKE_TIMEOUT.

    `QUICTransport.last_failure` returns one also if the program canceled the dial before that.
    """


class UnreachableError(DialError, shared.UnreachableError):
    """No answer can come from the address, or the system or a router reports that it is unreachable."""


class InvalidConfigError(QUICInvalidConfigError, shared.InvalidConfigError):
    """A field of the configuration is invalid. The message names it."""


class HostKeyError(QUICSecurityError, shared.HostKeyError):
    """The private key cannot be used, or is not the host's key."""


class HostKeyTypeError(HostKeyError, TypeError):
    """The transport was given something other than a private key."""


class ListenError(QUICListenError, OpenConnectionError, shared.ListenError):
    """Listening on the address failed. `Swarm.listen` catches OpenConnectionError only."""


class ConnectionClosed(QUICConnectionClosedError, MuxedConnUnavailable, shared.ConnectionClosed):
    """The connection is over: no stream can be opened or accepted.

    ``by`` is who ended it: "local" (this program), "peer" or "network". ``kind`` is how, as in
    `libp2p_quic.asyncio.ConnectionClosed`. ``error_code`` is the error code of the close, if there was
    one, and ``reason`` the text that came with it.
    """


class StreamReset(QUICStreamResetError, MuxedStreamReset, IOException, shared.StreamReset):
    """The stream was reset by the peer or by this program, or the peer stopped reading it.

    ``error_code`` is the peer's application error code, None after a reset by this program.
    """


class StreamLost(QUICStreamError, MuxedStreamReset, IOException, shared.StreamLost):
    """Both directions are over: the connection ended, or the peer reset the stream during a write.

    It is never a clean end of the stream. It is not a QUICStreamResetError, as py-libp2p treats
    that class, raised by a write, as the end of one direction only.
    """


class StreamClosed(QUICStreamClosedError, MuxedStreamClosed, IOException, shared.StreamClosed):
    """This program has already closed this direction of the stream."""
