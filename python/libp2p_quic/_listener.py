"""py-libp2p's listener over one listening socket of the engine.

Takes verified connections from the engine and starts the keeper and py-libp2p's handler for each.
Handshakes, refusals and limits are the engine's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IListener
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._connection import ConnectionHandler, QUICConnection
from libp2p_quic._driver import current_driver
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Listener
from libp2p_quic._errors import EndpointClosedError
from libp2p_quic._exceptions import ListenError
from libp2p_quic._resolve import reachable

if TYPE_CHECKING:
    from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.listener")


class QUICListener(IListener):
    """A listener on one address. `QUICTransport.create_listener` makes it."""

    def __init__(self, transport: QUICTransport, handler: ConnectionHandler) -> None:
        # The swarm sets it before it calls `listen`. Without it, background tasks are system tasks.
        self.background_nursery: trio.Nursery | None = None
        self._transport = transport
        self._handler = handler
        self._listening = False
        self._closed = False
        self._bound: tuple[str, int, str] | None = None
        self._engine: Listener | None = None
        self._endpoint: LoopEndpoint | None = None
        self._accepting: trio.CancelScope | None = None
        self._statistics: dict[str, int] = {}
        self._gated = 0

    async def listen(self, maddr: Multiaddr) -> None:
        """Bind a socket, and accept connections in the background until `close`.

        Always a checkpoint; canceling binds nothing. Raises ListenError if it is listening or
        closed already, if ``maddr`` is not a QUIC address, or if the system refuses (for example
        an address in use).
        """
        current_driver()  # Outside a trio run this raises an error that says so.
        try:
            # Cancellation is possible only here, before anything is bound.
            await trio.lowlevel.checkpoint()
            self._listen(maddr)
        except ListenError as error:
            # The swarm drops the error, and the host runs without this address.
            logger.warning("%s", error)
            raise
        finally:
            if not self._listening:
                self._transport.release(self)

    def _listen(self, maddr: Multiaddr) -> None:
        if self._closed:
            raise ListenError("cannot listen: Listener is closed")
        if self._listening:
            raise ListenError(f"cannot listen: Already listening on {self._address()}")
        try:
            address = QUICAddress.parse_literal(maddr)
        except QUICInvalidMultiaddrError as error:
            raise ListenError(f"cannot listen: Invalid QUIC multiaddr: {error}") from error
        self._transport.hold(self)
        try:
            endpoint = self._transport.endpoint()
            engine = endpoint.engine.listen(address.host, address.port)
        except OSError as error:
            raise ListenError(f"cannot listen on {maddr}: {error.strerror or error}") from error
        except EndpointClosedError as error:
            raise ListenError(f"cannot listen on {maddr}: the transport is closed") from error
        self._engine, self._endpoint = engine, endpoint
        self._bound = (*engine.local_address, address.protocol)
        self._listening = True
        endpoint.driver.follow_log_level()
        endpoint.touch()
        endpoint.spawn(self._accept, self.background_nursery)
        logger.info("listening on %s", self._address())
        if limitation := engine.limitation:
            logger.warning("%s: %s", self._address(), limitation)

    def _address(self) -> Multiaddr | None:
        """The bound address. A wildcard is not expanded."""
        return to_multiaddr(*self._bound) if self._bound else None

    async def _accept(self) -> None:
        assert self._engine is not None
        assert self._endpoint is not None
        driver = self._endpoint.driver
        try:
            with trio.CancelScope() as self._accepting:
                while True:
                    engine = await driver.ready(self._engine.accept_nowait, self._engine.acceptable)
                    connection = QUICConnection(engine, self._endpoint, self._transport, listener=self)
                    logger.debug("accepted %r", connection)
                    self._transport.remember(connection)
                    connection.keep(self._handler, self.background_nursery)
                    # A waiting listener must not keep the last connection alive.
                    del engine, connection
        except EndpointClosedError:
            logger.debug("the transport of the listener on %s was closed", self._address())
        finally:
            self._release()

    async def close(self) -> None:
        """Stop listening. Accepted connections stay open. Idempotent."""
        self.stop()
        await trio.lowlevel.checkpoint()

    def stop(self) -> None:
        """`close` without its checkpoint."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        self._transport.release(self)
        if self._listening and self._engine is not None and self._endpoint is not None:
            self._listening = False
            self._statistics = self._engine.statistics()
            self._engine.close()
            self._endpoint.touch()
            if self._accepting is not None:
                self._accepting.cancel()
            logger.info("stopped listening on %s", self._address())

    def note_gated(self) -> None:
        """Count a peer that a gate denied after this listener accepted it."""
        self._gated += 1

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The addresses to dial, with the bound port and without /p2p.

        A wildcard is expanded to the current addresses of the interfaces. Empty when not
        listening.
        """
        return reachable(*self._bound) if self._listening and self._bound else ()

    def is_listening(self) -> bool:
        return self._listening

    def get_stats(self) -> dict[str, int | bool]:
        """Counters since `listen`. `close` freezes them.

        ``connections_rejected`` counts each connection that this side refused once: for a limit or
        a denied address (``connections_refused``), for a certificate (``handshakes_refused``), or
        by a gate (``connections_gated``). ``handshakes_failed`` includes handshakes that timed out.
        """
        if self._listening and self._engine is not None:
            self._statistics = self._engine.statistics()
        count = self._statistics.get
        return {
            "connections_accepted": count("connections_accepted", 0),
            "connections_rejected": count("connections_refused", 0)
            + count("handshakes_refused", 0)
            + self._gated,
            "connections_refused": count("connections_refused", 0),
            "connections_gated": self._gated,
            "handshakes_refused": count("handshakes_refused", 0),
            "handshakes_failed": count("handshakes_failed", 0),
            "bytes_received": count("bytes_received", 0),
            "packets_processed": count("datagrams_received", 0),
            "invalid_packets": count("datagrams_unanswerable", 0),
            "pending_connections": count("backlog", 0),
            "active_connections": self._transport.count_connections(self),
            "is_listening": self._listening,
        }
