"""The words for what goes wrong below py-libp2p. Python owns them; the engine raises them.

Each says who did it, in ``by``: ``"local"`` (this program), ``"peer"`` or ``"network"``.
Nothing here knows py-libp2p: the adapter translates these into its exception families.
"""

from __future__ import annotations

from typing import Literal

Party = Literal["local", "peer", "network"]
CloseKind = Literal[
    "closed",  # an application closed the connection; `code` is the application's
    "transport",  # a QUIC transport error; `code` is from RFC 9000 section 20.1
    "refused",  # the handshake was refused by either side; `code` is a QUIC crypto error
    "peer_id_mismatch",  # another peer answered than the one that was dialed
    "handshake_timeout",
    "idle_timeout",
    "unreachable",  # no answer can come from the address, or no datagram can get there
    "stateless_reset",  # the peer lost its state: usually it restarted
    "version",  # no QUIC version in common
    "internal",  # a defect in the engine
    "forked",  # this process is a child of the one that has the connection
]


class EngineError(Exception):
    """Base class of everything the engine reports."""


class IdentityError(EngineError, ValueError):
    """The private key cannot be parsed or used."""


class ConfigError(EngineError, ValueError):
    """A configuration value makes no sense; ``field`` names it."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message, field)
        self.field = field

    def __str__(self) -> str:
        return str(self.args[0])


class EndpointClosedError(EngineError):
    """The endpoint or listener was closed by this program."""


class ConnectionLostError(EngineError):
    """The connection is over. Never a clean end of a stream."""

    def __init__(self, message: str, by: Party, kind: CloseKind, code: int | None, reason: str) -> None:
        super().__init__(message, by, kind, code, reason)
        self.by = by
        self.kind = kind
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


class StreamError(EngineError):
    """One direction of one stream is over; the connection lives on."""


class StreamResetError(StreamError):
    """The peer abandoned its side of the stream (RESET_STREAM) with ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class StreamStoppedError(StreamError):
    """The peer reads no more (STOP_SENDING) and gave ``code``."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class StreamClosedError(StreamError):
    """This program already finished, reset or stopped that direction."""
