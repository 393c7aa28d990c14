"""Dials back for AutoNAT from a fresh port, to exactly the address that was asked about.

py-libp2p 0.8.1 calls `host.connect`, which returns at once for a peer that is connected, as every peer
that asks is: all of them are told that they are public. From the listening port a NAT would let the
dial in as well, since the peer has sent to it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import cache
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, ref

import trio
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.autonat.autonat import AutoNATService
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress
from libp2p_quic._engine_errors import ConnectionLostError, EndpointClosedError
from libp2p_quic._hole_punching._candidates import MOST
from libp2p_quic._repair import ClassPatch, Repair, result_of
from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.hole_punching")

_TryDial = Callable[[Any, ID, "list[bytes]"], Awaitable["bytes | None"]]

# The specification of AutoNAT v1 names 15 s for all addresses. Seconds.
_LIMIT = 15.0
# Requests that are served at once: each takes a socket. A peer has one of them.
_MOST_REQUESTS = 16

# Services are made before or after the repair, so the class is repaired, for these hosts only. A
# transport refers to its host.
_transports: WeakKeyDictionary[IHost, ref[QUICTransport]] = WeakKeyDictionary()
# The peers whose requests are served.
_served: WeakKeyDictionary[IHost, set[ID]] = WeakKeyDictionary()
_stock: _TryDial = AutoNATService._try_dial


def repair_autonat(host: IHost, transport: QUICTransport) -> Repair | None:
    """Dial back by `_try_dial`, unless py-libp2p no longer takes a connected peer for reachable."""
    if _is_mended():
        return None
    _transports[host] = ref(transport)
    end_patch = _patch.apply(host)

    def undo() -> None:
        _transports.pop(host, None)
        end_patch()

    return Repair(
        "AutoNAT dials the address that it was asked about, from a fresh port",
        undo,
        why="py-libp2p 0.8.1 dials no peer that is connected, and tells each that it is public",
    )


async def _try_dial(service: Any, peer_id: ID, addrs: list[bytes]) -> bytes | None:
    known = _transports.get(service.host)
    transport = None if known is None else known()
    if transport is None:
        return await _stock(service, peer_id, addrs)
    served = _served.setdefault(service.host, set())
    if peer_id in served or len(served) >= _MOST_REQUESTS:
        logger.debug("AutoNAT does not dial %s: it serves %d requests", peer_id, len(served))
        return None
    served.add(peer_id)
    try:
        with trio.move_on_after(_LIMIT):
            for raw in addrs[:MOST]:
                if await _is_reachable(service.host, transport, peer_id, Multiaddr(raw)):
                    return raw
    finally:
        served.discard(peer_id)
    return None


_patch = ClassPatch(AutoNATService, "_try_dial", _try_dial)


async def _is_reachable(host: IHost, transport: QUICTransport, peer_id: ID, maddr: Multiaddr) -> bool:
    try:
        address = QUICAddress.parse_literal(maddr)
    except QUICInvalidMultiaddrError:
        return await _is_reachable_otherwise(host, peer_id, maddr)
    if address.is_webtransport:
        return await _is_reachable_otherwise(host, peer_id, maddr)
    try:
        endpoint = transport._open_endpoint()
        attempt = endpoint.engine.connect(address.host, address.port, peer_id.to_bytes(), fresh_port=True)
    except (OSError, ValueError, EndpointClosedError) as error:
        logger.debug("AutoNAT cannot dial %s: %s", maddr, error)
        return False
    endpoint.touch()
    try:
        await endpoint.driver.ready(attempt.connected_nowait, attempt.connected)
    except ConnectionLostError as error:
        logger.debug("AutoNAT: %s is not reachable: %s", maddr, error)
        return False
    finally:
        # The peer is told no more than that it was reached; nothing is added to the swarm.
        endpoint.close_connection(attempt)
    return True


async def _is_reachable_otherwise(host: IHost, peer_id: ID, maddr: Multiaddr) -> bool:
    """Over another transport, whose dials leave from fresh ports anyway."""
    try:
        connection = await host.get_network().dial_addr(maddr, peer_id)
    except SwarmException as error:
        logger.debug("AutoNAT: %s is not reachable: %s", maddr, error)
        return False
    await connection.close()
    return True


@cache
def _is_mended() -> bool:
    return not _believes_an_old_connection()


def _believes_an_old_connection() -> bool:
    """Whether py-libp2p calls an address reachable since a `host.connect` that dialed nothing returned."""
    address = Multiaddr("/ip4/192.0.2.1/udp/4001/quic-v1").to_bytes()

    async def connect(_: object) -> None:
        return None

    service = SimpleNamespace(host=SimpleNamespace(connect=connect))
    peer_id = ID.from_pubkey(create_new_key_pair().public_key)
    running: Callable[[], Any] = lambda: _stock(service, peer_id, [address])  # noqa: E731
    return bool(result_of(running) == address)
