"""A QUIC transport for py-libp2p with a Rust engine. This module only exports the public names."""

from libp2p_quic._causes import causes, explain
from libp2p_quic._config import QUICTransportConfig, UnusedSettingWarning
from libp2p_quic._connection import QUICConnection
from libp2p_quic._engine import __version__
from libp2p_quic._exceptions import (
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
from libp2p_quic._install import StockTransportWarning, install, uninstall
from libp2p_quic._listener import QUICListener
from libp2p_quic._stream import QUICStream
from libp2p_quic._transport import QUICTransport

__all__ = [
    "ConnectionClosed",
    "DialError",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "HostKeyError",
    "HostKeyTypeError",
    "InvalidConfigError",
    "ListenError",
    "PeerIdMismatchError",
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
    "UnreachableError",
    "UnusedSettingWarning",
    "__version__",
    "causes",
    "explain",
    "install",
    "uninstall",
]
