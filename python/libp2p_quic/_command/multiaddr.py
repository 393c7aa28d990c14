"""Multiaddrs in the binary form of libp2p's messages, as text; and a QUIC address in that form."""

from __future__ import annotations

from ipaddress import ip_address

from libp2p_quic._exception_types import InvalidPeerIdError
from libp2p_quic._peer_id import PeerId
from libp2p_quic._protobuf import read_varint, varint
from libp2p_quic._webtransport_address import certificate_hash_text
from libp2p_quic.asyncio.address import Address

# The codes of multiformats' table: name, and the size of the value in bytes; None if its length comes first.
_PROTOCOLS: dict[int, tuple[str, int | None]] = {
    4: ("ip4", 4),
    6: ("tcp", 2),
    41: ("ip6", 16),
    42: ("ip6zone", None),
    53: ("dns", None),
    54: ("dns4", None),
    55: ("dns6", None),
    56: ("dnsaddr", None),
    273: ("udp", 2),
    280: ("webrtc-direct", 0),
    281: ("webrtc", 0),
    290: ("p2p-circuit", 0),
    421: ("p2p", None),
    448: ("tls", 0),
    449: ("sni", None),
    454: ("noise", 0),
    460: ("quic", 0),
    461: ("quic-v1", 0),
    465: ("webtransport", 0),
    466: ("certhash", None),
    477: ("ws", 0),
    478: ("wss", 0),
    480: ("http", 0),
}
_CODES = {name: code for code, (name, _) in _PROTOCOLS.items()}


def text_of(data: bytes) -> str:
    """The text of a binary multiaddr; in hex after a protocol that is not known. Raises ValueError."""
    text, position = "", 0
    while position < len(data):
        start = position
        code, position = read_varint(data, position)
        if code not in _PROTOCOLS:
            return f"{text}/…{data[start:].hex()}"
        name, size = _PROTOCOLS[code]
        if size is None:
            size, position = read_varint(data, position)
        if size > len(data) - position:
            raise ValueError(f"the value of /{name} is longer than the address")
        value = data[position : position + size]
        position += size
        text += f"/{name}" + (f"/{_value(name, value)}" if size else "")
    return text


def bytes_of(address: Address) -> bytes:
    """The binary form of an address with an IP literal, without its peer id."""
    ip = ip_address(address.host)
    port = address.port.to_bytes(2, "big")
    parts = [(_CODES[f"ip{ip.version}"], ip.packed), (_CODES["udp"], port)]
    parts += [(_CODES[name], b"") for name in address.protocol.split("/")]
    parts += [(_CODES["certhash"], varint(len(each)) + each) for each in address.certificate_hashes]
    return b"".join(varint(code) + value for code, value in parts)


def _value(name: str, value: bytes) -> str:
    if name in ("ip4", "ip6"):
        return str(ip_address(value))
    if name in ("tcp", "udp"):
        return str(int.from_bytes(value, "big"))
    if name == "p2p":
        try:
            return str(PeerId(value))
        except InvalidPeerIdError:
            return value.hex()
    if name == "certhash":
        return certificate_hash_text(value)
    text = value.decode(errors="replace")
    return text if text.isprintable() else repr(text)
