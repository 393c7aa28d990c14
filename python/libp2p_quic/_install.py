"""Replaces py-libp2p's own QUIC transport by this one, for programs that must not change.

Only names are replaced, in the modules where py-libp2p looks them up. Existing objects are not
changed. A module that imported the names before keeps the stock classes; a warning names it.
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
    # new_host and new_swarm look the class up here.
    (libp2p, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICTransport", QUICTransport),
    (libp2p.transport.quic.transport, "QUICListener", QUICListener),
    (libp2p.transport.quic.listener, "QUICListener", QUICListener),
)
_STOCK = tuple(getattr(module, name) for module, name, _ in _PLACES)


class StockTransportWarning(UserWarning):
    """A module imported py-libp2p's own QUIC transport by name and continues to use it."""


def install() -> None:
    """Make ``new_host(enable_quic=True, ...)`` use this transport. Idempotent.

    Call it before any module runs ``from libp2p.transport.quic.transport import QUICTransport``,
    which binds the stock class permanently. A StockTransportWarning names the modules that have
    already done so. Existing hosts keep their transport.
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
    """Qualified names that still refer to a stock class after `install`."""
    # Copies, as another thread may import a module meanwhile. An entry may have no namespace.
    for module_name, module in list(sys.modules.items()):
        names = list(getattr(module, "__dict__", {}).items())
        yield from (f"{module_name}.{name}" for name, value in names if any(value is each for each in _STOCK))


def uninstall() -> None:
    """Undo `install`. Existing hosts keep their transport. Idempotent."""
    for (module, name, _), stock in zip(_PLACES, _STOCK, strict=True):
        setattr(module, name, stock)
