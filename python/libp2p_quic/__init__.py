"""libp2p's QUIC with a Rust engine: for py-libp2p here, for asyncio in `libp2p_quic.asyncio`.

QUIC runs on a thread of its own. A host of py-libp2p takes this transport::

    import trio
    from libp2p import new_host
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p_quic import QUICTransport
    from multiaddr import Multiaddr

    async def main():
        key_pair = create_new_key_pair()
        host = new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])
        async with host.run(listen_addrs=[Multiaddr("/ip4/0.0.0.0/udp/4001/quic-v1")]):
            print(host.get_addrs())

    trio.run(main)

The host's own methods, such as ``connect``, ``new_stream`` and ``set_stream_handler``, then use QUIC
for /quic-v1 addresses. In a program that cannot be changed, `install` replaces
py-libp2p's own QUIC transport before it makes its hosts.

What there is:

- `QUICTransport`: dials, makes listeners, denies addresses. One for each host.
- `WebTransportTransport`: WebTransport alone, for hosts without QUIC. `QUICTransport` serves it, too, at
  addresses that end in /quic-v1/webtransport.
- `QUICTransportConfig`: timeouts, limits and gates. Every field has a default for a public node.
- `QUICListener`, `QUICConnection`, `QUICStream`: what a transport makes. Hosts use them for you.
- `explain` and `causes`: find this package's errors inside the exceptions of py-libp2p and of time limits.
- `QUICTransport.last_failure`: why a dial failed that the program's own time limit canceled.
- `libp2p_quic.exceptions`: every exception, also exported here. A dial raises `DialError`, a listen
  `ListenError`, a wrong key `HostKeyError`, a wrong setting `InvalidConfigError`. A connection that
  is over raises `ConnectionClosed`; a stream raises `StreamEOF`, `StreamReset`, `StreamLost` or
  `StreamClosed`.
- `install` and `uninstall`: replace py-libp2p's own QUIC transport, and undo it.
- `enable_hole_punching`: connects a host directly to peers behind NATs that it meets through a relay.

- `Identity` and `PeerId`: host keys and peer ids, also without py-libp2p.
- `ConnectionStatistics`, `EndpointStatistics`, `ProcessStatistics`: what ``statistics()`` of a connection,
  ``statistics()`` of a transport and `process_statistics` return. `libp2p_quic.metrics` gives them to
  Prometheus.
- `TLSParameters`: what ``tls`` of a connection tells of its cipher suite and key exchange.

All but `Identity`, `PeerId`, `explain`, `causes`, `TLSParameters` and the statistics need py-libp2p
(``pip install 'libp2p-quic[py-libp2p]'``) and a trio event loop; they are imported on first use, so that a
program without py-libp2p can import the others. Needs Linux. Times are in seconds, sizes in bytes. The
loggers are "libp2p_quic" and those below it.
"""

import importlib as _importlib
import typing as _typing

from libp2p_quic._engine import __version__

if _typing.TYPE_CHECKING:
    from libp2p_quic import exceptions
    from libp2p_quic._causes import causes, explain
    from libp2p_quic._config import QUICTransportConfig, UnusedSettingWarning
    from libp2p_quic._connection import QUICConnection
    from libp2p_quic._hole_punching import HolePunching, enable_hole_punching
    from libp2p_quic._identity import Identity
    from libp2p_quic._install import StockTransportWarning, install, uninstall
    from libp2p_quic._listener import QUICListener
    from libp2p_quic._peer_id import PeerId
    from libp2p_quic._statistics import (
        ConnectionStatistics,
        Distribution,
        EndpointStatistics,
        ProcessStatistics,
        process_statistics,
    )
    from libp2p_quic._stream import QUICStream
    from libp2p_quic._tls_parameters import TLSParameters
    from libp2p_quic._transport import QUICTransport
    from libp2p_quic._webtransport import WebTransportTransport
    from libp2p_quic.exceptions import (
        ConnectionClosed,
        DialError,
        HandshakeRefusedError,
        HandshakeTimeoutError,
        HostKeyError,
        HostKeyTypeError,
        InvalidConfigError,
        ListenError,
        PeerIdMismatchError,
        StreamClosed,
        StreamEOF,
        StreamLost,
        StreamReset,
        UnreachableError,
    )

__all__ = [
    "ConnectionClosed",
    "ConnectionStatistics",
    "DialError",
    "Distribution",
    "EndpointStatistics",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "HolePunching",
    "HostKeyError",
    "HostKeyTypeError",
    "Identity",
    "InvalidConfigError",
    "ListenError",
    "PeerId",
    "PeerIdMismatchError",
    "ProcessStatistics",
    "QUICConnection",
    "QUICListener",
    "QUICStream",
    "QUICTransport",
    "QUICTransportConfig",
    "StockTransportWarning",
    "StreamClosed",
    "StreamEOF",
    "StreamLost",
    "StreamReset",
    "TLSParameters",
    "UnreachableError",
    "UnusedSettingWarning",
    "WebTransportTransport",
    "__version__",
    "causes",
    "enable_hole_punching",
    "exceptions",
    "explain",
    "install",
    "process_statistics",
    "uninstall",
]

_ALONE = {
    "ConnectionStatistics": "_statistics",
    "Distribution": "_statistics",
    "EndpointStatistics": "_statistics",
    "Identity": "_identity",
    "PeerId": "_peer_id",
    "ProcessStatistics": "_statistics",
    "TLSParameters": "_tls_parameters",
    "causes": "_causes",
    "explain": "_causes",
    "process_statistics": "_statistics",
}
_WITH_PY_LIBP2P = {
    "HolePunching": "_hole_punching",
    "QUICConnection": "_connection",
    "QUICListener": "_listener",
    "QUICStream": "_stream",
    "QUICTransport": "_transport",
    "QUICTransportConfig": "_config",
    "StockTransportWarning": "_install",
    "UnusedSettingWarning": "_config",
    "WebTransportTransport": "_webtransport",
    "enable_hole_punching": "_hole_punching",
    "install": "_install",
    "uninstall": "_install",
}
# What py-libp2p's extra installs; any other missing module is a defect of the installation.
_EXTRA = ("libp2p", "multiaddr", "trio")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _ALONE.get(name) or _WITH_PY_LIBP2P.get(name, "exceptions")
    try:
        imported = _importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        what_to_do = "install the extra libp2p-quic[py-libp2p]: pip install '.[py-libp2p]' in the checkout"
        raise ImportError(f"{__name__}.{name} needs py-libp2p: {what_to_do}", name=error.name) from error
    value: object = imported if name == module else getattr(imported, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
