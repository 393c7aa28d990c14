"""Substitutes QUIC for TCP in programs and tests whose hosts ask for TCP, and has their hosts punch holes.

It wraps two methods of py-libp2p's swarm and one of its host; the program that makes the hosts is unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import wraps
from typing import Any

from libp2p.host.basic_host import BasicHost
from libp2p.network.swarm import Swarm
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from libp2p_quic import QUICTransport, enable_hole_punching


def put_into_every_swarm(transport: type[Any]) -> None:
    """Replace TCP by ``transport`` in new swarms and in their listening addresses.

    A swarm with QUIC, or without TCP, is unchanged.
    """
    init, listen = Swarm.__init__, Swarm.listen

    @wraps(init)
    def init_with_quic(swarm: Swarm, *args: Any, **kwargs: Any) -> None:
        init(swarm, *args, **kwargs)
        transports = swarm.transport_manager._transports
        if any(type(other).__name__ == "QUICTransport" for other in transports):
            return
        for index, other in enumerate(transports):
            if type(other) is TCP:
                transports[index] = transport(swarm.peerstore.privkey(swarm.self_id))

    @wraps(listen)
    def listen_on_quic(swarm: Swarm, *maddrs: Multiaddr) -> Awaitable[bool]:
        kinds = {type(other) for other in swarm.transport_manager.get_transports()}
        if transport in kinds and TCP not in kinds:
            maddrs = tuple(map(_over_quic, maddrs))
        return listen(swarm, *maddrs)

    Swarm.__init__ = init_with_quic  # type: ignore[assignment, method-assign]
    Swarm.listen = listen_on_quic  # type: ignore[assignment, method-assign]


def punch_holes_in_every_host() -> None:
    """Call `enable_hole_punching` for each host that is made for a swarm that runs already.

    `install` does it when a swarm starts, which has no host then.
    """
    hosts: Any = BasicHost
    init = hosts.__init__

    @wraps(init)
    def init_with_hole_punching(host: BasicHost, *args: Any, **kwargs: Any) -> None:
        init(host, *args, **kwargs)
        network: Any = host.get_network()
        # Some tests have a mock in its place.
        if not issubclass(type(network), Swarm) or not network.event_background_nursery_created.is_set():
            return
        if any(isinstance(each, QUICTransport) for each in network.transport_manager.get_transports()):
            enable_hole_punching(host)

    hosts.__init__ = init_with_hole_punching


def _over_quic(maddr: Multiaddr) -> Multiaddr:
    """The QUIC address with the host and port of a plain TCP one; any other unchanged."""
    names = [protocol.name for protocol in maddr.protocols()]
    if names in (["ip4", "tcp"], ["ip6", "tcp"]):
        host, port = maddr.value_for_protocol(names[0]), maddr.value_for_protocol("tcp")
        return Multiaddr(f"/{names[0]}/{host}/udp/{port}/quic-v1")
    return maddr
