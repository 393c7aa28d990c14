"""Put this transport in the place of py-libp2p's own, for programs that must not change.

Only names are exchanged, in the modules where py-libp2p looks them up. Objects made
before, and modules that imported the names before, keep what they have.
"""

from __future__ import annotations

from types import ModuleType

import libp2p
import libp2p.transport.quic.listener
import libp2p.transport.quic.transport

from libp2p_quic._listener import QUICListener
from libp2p_quic._transport import QUICTransport

_PLACES: tuple[tuple[ModuleType, str, type], ...] = (
    # Where new_host and new_swarm look.
    (libp2p, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICListener", QUICListener),
    (libp2p.transport.quic.listener, "QUICListener", QUICListener),
)
_STOCK = tuple(getattr(module, name) for module, name, _ in _PLACES)


def install() -> None:
    """From now on ``new_host(enable_quic=True, ...)`` uses this transport. Idempotent.

    Call it before ``from libp2p.transport.quic.transport import QUICTransport`` is run
    anywhere: that binds the name for good.
    """
    for module, name, ours in _PLACES:
        setattr(module, name, ours)


def uninstall() -> None:
    """Undo `install`. Hosts that exist keep the transport they have. Idempotent."""
    for (module, name, _), stock in zip(_PLACES, _STOCK, strict=True):
        setattr(module, name, stock)
