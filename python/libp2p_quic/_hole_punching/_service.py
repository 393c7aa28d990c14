"""Has py-libp2p's own DCUtR service leave upgrades to this package, if a program runs one.

py-libp2p 0.8.1's DCUtRProtocol offers no UDP address that peers observe, so it punches no hole over QUIC. It
takes the protocol's handler when it is run, begins upgrades every 2 s on both sides, and removes the handler
when it ends, also another one's. It may be made before or after `enable_hole_punching`, so the class is
changed, for these hosts only.
"""

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, ref

import trio
from libp2p.abc import IHost, INetStream
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from multiaddr import Multiaddr

from libp2p_quic._hole_punching._upgrade import Upgrades
from libp2p_quic._repair import ClassPatch, Repair, result_of

_RUN, _INITIATE, _HANDLE = "run", "initiate_hole_punch", "_handle_dcutr_stream"
# The task of the service that begins upgrades.
_AUTO_DRIVE = "_auto_drive_loop"

# Where the host of the probe listens, and where its peers observe it.
_LISTENED = Multiaddr("/ip4/10.0.0.2/udp/4001/quic-v1")
_OBSERVED = Multiaddr("/ip4/192.0.2.1/udp/7001/quic-v1")

# The upgrades of a host refer to it.
_upgrades: WeakKeyDictionary[IHost, ref[Upgrades]] = WeakKeyDictionary()
_stock: dict[str, Any] = {name: getattr(DCUtRProtocol, name, None) for name in (_RUN, _INITIATE, _HANDLE)}


def repair_service(upgrades: Upgrades) -> Repair | None:
    """Have the host's service, whenever it is made or run, use ``upgrades``, which have begun.

    A service that offers what peers observe is left alone: it upgrades by `dial_addr_as_responder`.
    """
    if None in _stock.values() or _is_mended():
        return None
    host = upgrades.host
    _upgrades[host] = ref(upgrades)
    ends = [each.apply(host) for each in _patches]
    service: Any = getattr(host, "_dcutr_protocol", None)
    if service is not None and service.event_started.is_set():
        # What it runs is not what the class has now.
        upgrades.spawn("the end of py-libp2p's DCUtR service", partial(_serve_after, service, upgrades))

    def undo() -> None:
        _upgrades.pop(host, None)
        for each in ends:
            each()

    return Repair(
        "py-libp2p's own DCUtR service, if the program runs it, leaves upgrades to this one",
        undo,
        why="that of py-libp2p 0.8.1 offers no UDP address that peers observe, and begins on both sides",
    )


def _upgrades_of(service: Any) -> Upgrades | None:
    known = _upgrades.get(service.host)
    return None if known is None else known()


async def _run(service: Any, **options: Any) -> None:
    try:
        await _stock[_RUN](service, **options)
    finally:
        upgrades = _upgrades_of(service)
        if upgrades is not None:
            upgrades.serve_again()


async def _serve_after(service: Any, upgrades: Upgrades) -> None:
    await service.manager.wait_finished()
    upgrades.serve_again()


async def _initiate(service: Any, peer_id: ID) -> bool:
    upgrades = _upgrades_of(service)
    if upgrades is None:
        return bool(await _stock[_INITIATE](service, peer_id))
    if getattr(trio.lowlevel.current_task().coro, "__name__", "") == _AUTO_DRIVE:
        # It begins on the side that dialed, too, and again after each failure.
        return False
    return await upgrades.upgrade(peer_id)


async def _handle(service: Any, stream: INetStream) -> None:
    upgrades = _upgrades_of(service)
    if upgrades is None:
        await _stock[_HANDLE](service, stream)
    else:
        await upgrades.serve_stream(stream)


@cache
def _is_mended() -> bool:
    offered = result_of(_offered_by_stock)
    return isinstance(offered, list) and _OBSERVED.to_bytes() in offered


async def _offered_by_stock() -> object:
    """The addresses that the service of a host behind a NAT, which listens on UDP only, sends in CONNECT."""
    host: Any = SimpleNamespace(
        get_addrs=lambda: [_LISTENED],
        get_transport_addrs=lambda: [_LISTENED],
        _observed_addr_manager=SimpleNamespace(addrs=lambda *_, **__: [_OBSERVED]),
    )
    return await DCUtRProtocol(host)._get_observed_addrs()


_patches = (
    ClassPatch(DCUtRProtocol, _RUN, _run),
    ClassPatch(DCUtRProtocol, _INITIATE, _initiate),
    ClassPatch(DCUtRProtocol, _HANDLE, _handle),
)
