"""What a failure is, in plain terms: its name, what happened, and what to try next.

The texts of the package's errors say what happened; this module adds what to try.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from libp2p_quic._engine_errors import ConnectionLostError
from libp2p_quic._exception_types import (
    ConnectionClosed,
    DialError,
    HandshakeRefusedError,
    InvalidAddressError,
    PeerIdMismatchError,
    ProtocolNotSupportedError,
)
from libp2p_quic._webtransport_address import NEEDS_CERTHASH

# TLS alerts as QUIC transport errors (RFC 9001 section 4.8), and RFC 9000 section 20.1.
_NO_APPLICATION_PROTOCOL = 0x178
_CERTIFICATE_EXPIRED = 0x12D
_CONNECTION_REFUSED = 0x2
# Why the engine refuses the certificate that browsers see: TLS has one alert for both.
_OTHER_CERTIFICATE = "the certificate's hash is none of the dialed address's"
_NOT_VALID_NOW = "the certificate is not valid now"
# libp2p's connection error codes.
LIMIT, GATED = 0x1001, 0x1007


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
    if lost.code == _CONNECTION_REFUSED:
        step = "wait and dial again; the listener's log says which limit, or that it denies this address"
        return Explanation("limit", text, step)
    is_ours = lost.by == "local"
    # A certificate that is not valid yet has the same alert.
    if lost.code == _CERTIFICATE_EXPIRED or (is_ours and lost.reason.startswith(_NOT_VALID_NOW)):
        step = (
            "a clock is wrong, this machine's or the peer's: compare both with the true time (date -u), and "
            "set the wrong one"
        )
        return Explanation("clock", text, step)
    # Some servers have a general alert for it, and say so in the reason.
    if lost.code == _NO_APPLICATION_PROTOCOL or (lost.by == "peer" and "ALPN" in lost.reason):
        if "/webtransport" in text.partition(": ")[0]:
            step = "the server does not serve WebTransport: dial its address that ends with /quic-v1"
            return Explanation("no_webtransport", text, step)
        step = "a QUIC server of another protocol listens there, as HTTP/3: check the port"
        return Explanation("not_libp2p", text, step)
    if is_ours and lost.reason.startswith(_OTHER_CERTIFICATE):
        step = (
            "take the peer's current address, as the hashes in it change within weeks, or dial the one that "
            "ends with /quic-v1"
        )
        return Explanation("certhash", text, step)
    if is_ours:
        step = (
            "the server proves no libp2p identity: it is no libp2p node, or a defective one. Check the port"
        )
        return Explanation("certificate", text, step)
    if lost.kind == "closed":
        return of_close_code(lost.code, text)
    step = (
        "the peer does not accept our certificate: try without --key, since every libp2p accepts Ed25519 keys"
    )
    return Explanation("refused_certificate", text, step)


def of_close(error: ConnectionClosed) -> Explanation:
    """Why a connection that was made is over."""
    text = str(error)
    if error.kind == "closed" and error.by == "peer":
        return of_close_code(error.error_code, text)
    steps = {
        "idle_timeout": "the peer or the network is down: connect again",
        "stateless_reset": "the peer has restarted: connect again",
    }
    step = steps.get(error.kind, "connect again; if it persists, look into the peer's log")
    return Explanation(error.kind, text, step)


def of_close_code(code: int | None, text: str) -> Explanation:
    """Why the peer's program closed a connection."""
    if code == GATED:
        return Explanation(
            "gated", text, "the peer admits certain peers only: ask its operator to admit your peer id"
        )
    if code == LIMIT:
        return Explanation(
            "limit", text, "the peer has too many connections: wait and dial again, or ask its operator"
        )
    step = "the peer's program closed it: look into its log"
    if code == 0:
        step += ". Several libp2ps send code 0x0 for their limits, too"
    return Explanation("closed", text, step)


def of_stream(error: Exception) -> Explanation:
    """Why an operation failed on a connection that is still open."""
    if isinstance(error, ProtocolNotSupportedError):
        step = "libp2p-quic dial ADDR lists the protocols that the peer serves"
        return Explanation("protocol", str(error), step)
    return Explanation("stream", str(error), "try again; if it persists, look into the peer's log")


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
