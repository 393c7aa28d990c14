"""The exception classes of this package, without py-libp2p's families, and what the engine's errors become.

`libp2p_quic.asyncio` raises these classes. The py-libp2p part raises subclasses that also belong to
py-libp2p's families, so a handler for a class of this module works in both parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from libp2p_quic._engine_errors import (
    CloseKind,
    ConnectionLostError,
    EngineError,
    Party,
    StreamResetError,
    StreamStoppedError,
)


class QUICError(Exception):
    """Base class. ``error_code`` is the peer's error code, if it sent one."""

    def __init__(self, message: str, error_code: int | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code


class DialError(QUICError):
    """The dial failed. ``error_code`` is the peer's error code, if it sent one.

    After a dial by name, ``causes`` has one error for each address, in the order in which the
    attempts failed.
    """

    causes: Sequence[DialError] = ()


class PeerIdMismatchError(DialError):
    """A peer other than the dialed one answered. Dialing the address again does not help."""


class HandshakeRefusedError(DialError):
    """The peer refused us, or we refused the peer, in the handshake or directly after it.

    ``error_code`` is 0x2 (RFC 9000 section 20.1) for a limit or a denied address, 0x100 plus the
    TLS alert for a certificate, and after the handshake libp2p's code: 0x1001 for a limit, 0x1007
    for a gate.
    """


class HandshakeTimeoutError(DialError):
    """The handshake did not complete within the configured handshake timeout.

    `Endpoint.last_failure` returns one also if the program canceled the dial before that.
    """


class UnreachableError(DialError):
    """No answer can come from the address, or the system or a router reports that it is unreachable."""


class InvalidConfigError(QUICError, ValueError):
    """A field of the configuration is invalid. The message names it."""


class InvalidAddressError(QUICError, ValueError):
    """The text is not a multiaddr of QUIC, or not one for this purpose."""


class InvalidPeerIdError(QUICError, ValueError):
    """The text or the bytes are not a peer id."""


class HostKeyError(QUICError, ValueError):
    """The private key cannot be read or used. The message never contains the key."""


class ListenError(QUICError):
    """Listening on the address failed."""


class ConnectionClosed(QUICError):
    """The connection is over.

    ``by`` is who ended it: "local" (this program), "peer" or "network". ``kind`` is how, one of
    "closed", "transport", "refused", "peer_id_mismatch", "handshake_timeout", "idle_timeout",
    "unreachable", "stateless_reset", "version", "internal" and "forked". ``error_code`` is the
    error code of the close, if there was one, and ``reason`` the text that came with it.
    """

    def __init__(
        self,
        message: str,
        error_code: int | None = None,
        by: Party = "network",
        kind: CloseKind = "closed",
        reason: str = "",
    ) -> None:
        super().__init__(message, error_code)
        self.by = by
        self.kind = kind
        self.reason = reason


class StreamError(QUICError):
    """A direction of a stream is over. ``stream_id`` names the stream."""

    def __init__(self, message: str, stream_id: str | None = None, error_code: int | None = None) -> None:
        super().__init__(message, error_code)
        self.stream_id = stream_id


class StreamReset(StreamError):
    """The stream was reset by the peer or by this program, or the peer stopped reading it.

    ``error_code`` is the peer's application error code, None after a reset by this program.
    """


class StreamLost(StreamError):
    """Both directions are over, as the connection ended. It is never a clean end of the stream."""


class StreamClosed(StreamError):
    """This program has already finished, reset or stopped this direction of the stream."""


class StreamLimitError(StreamError):
    """More bytes came than the caller allows. They stay in the stream."""


class NegotiationError(StreamError):
    """No protocol was agreed on for a stream (multistream-select 1.0)."""


class ProtocolNotSupportedError(NegotiationError):
    """The peer supports none of the proposed protocols.

    Either it said so, or it reset the stream or stopped reading it before it agreed to one;
    ``error_code`` is the peer's application error code then.
    """


# Tracebacks, `repr` and pickles show where a program imports these classes from, not this module.
for _class in [each for each in vars().values() if isinstance(each, type) and each.__module__ == __name__]:
    _class.__module__ = "libp2p_quic.asyncio"


def dial_error_class(error: ConnectionLostError) -> type[DialError]:
    """The class of the error of a dial that failed with ``error``."""
    if error.kind == "peer_id_mismatch":
        return PeerIdMismatchError
    if error.kind in ("refused", "version", "closed"):
        return HandshakeRefusedError
    if error.kind in ("handshake_timeout", "idle_timeout"):
        return HandshakeTimeoutError
    return UnreachableError if error.kind == "unreachable" else DialError


def dial_error(error: ConnectionLostError, address: str) -> DialError:
    """Why a dial to ``address`` failed."""
    made = dial_error_class(error)(f"failed to dial {address}: {error}", error.code)
    made.__cause__ = error
    return made


# The class of a joint error, by precedence: an attempt that was answered comes first.
_MOST_TELLING = (HandshakeRefusedError, PeerIdMismatchError, HandshakeTimeoutError, UnreachableError)


D = TypeVar("D", bound=DialError)


def most_telling(causes: Sequence[D]) -> D:
    """The cause whose class the joint error of a dial to several addresses has."""
    return next((each for kind in _MOST_TELLING for each in causes if isinstance(each, kind)), causes[0])


def joint_text(causes: Sequence[DialError]) -> str:
    """What went wrong at each address, in one line."""
    return "; ".join(str(each).removeprefix("failed to dial ") for each in causes)


def joint_dial_error(name: str, causes: Sequence[DialError]) -> DialError:
    """The error of a dial to ``name`` that failed at every address with ``causes``."""
    chosen = most_telling(causes)
    error = type(chosen)(f"failed to dial {name}: {joint_text(causes)}", chosen.error_code)
    error.causes = tuple(causes)
    error.__cause__ = chosen
    return error


def ended_text(peer: object, address: object, error: Exception) -> str:
    """A line for the log: how the connection to ``peer`` at ``address`` ended."""
    # Most texts of the engine begin with "connection" and say who ended it.
    is_told, how = str(error).startswith("connection "), str(error).removeprefix("connection ")
    which = f"connection to {peer} at {address}"
    return f"{which} {how}" if is_told else f"{which} ended: {how}"


def connection_error(error: ConnectionLostError) -> ConnectionClosed:
    """Why a stream cannot be opened or accepted, or why a connection ended."""
    made = ConnectionClosed(str(error), error.code, error.by, error.kind, error.reason)
    made.__cause__ = error
    return made


def stream_error(error: EngineError, stream_id: str) -> StreamReset | StreamLost | StreamClosed:
    """Why a read or a write failed."""
    message = f"stream {stream_id}: {str(error).removeprefix('stream ')}"
    if isinstance(error, StreamResetError | StreamStoppedError):
        return StreamReset(message, stream_id, error.code)
    if isinstance(error, ConnectionLostError):
        return StreamLost(message, stream_id, error.code)
    return StreamClosed(message, stream_id)
