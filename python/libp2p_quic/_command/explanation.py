"""What a failure is, in plain terms: its name, what happened, and what to try next.

The texts of the package's errors say what happened; this module adds what to try.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libp2p_quic._engine_errors import (
    ACCESS_DENIED,
    CERTIFICATE_ALERTS,
    CERTIFICATE_EXPIRED,
    NO_APPLICATION_PROTOCOL,
    NO_SESSION,
    ConnectionLostError,
    alert_of,
    session_refusal,
)
from libp2p_quic._exception_types import (
    ConnectionClosed,
    DialError,
    HandshakeRefusedError,
    InvalidAddressError,
    PeerIdMismatchError,
    ProtocolNotSupportedError,
)
from libp2p_quic._gate import GATED, GATED_BY_GO
from libp2p_quic._webtransport_address import NEEDS_CERTHASH

# RFC 9000 section 20.1, and TLS alerts as QUIC transport errors (RFC 9001 section 4.8).
_CONNECTION_REFUSED = 0x2
_CRYPTO_ERROR = 0x100
# Why the engine refuses the certificate that browsers see: TLS has one alert for both.
_OTHER_CERTIFICATE = "the certificate's hash is none of the dialed address's"
_NOT_VALID_NOW = "the certificate is not valid now"
# Why it refuses a server after TLS: by Noise, and by HTTP/3.
_NOT_CONFIRMED = "does not confirm the certificate hash"
_NO_WEBTRANSPORT = "the server's SETTINGS do not offer WebTransport"
# libp2p's connection error codes.
LIMIT = 0x1001
_RATE_LIMITED, _SUPPLANTED, _GARBAGE_COLLECTED, _SHUTDOWN = 0x1002, 0x1004, 0x1005, 0x1006
_CLOSE_STEPS = {
    0x0: (
        "the peer's program closed it: look into its log. Several libp2ps send code 0x0 for their limits, too"
    ),
    _SUPPLANTED: "the peer has another connection with this peer id: use that one, or another --key",
    _GARBAGE_COLLECTED: "the peer closes connections that it does not need when it has many: connect again",
    _SHUTDOWN: "the peer's program ends: connect again when it runs",
}
_DEFECT = (
    "this is a defect of libp2p-quic: report it, with the lines of its log, at "
    "https://github.com/libp2p/libp2p-quic/issues"
)


@dataclass(frozen=True)
class Explanation:
    """``cause`` is a stable name for scripts, ``text`` what happened, ``next_step`` what to try."""

    cause: str
    text: str
    next_step: str


_TIMEOUTS = (
    (
        "port unreachable",
        "dead_port",
        "no program listens on this UDP port, or a firewall rejects it: check the port, and that the peer "
        "runs and listens with QUIC",
    ),
    (
        # The first datagrams have 1 200 bytes, and are not fragmented (RFC 9000 section 14).
        "(EMSGSIZE)",
        "mtu",
        "this machine or a router cannot send datagrams of 1 200 bytes, which QUIC needs: ip link shows the "
        "MTU of each interface, and that of a VPN should be 1 280 at least",
    ),
    (
        "the system said last",
        "no_route",
        "the network refused datagrams: check this machine's routes (ip route get ADDRESS), and dial an "
        "address of a family that it has",
    ),
    (
        "did not complete the handshake",
        "incomplete_handshake",
        "the peer answers and its large datagrams are lost, or it is overloaded: check that the path "
        "carries UDP datagrams of 1 200 bytes (VPN, MTU), then raise --timeout",
    ),
    (
        "",
        "no_answer",
        "a firewall drops UDP on the way, or the peer is down: check its UDP port (not TCP) from another "
        "network, and its address from its own log",
    ),
)


def of_dial(error: DialError) -> Explanation:
    """Why a dial failed."""
    text = str(error)
    if error.causes and isinstance(error.__cause__, DialError):
        chosen = of_dial(error.__cause__)
        return Explanation(chosen.cause, text, chosen.next_step)
    if isinstance(error, PeerIdMismatchError):
        step = (
            "another peer has this address: get the peer's current address or id. To reach the peer that "
            "answers now, dial without /p2p/… or with its id"
        )
        return Explanation("wrong_peer", text, step)
    lost = error.__cause__
    if not isinstance(lost, ConnectionLostError):
        return _undialed(text)
    if lost.kind == "handshake_timeout":
        cause, step = next((cause, step) for part, cause, step in _TIMEOUTS if part in text)
        return Explanation(cause, text, step)
    if lost.kind == "unreachable":
        return _unreachable(lost, text)
    if lost.kind == "version":
        step = (
            "the peer supports old drafts of QUIC only: update it, or dial its TCP address with another tool"
        )
        return Explanation("version", text, step)
    if isinstance(error, HandshakeRefusedError):
        return _refused(lost, text)
    if lost.kind == "internal":
        return Explanation("internal", text, _DEFECT)
    if lost.by == "local" and lost.reason == _NO_WEBTRANSPORT:
        return _without_webtransport(text)
    return Explanation(lost.kind, text, "dial again; if it persists, look into the peer's log")


def _undialed(text: str) -> Explanation:
    """Why no datagram was sent. The text of a lost connection is no sign: it has the peer's reason."""
    if text.startswith("cannot resolve"):
        return Explanation("name", text, "check the spelling, and the resolver: getent ahosts NAME")
    if "no such interface" in text:
        return Explanation("zone", text, "ip link lists the interfaces of this machine")
    if "port 0 cannot be dialed" in text:
        return Explanation(
            "port_0", text, "give the port that the listener has chosen: it prints its address"
        )
    if NEEDS_CERTHASH in text:
        step = "take the peer's whole address, with /certhash, or the one that ends with /quic-v1"
        return Explanation("certhash", text, step)
    return Explanation("system", text, "check the limits of this machine: open files, memory")


