"""py-libp2p's WebTransport transport: for hosts without QUIC, and for `new_host(enable_webtransport=True)`.

`QUICTransport` dials and listens on addresses of WebTransport itself: this one serves no others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar

from libp2p.crypto.keys import PrivateKey
from libp2p.network.swarm import Swarm
from libp2p.transport.quic.config import QUICTransportConfig as StockQUICConfig
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from libp2p.transport.webtransport.config import WebTransportConfig
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress
from libp2p_quic._config import QUICTransportConfig
from libp2p_quic._transport import QUICTransport
from libp2p_quic.exceptions import InvalidConfigError

logger = logging.getLogger("libp2p_quic.transport")


class WebTransportTransport(QUICTransport):
    """libp2p over WebTransport alone, in place of py-libp2p's class of this name.

    ``private_key`` is the host's key. ``config`` is a `QUICTransportConfig`, or py-libp2p's
    ``WebTransportConfig``, of which ``handshake_timeout``, ``idle_timeout`` and
    ``max_concurrent_streams`` count: the certificates are derived from the host key. Raises
    HostKeyError and InvalidConfigError.

    A host that has a `QUICTransport` needs no other: give it both addresses to listen on.
    """

    # `install` gives the hooks of a host to its QUIC transport.
    _swarm_hooks: ClassVar[tuple[Callable[[QUICTransport, Swarm], None], ...]] = ()

    def __init__(
        self, private_key: PrivateKey, config: WebTransportConfig | StockQUICConfig | None = None
    ) -> None:
        super().__init__(private_key, _quic_config(config))

    def _serves(self, parse: Callable[[Multiaddr], QUICAddress], maddr: Multiaddr) -> bool:
        try:
            return parse(maddr).is_webtransport
        except QUICInvalidMultiaddrError:
            return False

    def protocols(self) -> list[str]:
        """["webtransport"]."""
        return ["webtransport"]

    def listen_order(self) -> int:
        """2, to come after QUIC, which serves both on one port."""
        return 2


def _quic_config(config: WebTransportConfig | StockQUICConfig | None) -> StockQUICConfig | None:
    if not isinstance(config, WebTransportConfig | StockQUICConfig | None):
        raise InvalidConfigError(
            f"config must be a WebTransportConfig or a QUICTransportConfig, got a {type(config).__name__}"
        )
    if not isinstance(config, WebTransportConfig):
        return config
    if config.cert_manager is not None:
        logger.warning("cert_manager has no effect: the certificates are derived from the host key")
    return QUICTransportConfig(
        CONNECTION_HANDSHAKE_TIMEOUT=config.handshake_timeout,
        idle_timeout=config.idle_timeout,
        max_concurrent_streams=config.max_concurrent_streams,
    )
