"""Put this transport in the place of py-libp2p's own, for programs that must not change.

Only names are exchanged, in the modules where py-libp2p looks them up. Objects made before, and
modules that imported the names before, keep what they have; those modules are warned of.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
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


class StockTransportWarning(UserWarning):
    """A module goes on using py-libp2p's own QUIC transport, which it imported by name."""


def install() -> None:
    """From now on ``new_host(enable_quic=True, ...)`` uses this transport. Idempotent.

    Call it before any module runs ``from libp2p.transport.quic.transport import QUICTransport``:
    that binds the name for good. StockTransportWarning names the modules that did so before.
    Hosts that exist keep the transport they have.
    """
    for module, name, ours in _PLACES:
        setattr(module, name, ours)
    if held := sorted(_held()):
        warnings.warn(
            f"py-libp2p's own QUIC transport stays in use as {', '.join(held)}, imported before "
            "libp2p_quic.install(): call install() before that import",
            StockTransportWarning,
            stacklevel=2,
        )


def _held() -> Iterator[str]:
    """Names of modules under which a stock class is held, except where it is defined."""
    # A module may be imported by another thread meanwhile, and may have any kind of namespace.
    for module_name, module in list(sys.modules.items()):
        names = list(getattr(module, "__dict__", {}).items())
        yield from (f"{module_name}.{name}" for name, value in names if any(value is each for each in _STOCK))


def uninstall() -> None:
    """Undo `install`. Hosts that exist keep the transport they have. Idempotent."""
    for (module, name, _), stock in zip(_PLACES, _STOCK, strict=True):
        setattr(module, name, stock)
