"""A QUIC transport for py-libp2p with a Rust engine. Public names, nothing else."""

from libp2p_quic._config import QUICTransportConfig, UnusedSettingWarning
from libp2p_quic._connection import QUICConnection
from libp2p_quic._engine import __version__
from libp2p_quic._install import install, uninstall
from libp2p_quic._listener import QUICListener
from libp2p_quic._stream import QUICStream
from libp2p_quic._transport import QUICTransport

__all__ = [
    "QUICConnection",
    "QUICListener",
    "QUICStream",
    "QUICTransport",
    "QUICTransportConfig",
    "UnusedSettingWarning",
    "__version__",
    "install",
    "uninstall",
]
