"""Answers identify with the address of the very connection that the request came on.

py-libp2p 0.8.1 calls every observed address TCP, and tells a peer that has any relayed connection its
circuit address on all of them. So no peer learns its UDP address, and a host with a TCP listener
learns a TCP address that does not exist.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, cast

from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify import identify
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.utils import varint
from multiaddr import Multiaddr

from libp2p_quic._addr import to_multiaddr
from libp2p_quic._callback import call_foreign, outcome_of
from libp2p_quic._connection import QUICConnection
from libp2p_quic._driver import send_gathered
from libp2p_quic._hole_punching._acceptance import Accepting
from libp2p_quic._hole_punching._candidates import may_have_factory
from libp2p_quic._repair import Repair, addresses_of, is_circuit, result_of, set_handler

logger = logging.getLogger("libp2p_quic.hole_punching")

_PROBED = Multiaddr("/ip4/192.0.2.1/udp/4001/quic-v1")


def repair_identify(host: IHost) -> Repair | None:
    """Set a handler that reports UDP addresses, unless py-libp2p's own does."""
    if _is_mended():
        return None

    answers = _Answers(host)

    async def serve(stream: INetStream, acceptance: bytes) -> None:
        # It calls py-libp2p, whose exceptions in a handler would end the swarm.
        await call_foreign("identify", partial(_answer, host, answers, stream, acceptance))

    return Repair(
        "identify reports observed UDP addresses, each of the connection that was asked on",
        set_handler(host, identify.ID, Accepting(identify.ID, serve)),
        why="py-libp2p 0.8.1 calls them TCP, and tells a relayed peer its circuit address on each connection",
    )


def observed_address(stream: INetStream) -> Multiaddr | None:
    """The peer's address on the connection of ``stream``."""
    connection = stream.muxed_conn
    if isinstance(connection, QUICConnection):
        # The current address: a peer may have migrated.
        return to_multiaddr(*connection.get_remote_address())
    for address in addresses_of(connection):
        if is_circuit(address):
            return address
    remote = stream.get_remote_address()
    if remote is None:
        return None
    ip = to_multiaddr(remote[0], 0).items()[0][1]
    return Multiaddr(f"/ip{6 if ':' in str(ip) else 4}/{ip}/tcp/{remote[1]}")


class _Answers:
    """The answers of one host, which differ in the observed address only.

    For each, py-libp2p makes the host's addresses twice, and parses those of the signed record to compare
    them. go-libp2p waits for the answer over a relayed connection before it begins the upgrade.
    """

    def __init__(self, host: IHost) -> None:
        self._host = host
        self._built = Identify()
        self._built_of: object = None

    def answer(self, observed: Multiaddr | None) -> Identify:
        """The answer to a peer that is observed at this address."""
        if self._built_of != self._inputs():
            # By py-libp2p: everything in it but the observed address is right.
            self._built = identify._mk_identify_protobuf(self._host, None)
            # After that, as it may have signed a new record.
            self._built_of = self._inputs()
        answer = Identify()
        answer.CopyFrom(self._built)
        answer.observed_addr = b"" if observed is None else observed.to_bytes()
        return answer

    def _inputs(self) -> object:
        """What py-libp2p builds an answer of, less the host's key."""
        host: Any = self._host
        addresses: list[Multiaddr] = host.get_transport_addrs()
        is_stock = getattr(host.get_addrs, "__func__", None) is BasicHost.get_addrs
        if not is_stock or may_have_factory(host):
            addresses = host.get_addrs() or addresses
        elif host._observed_addr_manager is not None:
            # What `get_addrs` makes its own of, which takes several times as long.
            addresses = [*addresses, *host._observed_addr_manager.addrs()]
        return (
            [each.to_bytes() for each in addresses],
            list(host.get_mux().get_protocols()),
            host.get_peerstore().get_local_record(),
        )


async def _answer(host: IHost, answers: _Answers, stream: INetStream, acceptance: bytes) -> None:
    built = await outcome_of(lambda: answers.answer(observed_address(stream)))
    if built.error is not None:
        logger.debug("identify reports no observed address: %r", built.error)
        # As py-libp2p answers if it does not know the address.
        answer = identify._mk_identify_protobuf(host, None)
    else:
        answer = cast(Identify, built.value)
    message = answer.SerializeToString()
    try:
        await stream.write(acceptance + varint.encode_uvarint(len(message)) + message)
        send_gathered()
        await stream.close()
    except (StreamError, MuxedStreamError):
        await stream.reset()


@cache
def _is_mended() -> bool:
    return bool(_reported_by_stock() == _PROBED)


def _reported_by_stock() -> Multiaddr | None:
    """What py-libp2p's handler reports to a peer with one QUIC connection and one relayed connection."""
    key_pair = create_new_key_pair()
    peer = ID.from_pubkey(key_pair.public_key)
    circuit = Multiaddr(f"/p2p/{peer}/p2p-circuit/p2p/{peer}")
    relayed = SimpleNamespace(get_transport_addresses=lambda: [circuit])
    connection = SimpleNamespace(
        peer_id=peer,
        get_transport_addresses=lambda: [_PROBED],
        get_remote_address=lambda: ("192.0.2.1", 4001),
    )
    direct = SimpleNamespace(muxed_conn=connection, get_transport_addresses=lambda: [_PROBED])
    network = SimpleNamespace(connections={peer: [relayed, direct]})
    peerstore = PeerStore()
    host: Any = SimpleNamespace(
        get_id=lambda: peer,
        get_public_key=lambda: key_pair.public_key,
        get_private_key=lambda: key_pair.private_key,
        get_addrs=lambda: [_PROBED],
        get_transport_addrs=lambda: [_PROBED],
        get_mux=lambda: SimpleNamespace(get_protocols=list),
        get_network=lambda: network,
        get_peerstore=lambda: peerstore,
    )
    written = bytearray()

    async def write(data: bytes) -> None:
        written.extend(data)

    async def close() -> None:
        return None

    stream: Any = SimpleNamespace(
        muxed_conn=connection, get_remote_address=connection.get_remote_address, write=write, close=close
    )

    async def ask() -> Identify:
        await identify.identify_handler_for(host)(stream)
        return identify.parse_identify_response(bytes(written))

    answer = result_of(ask)
    if not isinstance(answer, Identify) or not answer.observed_addr:
        return None
    return Multiaddr(answer.observed_addr)