def _unreachable(lost: ConnectionLostError, text: str) -> Explanation:
    if lost.by != "local" or "(E" in lost.reason or "has no route" in lost.reason:
        step = "check this machine's routes and firewall: ip route get ADDRESS, nft list ruleset"
        return Explanation("no_route", text, step)
    return Explanation("not_dialable", text, "give the address of one host, as the peer prints it")


def _refused(lost: ConnectionLostError, text: str) -> Explanation:
    # The codes of applications mean nothing in TLS.
    if lost.kind == "closed":
        return of_close_code(lost.code, text)
    if lost.by == "peer":
        return _refused_by_peer(lost.code, lost.reason, text)
    # A certificate that is not valid yet has the same alert.
    if lost.code == _CRYPTO_ERROR + CERTIFICATE_EXPIRED or lost.reason.startswith(_NOT_VALID_NOW):
        return _wrong_clock(text)
    if lost.code == _CRYPTO_ERROR + NO_APPLICATION_PROTOCOL:
        return _other_protocol(text)
    if lost.reason.startswith(_OTHER_CERTIFICATE) or _NOT_CONFIRMED in lost.reason:
        step = (
            "take the peer's current address, as the hashes in it change within weeks, or dial the one that "
            "ends with /quic-v1"
        )
        return Explanation("certhash", text, step)
    step = "the server proves no libp2p identity: it is no libp2p node, or a defective one. Check the port"
    return Explanation("certificate", text, step)


def _refused_by_peer(code: int | None, reason: str, text: str) -> Explanation:
    """Why the peer refused the handshake, or the session of WebTransport after it."""
    if code == _CONNECTION_REFUSED:
        step = "wait and dial again; the listener's log says which limit, or that it denies this address"
        return Explanation("limit", text, step)
    if reason.startswith(NO_SESSION):
        return _no_session(code, reason, text)
    alert = alert_of(code, reason)
    if alert == CERTIFICATE_EXPIRED:
        return _wrong_clock(text)
    # Some servers have a general alert for it, and say so in the reason.
    if alert == NO_APPLICATION_PROTOCOL or "ALPN" in reason:
        return _other_protocol(text)
    if alert == ACCESS_DENIED:
        return of_close_code(GATED, text)
    if alert in CERTIFICATE_ALERTS:
        step = (
            "the peer does not accept our certificate: try without --key, since every libp2p accepts Ed25519 "
            "keys"
        )
        return Explanation("refused_certificate", text, step)
    step = "the peer refused the TLS handshake, and not our certificate: check the port, and the peer's log"
    return Explanation("refused_handshake", text, step)


def _wrong_clock(text: str) -> Explanation:
    step = (
        "a clock is wrong, this machine's or the peer's: compare both with the true time (date -u), and "
        "set the wrong one"
    )
    return Explanation("clock", text, step)


