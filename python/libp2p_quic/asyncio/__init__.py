"""libp2p's QUIC for asyncio programs, without py-libp2p and trio. This module only exports names."""

from libp2p_quic._causes import causes, explain
from libp2p_quic._dial_attempt import DialAttempt, PeerCertificate
from libp2p_quic._engine import __version__
from libp2p_quic._exception_types import (
    ConnectionClosed,
    DialError,
    HandshakeRefusedError,
    HandshakeTimeoutError,
    HostKeyError,
    InvalidAddressError,
    InvalidConfigError,
    InvalidPeerIdError,
    ListenError,
    NegotiationError,
    PeerIdMismatchError,
    ProtocolNotSupportedError,
    QUICError,
    StreamClosed,
    StreamError,
    StreamLimitError,
    StreamLost,
    StreamReset,
    UnreachableError,
)
from libp2p_quic._identity import Identity
from libp2p_quic._peer_id import PeerId
from libp2p_quic._statistics import (
    ConnectionStatistics,
    Distribution,
    EndpointStatistics,
    ProcessStatistics,
    process_statistics,
)
from libp2p_quic._tls_parameters import TLSParameters
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint
from libp2p_quic.asyncio.listener import Listener
from libp2p_quic.asyncio.stream import Stream
from libp2p_quic.asyncio.stream_pair import reader_writer

__all__ = [
    "Address",
    "Connection",
    "ConnectionClosed",
    "ConnectionStatistics",
    "DialAttempt",
    "DialError",
    "Distribution",
    "Endpoint",
    "EndpointConfig",
    "EndpointStatistics",
    "HandshakeRefusedError",
    "HandshakeTimeoutError",
    "HostKeyError",
    "Identity",
    "InvalidAddressError",
    "InvalidConfigError",
    "InvalidPeerIdError",
    "ListenError",
    "Listener",
    "NegotiationError",
    "PeerCertificate",
    "PeerId",
    "PeerIdMismatchError",
    "ProcessStatistics",
    "ProtocolNotSupportedError",
    "QUICError",
    "Stream",
    "StreamClosed",
    "StreamError",
    "StreamLimitError",
    "StreamLost",
    "StreamReset",
    "TLSParameters",
    "UnreachableError",
    "__version__",
    "causes",
    "explain",
    "process_statistics",
    "reader_writer",
]
