"""py-libp2p's listener over one listening socket of the engine, for QUIC or for WebTransport.

Takes verified connections from the socket and starts py-libp2p's handler for each.
Handshakes, refusals and limits are the engine's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from weakref import WeakSet

import trio
from libp2p.abc import IListener, ITransport
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, check_type, to_multiaddr, with_certificates
from libp2p_quic._connection import ConnectionHandler, QUICConnection
from libp2p_quic._driver import current_driver
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._listening_socket import ListeningSocket
from libp2p_quic._resolve import reachable
from libp2p_quic._swarm_limits import limits_in_use
from libp2p_quic._throttle import Throttle
from libp2p_quic._webtransport_address import WEBTRANSPORT
from libp2p_quic.exceptions import ListenError

logger = logging.getLogger("libp2p_quic.listener")


class QUICListener(IListener):
    """A listener on one address. `QUICTransport.create_listener` makes it."""

    background_nursery: trio.Nursery | None = None
    """Runs the connections and their handlers. The swarm sets it before it calls `listen`; without
    it, they are tasks of the transport."""

    def __init__(
        self,
        handler: ConnectionHandler,
        open_endpoint: Callable[[], LoopEndpoint],
        add: Callable[[QUICListener], None],
        remove: Callable[[QUICListener], None],
    ) -> None:
        """``add`` and ``remove`` tell the transport which listeners to close with it.

        ``open_endpoint`` returns the endpoint of the running event loop. ``add`` raises ListenError
        if the transport is closed.
        """
        self._transport: ITransport | None = None
        self._handler = handler
        self._open_endpoint = open_endpoint
        self._add = add
        self._remove = remove
        self._listening = False
        self._closed = False
        self._bound: tuple[str, int, str] | None = None
        self._socket: ListeningSocket | None = None
        self._endpoint: LoopEndpoint | None = None
        self._statistics: dict[str, int] = {}
        self._accepted: WeakSet[QUICConnection] = WeakSet()
        self._gated = 0
        self._refused_by_swarm = 0
        self._swarm_refusals = Throttle(logger, logging.WARNING)

    async def listen(self, maddr: Multiaddr) -> None:
        """Bind a socket, and accept connections in the background until `close`.

        An address that ends in /quic-v1/webtransport is for browsers and may have the port of a listener on
        /quic-v1 of the same transport: they share its socket.

        Always a checkpoint; canceling binds nothing. Raises ListenError if it is listening or
        closed already, if ``maddr`` is not a QUIC address, or if the system refuses (for example
        an address in use). Raises TypeError if ``maddr`` is no Multiaddr.
        """
        current_driver()  # Outside a trio run this raises an error that says so.
        try:
            # Cancellation is possible only here, before anything is bound.
            await trio.lowlevel.checkpoint()
            check_type(maddr, "listen")
            self._listen(maddr)
        except ListenError as error:
            # The swarm drops the error, and the host runs without this address.
            logger.warning("%s", error)
            raise
        finally:
            if not self._listening:
                self._remove(self)

    def _listen(self, maddr: Multiaddr) -> None:
        if self._closed:
            raise ListenError("cannot listen: Listener is closed")
        if self._listening:
            raise ListenError(f"cannot listen: Already listening on {self._address()}")
        try:
            address = QUICAddress.parse_literal(maddr)
        except QUICInvalidMultiaddrError as error:
            raise ListenError(f"cannot listen: Invalid QUIC multiaddr: {error}") from error
        self._add(self)
        try:
            endpoint = self._open_endpoint()
            where = (endpoint, address.host, address.port)
            socket = ListeningSocket.shared(*where, address.protocol) or ListeningSocket(*where)
        except OSError as error:
            raise ListenError(f"cannot listen on {maddr}: {error.strerror or error}") from error
        except EndpointClosedError as error:
            raise ListenError(f"cannot listen on {maddr}: the transport is closed") from error
        self._socket, self._endpoint = socket, endpoint
        self._bound = (*socket.engine.local_address, address.protocol)
        self._listening = True
        endpoint.driver.follow_log_level()
        endpoint.touch()
        socket.join(address.protocol, self._take, self.background_nursery)
        logger.info("listening on %s", self._address())
        if limitation := socket.engine.limitation:
            logger.warning("%s: %s", self._address(), limitation)

    def _address(self) -> Multiaddr | None:
        """The bound address. A wildcard is not expanded."""
        return to_multiaddr(*self._bound) if self._bound else None

    def _take(self, engine: Connection | None) -> None:
        """Begin with a connection that the socket accepted."""
        if engine is None:
            logger.debug("the transport of the listener on %s was closed", self._address())
            self._release()
            return
        assert self._endpoint is not None
        connection = QUICConnection(
            engine,
            self._endpoint,
            on_admitted=self._log_admitted,
            on_denied=self._count_gated,
            on_swarm_refusal=self._count_swarm_refusal,
        )
        self._accepted.add(connection)
        connection._start_tasks(self._handler, self.background_nursery)

    async def close(self) -> None:
        """Stop listening. Accepted connections stay open. Idempotent."""
        self._stop()
        await trio.lowlevel.checkpoint()

    def _stop(self) -> None:
        """`close` without its checkpoint."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        self._remove(self)
        if self._listening and self._socket is not None and self._bound is not None:
            self._listening = False
            self._statistics = self._socket.engine.statistics()
            self._socket.leave(self._bound[2])
            logger.info("stopped listening on %s", self._address())

    def _log_admitted(self, connection: QUICConnection) -> None:
        if logger.isEnabledFor(logging.DEBUG):
            (remote,) = connection.get_transport_addresses()
            logger.debug("accepted %s at %s", connection.peer_id, remote)

    def _count_gated(self) -> None:
        """Count a peer that a gate denied after this listener accepted it."""
        self._gated += 1
        assert self._endpoint is not None
        self._endpoint.gates.denied += 1

    def _count_swarm_refusal(self, peer: str) -> None:
        """Count a verified peer that the swarm refused, and warn: py-libp2p logs it at DEBUG only."""
        self._refused_by_swarm += 1
        assert self._endpoint is not None
        assert self._endpoint.gates.swarm is not None
        self._endpoint.gates.refused_by_swarm += 1
        # Counting visits each connection, and a peer can cause many refusals.
        is_shown = self._swarm_refusals.is_due or logger.isEnabledFor(logging.DEBUG)
        limits = limits_in_use(self._endpoint.gates.swarm) if is_shown else ""
        logger.debug("the host's swarm refused %s: %s", peer, limits)
        self._swarm_refusals.log(
            "the host's swarm refused %s (listening on %s): %s", peer, self._address(), limits
        )

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The addresses to dial, with the bound port.

        A wildcard is expanded to the current addresses of the interfaces. Those of QUIC have no /p2p. Those
        of WebTransport have it, as py-libp2p's own, after the hashes of the current certificate and of
        the next, so that an address is true for 13 days at least, also after a restart. Empty when not
        listening.
        """
        if not (self._listening and self._bound and self._endpoint):
            return ()
        found = reachable(*self._bound)
        if self._bound[2] != WEBTRANSPORT:
            return found
        hashes = self._endpoint.engine.certificate_hashes()
        peer = Multiaddr(f"/p2p/{self._endpoint.peer_id}")
        return tuple(with_certificates(each, hashes).encapsulate(peer) for each in found)

    def is_listening(self) -> bool:
        """Whether it has a socket. False before `listen`, and after `close` or a close of the transport."""
        return self._listening

    def get_stats(self) -> dict[str, int | bool]:
        """Counters since `listen`. `close` freezes them.

        ``connections_accepted`` counts the connections whose handshake is complete, before the gates
        and the swarm are asked: it includes those that they refuse.
        ``connections_rejected`` counts each connection that this side refused once: for a limit or
        a denied address (``connections_refused``), for a certificate (``handshakes_refused``), by a
        gate (``connections_gated``), or by the host's swarm for a limit of its own
        (``connections_refused_by_swarm``). ``handshakes_failed`` includes handshakes that timed out.
        """
        if self._listening and self._socket is not None:
            self._statistics = self._socket.engine.statistics()
        count = self._statistics.get
        return {
            "connections_accepted": count("connections_accepted", 0),
            "connections_rejected": count("connections_refused", 0)
            + count("handshakes_refused", 0)
            + self._gated
            + self._refused_by_swarm,
            "connections_refused": count("connections_refused", 0),
            "connections_gated": self._gated,
            "connections_refused_by_swarm": self._refused_by_swarm,
            "handshakes_refused": count("handshakes_refused", 0),
            "handshakes_failed": count("handshakes_failed", 0),
            "bytes_received": count("bytes_received", 0),
            "packets_processed": count("datagrams_received", 0),
            "invalid_packets": count("datagrams_unanswerable", 0),
            "pending_connections": count("backlog", 0),
            "active_connections": sum(not each.is_closed for each in self._accepted),
            "is_listening": self._listening,
        }
