"""Replaces py-libp2p's own QUIC transport by this one, for programs that must not change.

Names are replaced in the modules where py-libp2p looks them up; existing objects are not changed. A
module that imported the names before keeps the stock classes; a warning names it. Swarms that start
later dial a peer at all its addresses, unless the program declines, and their hosts punch holes, if wanted.
The later streams of all hosts are `HostStream`s, and their swarms' events are those of `_host_events`.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import libp2p
import libp2p.transport.quic.listener
import libp2p.transport.quic.transport
import libp2p.transport.webtransport
import libp2p.transport.webtransport.transport
from libp2p.abc import IHost
from libp2p.network.swarm import Swarm

from libp2p_quic._hole_punching import enable_hole_punching
from libp2p_quic._host_events import repair_events
from libp2p_quic._host_stream import repair_limit, repair_streams
from libp2p_quic._listener import QUICListener
from libp2p_quic._peer_dial import repair_dials
from libp2p_quic._repair import Repair
from libp2p_quic._transport import QUICTransport
from libp2p_quic._webtransport import WebTransportTransport

logger = logging.getLogger("libp2p_quic.transport")

_PLACES: tuple[tuple[ModuleType, str, type], ...] = (
    # new_host and new_swarm look the class up here.
    (libp2p, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICListener", QUICListener),
    (libp2p.transport.quic.listener, "QUICListener", QUICListener),
    # new_host looks it up here.
    (libp2p.transport.webtransport, "WebTransportTransport", WebTransportTransport),
    (libp2p.transport.webtransport.transport, "WebTransportTransport", WebTransportTransport),
)
_STOCK = tuple(getattr(module, name) for module, name, _ in _PLACES)
# What `install` repaired in the streams and swarms of all hosts, until `uninstall`.
_repairs: list[Repair] = []


class StockTransportWarning(UserWarning):
    """A module imported py-libp2p's own QUIC transport by name and continues to use it."""


def install(*, all_addresses: bool = True, hole_punching: bool = False) -> None:
    """Make ``new_host(enable_quic=True, ...)`` and ``enable_webtransport=True`` use this transport.
    Idempotent; the last call counts.

    ``all_addresses`` (default: True) has swarms dial a peer at all its QUIC addresses, raced by RFC 8305,
    and return once it is connected. With False ``host.connect`` is py-libp2p's own: it dials the first
    QUIC address only, and takes at least 250 ms. ``hole_punching`` (default: False, as it
    answers what peers ask for) calls `enable_hole_punching` for each host. Both apply to every swarm with
    a transport of this package that starts later.

    Reads and writes of all hosts' later streams, over this transport and over yamux, no longer wait for a
    pass of trio's scheduler to look at the stream's state, as in py-libp2p 0.8.1: a round trip of a host
    costs nine tenths of the processor time. Nor do later streams of swarms with a transport of this package
    wait for one to count against the limit of streams. Events of all swarms begin tasks only for notifees
    that may wait for each other.

    Call it before any module runs ``from libp2p.transport.quic.transport import QUICTransport``,
    which binds the stock class permanently. A StockTransportWarning names the modules that have
    already done so. Existing hosts keep their transport.
    """
    for module, name, ours in _PLACES:
        setattr(module, name, ours)
    chosen = ((all_addresses, _dial_all_addresses), (hole_punching, _punch_holes))
    hooks = (hook for is_wanted, hook in chosen if is_wanted)
    QUICTransport._swarm_hooks = (_take_places_at_once, *hooks)
    if not _repairs:
        _repairs.extend(filter(None, (repair_streams(QUICTransport), repair_events(QUICTransport))))
        for repair in _repairs:
            repair.tell(logger)
    if held := sorted(_held()):
        warnings.warn(
            f"py-libp2p's own QUIC transport stays in use as {', '.join(held)}, imported before "
            "libp2p_quic.install(): call install() before that import",
            StockTransportWarning,
            stacklevel=2,
        )


def _take_places_at_once(_: QUICTransport, swarm: Swarm) -> None:
    repair = repair_limit(swarm)
    if repair is not None:
        repair.tell(logger)


def _dial_all_addresses(transport: QUICTransport, swarm: Swarm) -> None:
    repair_dials(swarm, transport)


def _punch_holes(_: QUICTransport, swarm: Swarm) -> None:
    # The host gives its swarm a bound method when it is made, before the swarm starts.
    host = getattr(getattr(swarm, "common_stream_handler", None), "__self__", None)
    if isinstance(host, IHost):
        enable_hole_punching(host)


def _held() -> Iterator[str]:
    """Qualified names that still refer to a stock class after `install`."""
    # Copies, as another thread may import a module meanwhile. An entry may have no namespace.
    for module_name, module in list(sys.modules.items()):
        names = list(getattr(module, "__dict__", {}).items())
        yield from (f"{module_name}.{name}" for name, value in names if any(value is each for each in _STOCK))


def uninstall() -> None:
    """Undo `install` for hosts that start later. Those that run keep their transport, and what `install`
    changed in them, but their later streams and events are py-libp2p's own unless a host punches holes.
    Idempotent."""
    for (module, name, _), stock in zip(_PLACES, _STOCK, strict=True):
        setattr(module, name, stock)
    QUICTransport._swarm_hooks = ()
    while _repairs:
        _repairs.pop().undo()
