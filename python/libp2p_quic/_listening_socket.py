"""A listening socket of the engine, which the listeners of QUIC and of WebTransport on one port share.

It accepts connections for both, and gives each to the listener of its protocol. What a listener does with
a connection, and what it counts, is in `_listener`.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from libp2p_quic._addr import QUIC_V1
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._webtransport_address import WEBTRANSPORT

# Called with a connection; and with none when the engine has closed the socket.
Taker = Callable[[Connection | None], None]


class ListeningSocket:
    """Binds ``host`` and ``port``. Raises OSError and EndpointClosedError."""

    def __init__(self, endpoint: LoopEndpoint, host: str, port: int) -> None:
        self.endpoint = endpoint
        self.engine = endpoint.engine.listen(host, port)
        self._takers: dict[str, Taker] = {}
        self._accepting = trio.CancelScope()
        endpoint.sockets[self.engine.local_address] = self

    @classmethod
    def shared(cls, endpoint: LoopEndpoint, host: str, port: int, protocol: str) -> ListeningSocket | None:
        """The socket that a listener of the other protocol has bound there."""
        found = endpoint.sockets.get((host, port))
        if isinstance(found, ListeningSocket) and _kind(protocol) not in found._takers:
            return found
        return None

    def join(self, protocol: str, take: Taker, nursery: trio.Nursery | None) -> None:
        """Give the connections of ``protocol`` to ``take``. The first that joins brings the nursery in
        which the socket accepts."""
        kind = _kind(protocol)
        if kind == WEBTRANSPORT:
            self.engine.serve_webtransport(True)
        is_first = not self._takers
        self._takers[kind] = take
        if is_first:
            self.endpoint.spawn(self._accept, nursery)

    def leave(self, protocol: str) -> None:
        """Accept no more connections of ``protocol``. The last that leaves closes the socket."""
        kind = _kind(protocol)
        if self._takers.pop(kind, None) is None:
            return
        if self._takers:
            if kind == WEBTRANSPORT:
                self.engine.serve_webtransport(False)
            return
        self.endpoint.sockets.pop(self.engine.local_address, None)
        self.engine.close()
        self.endpoint.touch()
        self._accepting.cancel()

    async def _accept(self) -> None:
        driver = self.endpoint.driver
        try:
            with self._accepting:
                while True:
                    connection = await driver.ready(self.engine.accept_nowait, self.engine.acceptable)
                    self._give(connection)
                    # A waiting listener must not keep the last connection alive.
                    del connection
        except EndpointClosedError:
            # The transport was closed.
            pass
        finally:
            for take in list(self._takers.values()):
                take(None)

    def _give(self, connection: Connection) -> None:
        kind = WEBTRANSPORT if connection.is_webtransport else QUIC_V1
        take = self._takers.get(kind)
        if take is None:
            # Its listener was closed, or only WebTransport is served here.
            self.endpoint.close_connection(connection, 0, b"not served here")
        else:
            take(connection)


def _kind(protocol: str) -> str:
    """QUIC's two protocols are one for the engine."""
    return WEBTRANSPORT if protocol == WEBTRANSPORT else QUIC_V1
