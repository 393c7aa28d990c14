"""The engine's exceptions. They are defined in Python and raised by the engine.

The attribute ``by`` of a lost connection names who caused it: ``"local"`` (this program),
``"peer"`` or ``"network"``. This module does not know py-libp2p: `_error_mapping` translates these
classes into py-libp2p's.
"""

from __future__ import annotations

from typing import Literal

Party = Literal["local", "peer", "network"]
CloseKind = Literal[
    "closed",  # an application closed the connection; `code` is the application's
    "transport",  # a QUIC transport error; `code` is from RFC 9000 section 20.1
    "refused",  # the handshake was refused by either side; `code` is a QUIC crypto error
    "peer_id_mismatch",  # a peer other than the dialed one answered
    "handshake_timeout",
    "idle_timeout",
    "unreachable",  # no answer can come from the address, or no datagram can reach it
    "stateless_reset",  # the peer has lost the connection's state, usually by a restart
    "version",  # no QUIC version in common
    "internal",  # a defect in the engine
    "forked",  # the connection belongs to the parent of this process
]


class EngineError(Exception):
    """Base class of the engine's exceptions."""


class IdentityError(EngineError, ValueError):
    """The private key cannot be parsed or used."""


class ConfigError(EngineError, ValueError):
    """A configuration value is invalid; ``field`` names it."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, field)
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class EndpointClosedError(EngineError):
    """The endpoint or listener was closed by this program."""


class ConnectionLostError(EngineError):
    """The connection is over. It is never reported as the end of a stream.

    ``code`` is the error code if the close carried one, ``reason`` the text that came with it.
    """

    def __init__(self, message: str, by: Party, kind: CloseKind, code: int | None, reason: str) -> None:
        super().__init__(message, by, kind, code, reason)
        self.by = by
        self.kind = kind
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class StreamError(EngineError):
    """One direction of one stream is over; the connection is not."""


class StreamResetError(StreamError):
    """The peer reset its direction of the stream (RESET_STREAM) with ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class StreamStoppedError(StreamError):
    """The peer stopped reading the stream (STOP_SENDING) with ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class StreamClosedError(StreamError):
    """This program already finished, reset or stopped that direction."""
