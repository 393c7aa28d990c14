"""Lets a relayed connection that TLS secures know its addresses.

py-libp2p 0.8.1 forgets the raw connection under its TLS, so that asking for addresses raises
AttributeError. go-libp2p prefers TLS to Noise: its relayed connections then pass for direct ones.
"""

from __future__ import annotations

import ssl
from functools import cache
from types import SimpleNamespace
from typing import Any

from libp2p.abc import IHost
from libp2p.security.tls.io import TLSReadWriter

from libp2p_quic._repair import ClassPatch, Repair


def repair_tls(host: IHost) -> Repair | None:
    """Give the class the attribute ``conn`` that its methods read, unless it has it.

    The repair ends with the last host that wanted it.
    """
    if _is_mended():
        return None
    return Repair(
        "connections that TLS secures know their addresses, so that relayed ones are told apart",
        _patch.apply(host),
        why="py-libp2p 0.8.1 forgets the raw connection under its TLS",
    )


def _raw_connection(secured: Any) -> Any:
    return getattr(secured.stream_writer, "raw_connection", None)


_patch = ClassPatch(TLSReadWriter, "conn", property(_raw_connection))


@cache
def _is_mended() -> bool:
    return _knows_its_connection()


def _knows_its_connection() -> bool:
    """Whether a connection that py-libp2p secures by TLS knows its addresses."""
    addresses = ["/p2p-circuit"]
    raw: Any = SimpleNamespace(get_transport_addresses=lambda: addresses)
    secured = TLSReadWriter(raw, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), b"")
    try:
        return bool(secured.get_transport_addresses() == addresses)
    except AttributeError:
        return False
