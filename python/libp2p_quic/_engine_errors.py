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

# A transport error code of this range carries a TLS alert in its low byte (RFC 9001 section 4.8).
_CRYPTO_ERRORS = range(0x100, 0x200)
# RFC 8446 appendix B.2, and RFC 7301 section 3.2 for the last one. Peers seldom send the names.
_ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
# RFC 8446 section 6.2. rustls sends decrypt_error for a wrong signature in a certificate, too.
CERTIFICATE_ALERTS = frozenset({42, 43, 44, 45, 46, 48, 51, 116})
CERTIFICATE_EXPIRED, ACCESS_DENIED, NO_APPLICATION_PROTOCOL = 45, 49, 120
# How the engine's reasons begin if the peer gives no session of WebTransport. Their codes are HTTP/3's.
NO_SESSION = ("no WebTransport session", "it takes no more WebTransport sessions")
# The statuses with which go-libp2p's gate and limits refuse a session, and RFC 6585's for limits; then the
# code of RFC 9114 section 8.1 with which this package's listener refuses a second one.
_FORBIDDEN, _TOO_MANY, _UNAVAILABLE = "status 403", "status 429", "status 503"
_REQUEST_REJECTED = 0x10B


def alert_of(code: int | None, reason: str) -> int | None:
    """The TLS alert with which the peer refused a handshake, from the ``code`` and ``reason`` of its close;
    None if the code is another one."""
    if code is None or code not in _CRYPTO_ERRORS or reason.startswith(NO_SESSION):
        return None
    return code & 0xFF


def session_refusal(code: int | None, reason: str) -> Literal["gated", "limit"] | None:
    """Whether a gate or a limit of the peer refused a session of WebTransport, from the ``code`` and
    ``reason`` of the refusal; None if neither did."""
    if not reason.startswith(NO_SESSION):
        return None
    if reason.endswith(_FORBIDDEN):
        return "gated"
    is_limit = reason.endswith((_TOO_MANY, _UNAVAILABLE)) or code == _REQUEST_REJECTED
    return "limit" if is_limit or not reason.startswith(NO_SESSION[0]) else None


def _named(alert: int) -> str:
    return f"TLS alert {_ALERTS.get(alert, alert)}"


def _refusal(alert: int) -> str:
    """What the peer refused with ``alert``, and what to check. The peer's own reason seldom says it: rustls
    tells us of an "invalid peer certificate", which is ours."""
    name = _named(alert)
    if alert == CERTIFICATE_EXPIRED:
        return f"our certificate is not valid at the time of the peer's clock ({name}): check both clocks"
    if alert in CERTIFICATE_ALERTS:
        return f"the peer does not accept our certificate ({name}): check the type of the host key"
    if alert == ACCESS_DENIED:
        return f"the peer does not admit our host key ({name}): ask its operator"
    if alert == NO_APPLICATION_PROTOCOL:
        return f"the peer does not serve the dialed protocol there ({name}): check the address"
    return f"the peer ended the TLS handshake ({name}): check its log"


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

    ``code`` is the error code if the close carried one, ``reason`` the text that came with it. If the peer
    refused the handshake with a TLS alert, the text also says what the peer refused and what to check; if it
    ended an established connection with one, the text names the alert.
    """

    def __init__(self, message: str, by: Party, kind: CloseKind, code: int | None, reason: str) -> None:
        super().__init__(message, by, kind, code, reason)
        self.by = by
        self.kind = kind
        self.code = code
        self.reason = reason

    @property
    def alert(self) -> int | None:
        """The TLS alert with which the peer refused the handshake; None if it did not, or in another way."""
        if self.by != "peer" or self.kind != "refused":
            return None
        return alert_of(self.code, self.reason)

    def __str__(self) -> str:
        told, alert = str(self.args[0]), self.alert
        if alert is not None:
            return f"{told}; {_refusal(alert)}"
        late = alert_of(self.code, self.reason) if self.by == "peer" and self.kind == "transport" else None
        return told if late is None else f"{told}; {_named(late)}"


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
