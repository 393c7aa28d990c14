"""Direct connections between peers behind NATs: libp2p's DCUtR over QUIC, and the repairs of py-libp2p
that it needs. This module enables and undoes them as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import cast

from libp2p.abc import IHost

from libp2p_quic._hole_punching._acceptance import accept_at_once
from libp2p_quic._hole_punching._announce import AddressAnnouncer
from libp2p_quic._hole_punching._autonat import repair_autonat
from libp2p_quic._hole_punching._identify import repair_identify
from libp2p_quic._hole_punching._identify_delay import delay_identify
from libp2p_quic._hole_punching._observers import Observers
from libp2p_quic._hole_punching._precedence import Precedence
from libp2p_quic._hole_punching._responder import repair_responder
from libp2p_quic._hole_punching._service import repair_service
from libp2p_quic._hole_punching._tls import repair_tls
from libp2p_quic._hole_punching._upgrade import Upgrades
from libp2p_quic._hole_punching._yamux import repair_yamux
from libp2p_quic._hole_punching._yamux_locks import repair_yamux_locks
from libp2p_quic._host_events import repair_events
from libp2p_quic._host_stream import repair_limit, repair_streams
from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.hole_punching")

# The host keeps its own: a table of hosts here would keep them alive.
_ATTRIBUTE = "_libp2p_quic_hole_punching"


class HolePunching:
    """What `enable_hole_punching` changed in a host."""

    repairs: list[str]
    """What was changed in py-libp2p, and why: a text for each defect found, and for each addition."""

    def __init__(self, host: IHost, transport: QUICTransport) -> None:
        observers = Observers(host)
        precedence = Precedence()
        upgrades = Upgrades(host, transport, precedence, observers.renew_if_due)
        renew = partial(upgrades.spawn, "asking for observed addresses", observers.renew)
        self.repairs = []
        self._host = host
        self._undo: list[Callable[[], None]] = []
        for repair in (
            repair_tls(host),
            repair_streams(host),
            repair_limit(host.get_network()),
            repair_events(host),
            repair_yamux(host),
            repair_yamux_locks(host),
            repair_identify(host),
            delay_identify(upgrades),
            repair_autonat(host, transport),
            repair_responder(upgrades),
            upgrades.begin(),
            repair_service(upgrades),
            accept_at_once(host, precedence),
            observers.begin(upgrades.spawn),
            AddressAnnouncer(host, transport, renew).begin(),
        ):
            if repair is not None:
                self.repairs.append(repair.text)
                self._undo.append(repair.undo)
                repair.tell(logger)

    def undo(self) -> None:
        """Restore py-libp2p's own behavior. Connections stay open. Idempotent."""
        undo, self._undo = self._undo, []
        for each in reversed(undo):
            each()
        if getattr(self._host, _ATTRIBUTE, None) is self:
            delattr(self._host, _ATTRIBUTE)


def enable_hole_punching(host: IHost) -> HolePunching:
    """Connect ``host`` directly to peers that first reach it, or that it reaches, through a relay.

    Call it once the host is made. py-libp2p's own DCUtRProtocol and AutoNATService may be made before or
    after; the former then leaves upgrades to this package. The host needs a `QUICTransport` of this
    package and must listen. A relay of py-libp2p needs the call too, as it reports the addresses that it
    observes. For a host that holds a reservation, each peer that comes in through the relay is upgraded
    within some round trips (libp2p's DCUtR specification); a connection that cannot be upgraded stays
    relayed, and the log says so. When an upgrade begins, other streams that the peer opens on the relayed
    connection wait for at most 10 ms. That connection is closed a minute after the upgrade. When the
    machine's addresses change, connected peers are told the host's new ones within a second. Peers are
    asked every five minutes at which address they observe the host, and when an upgrade fails: NATs may
    change it.

    The returned object undoes it. Calling it again returns the same object. The logger
    "libp2p_quic.hole_punching" says what was repaired in py-libp2p; what py-libp2p has mended is left
    alone. Raises ValueError if the host has no QUIC transport of this package.
    """
    known = cast("HolePunching | None", getattr(host, _ATTRIBUTE, None))
    if known is not None:
        return known
    enabled = HolePunching(host, _transport_of(host))
    setattr(host, _ATTRIBUTE, enabled)
    return enabled


def _transport_of(host: IHost) -> QUICTransport:
    manager = getattr(host.get_network(), "transport_manager", None)
    for transport in manager.get_transports() if manager is not None else ():
        if isinstance(transport, QUICTransport):
            return transport
    raise ValueError(
        "the host has no QUIC transport of libp2p_quic: "
        "new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])"
    )


__all__ = ["HolePunching", "enable_hole_punching"]