def _other_protocol(text: str) -> Explanation:
    if "/webtransport" in text.partition(": ")[0]:
        return _without_webtransport(text)
    step = "a QUIC server of another protocol listens there, as HTTP/3: check the port"
    return Explanation("not_libp2p", text, step)


def _without_webtransport(text: str) -> Explanation:
    step = "the server does not serve WebTransport: dial its address that ends with /quic-v1"
    return Explanation("no_webtransport", text, step)


def _no_session(code: int | None, reason: str, text: str) -> Explanation:
    refused_by = session_refusal(code, reason)
    if refused_by is None:
        return _without_webtransport(text)
    return of_close_code(GATED if refused_by == "gated" else LIMIT, text)


def of_close(error: ConnectionClosed) -> Explanation:
    """Why a connection that was made is over."""
    text = str(error)
    if error.kind == "closed" and error.by == "peer":
        return of_close_code(error.error_code, text)
    # The dialer completes the handshake before the listener has seen its certificate (RFC 8446 section 2).
    if error.kind == "refused" and error.by == "peer":
        return _refused_by_peer(error.error_code, error.reason, text)
    steps = {
        "internal": _DEFECT,
        "idle_timeout": "the peer or the network is down: connect again",
        "stateless_reset": "the peer has restarted: connect again",
    }
    step = steps.get(error.kind, "connect again; if it persists, look into the peer's log")
    return Explanation(error.kind, text, step)


def of_close_code(code: int | None, text: str) -> Explanation:
    """Why the peer's program closed a connection."""
    if code in (GATED, GATED_BY_GO):
        return Explanation(
            "gated", text, "the peer admits certain peers only: ask its operator to admit your peer id"
        )
    if code in (LIMIT, _RATE_LIMITED):
        return Explanation(
            "limit", text, "the peer has too many connections: wait and dial again, or ask its operator"
        )
    step = "the peer's program closed it: look into its log"
    return Explanation("closed", text, step if code is None else _CLOSE_STEPS.get(code, step))


def of_stream(error: Exception) -> Explanation:
    """Why an operation failed on a connection that is still open."""
    if isinstance(error, ProtocolNotSupportedError):
        step = "libp2p-quic dial ADDR lists the protocols that the peer serves"
        return Explanation("protocol", str(error), step)
    # Of asyncio's IncompleteReadError the text has only numbers of bytes.
    text = f"the peer ended the stream too early: {error}" if isinstance(error, EOFError) else str(error)
    return Explanation("stream", text, "try again; if it persists, look into the peer's log")


def of_address(text: str, error: InvalidAddressError) -> Explanation:
    """What is wrong with a text that should be an address, and what it should be."""
    return Explanation("address", str(error), _repaired(text))


def _repaired(text: str) -> str:
    if "/dnsaddr/" in text:
        name = text.partition("/dnsaddr/")[2].partition("/")[0]
        return f"dig +short TXT _dnsaddr.{name} lists its addresses: dial one with /quic-v1"
    if "/p2p-circuit" in text:
        return (
            "this is an address behind a relay, and this command dials directly: use the peer's own address"
        )
    if "/tcp/" in text:
        return (
            "this is a TCP address, and this command speaks QUIC: use the peer's address with /udp/…/quic-v1"
        )
    if "/webrtc-direct" in text:
        return "this command does not speak webrtc-direct: use the peer's address that ends with /quic-v1"
    if re.fullmatch(r"/(ip4|ip6|dns[46]?)/[^/]+/udp/\d+(/p2p/\w+)?", text):
        whole = re.sub(r"(/udp/[0-9]+)", r"\1/quic-v1", text)
        return f"add /quic-v1 after the port: {whole}"
    if re.fullmatch(r"(/p2p/)?(12D3KooW|16Uiu2|Qm|ba|k5)\w+", text):
        return "this is a peer id without an address: put /ip4/…/udp/…/quic-v1 before /p2p/ and the id"
    if named := re.fullmatch(r"(?:\w+://)?\[?([\w.:-]+?)\]?:(\d+)/?", text):
        host, port = named.groups()
        kind = "ip6" if ":" in host else "ip4" if re.fullmatch(r"[\d.]+", host) else "dns"
        return f"write it as a multiaddr: /{kind}/{host}/udp/{port}/quic-v1"
    return (
        "an address is /ip4/192.0.2.1/udp/4001/quic-v1, or with /ip6/… or /dns/…, and may end with /p2p/PEER"
    )
