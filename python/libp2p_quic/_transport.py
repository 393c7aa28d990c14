"""py-libp2p's transport: dials, makes listeners, and owns the endpoint that they share.

The engine verifies peers inside the TLS handshake. This module does not see certificates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_network

import trio
from libp2p.abc import ITransport
from libp2p.crypto.keys import PrivateKey
from libp2p.network.config import ConnectionConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import (
    QUICInvalidConfigError,
    QUICInvalidMultiaddrError,
)
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._config import (
    QUICTransportConfig,
    chosen_connections,
    effective_values,
    engine_config,
    limits,
)
from libp2p_quic._connection import GATED, ConnectionHandler, QUICConnection
from libp2p_quic._driver import current_driver
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection
from libp2p_quic._errors import ConnectionLostError, EndpointClosedError
from libp2p_quic._exceptions import (
    DialError,
    HostKeyError,
    InvalidConfigError,
    ListenError,
    dial_error,
    joint_dial_error,
)
from libp2p_quic._gate import Denial, Gate, name_of
from libp2p_quic._happy_eyeballs import AllFailedError, Race, interleaved
from libp2p_quic._host_key import identity_of
from libp2p_quic._listener import QUICListener
from libp2p_quic._resolve import resolved
from libp2p_quic._verdict import Verdicts

logger = logging.getLogger("libp2p_quic.transport")


# py-libp2p recognizes a QUIC transport by this class name.
class QUICTransport(ITransport):
    """libp2p over QUIC version 1 (RFC 9000).

    ``private_key`` is the host's key; docs/keys.md lists the supported types. ``config`` is a
    `QUICTransportConfig` of this package or of py-libp2p (default: this package's defaults). It is
    read once, by the constructor. ``enable_autotls`` has no effect: libp2p's certificate for QUIC
    is made from the host key. A transport serves one trio run at a time and can be used again in
    a later run.

    Raises HostKeyError (HostKeyTypeError, a TypeError, if ``private_key`` is not a private key) and
    InvalidConfigError.
    """

    provides_native_muxing = True

    def __init__(
        self,
        private_key: PrivateKey,
        config: StockConfig | None = None,
        enable_autotls: bool = False,
    ) -> None:
        self._identity = identity_of(private_key)
        self._private_key = private_key
        if not isinstance(config, StockConfig | None):
            raise InvalidConfigError(
                f"config must be a QUICTransportConfig, got a {type(config).__name__}: "
                "QUICTransport(key_pair.private_key, QUICTransportConfig(idle_timeout=60))"
            )
        # The host reads its negotiation timeout from this attribute.
        self._config = QUICTransportConfig() if config is None else config
        self._enable_autotls = enable_autotls
        self._engine_config = engine_config(self._config)
        self.limits = limits(self._config)
        self._effective = effective_values(self._config)
        self._peer_id = ID(self._identity.peer_id)
        gate, timeout = self.limits.gate_peer, self.limits.gate_timeout
        self._peer_gate = Gate(f"gate_peer ({name_of(gate)})", gate, timeout) if gate else None
        self._swarm_gate = Gate("the swarm's connection gate", self._ask_swarm, timeout)
        self._verdicts = Verdicts()
        self._closed = False
        # Only py-libp2p's tests read this: they expect one entry for each version.
        self._quic_configs = dict.fromkeys(self.protocols(), self._engine_config)
        self._endpoint: LoopEndpoint | None = None
        self._denied: list[str] = []
        self._background_nursery: trio.Nursery | None = None
        self._swarm: Swarm | None = None
        self._listeners: list[QUICListener] = []
        self._connections: set[QUICConnection] = set()

    def effective_config(self) -> dict[str, object]:
        """The value in effect for each configuration field that this transport reads.

        Synonyms have the same value. None and infinity mean no limit. Fields that the swarm reads
        are in `Swarm.connection_config`.
        """
        return dict(self._effective)

    # Called by the swarm

    def set_background_nursery(self, nursery: trio.Nursery) -> None:
        """Run background tasks in ``nursery``. Without this call they are system tasks."""
        self._background_nursery = nursery
        if self._endpoint is not None:
            self._attach(self._endpoint)

    def set_swarm(self, swarm: Swarm) -> None:
        """Attach the swarm that uses this transport.

        Raises QUICInvalidConfigError if the swarm has a pre-shared key: libp2p's pnet
        specification protects raw connections only, so a peer without the key could connect over
        QUIC. go-libp2p refuses too. Raises HostKeyError if the swarm's peer id is not that of this
        transport's key: every peer that dials the host's id would refuse this transport's
        certificate, and only the peer would see the reason.
        """
        if getattr(swarm, "psk", None) is not None:
            raise QUICInvalidConfigError("QUIC cannot take part in a private network (psk)")
        if swarm.get_peer_id() != self._peer_id:
            raise HostKeyError(
                f"the transport's private key is that of peer {self._peer_id}, and the host is "
                f"{swarm.get_peer_id()}: give both the same key_pair, "
                "new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])"
            )
        self._swarm = swarm
        self._compare_limits(swarm.connection_config)

    def _compare_limits(self, swarm: ConnectionConfig) -> None:
        """The swarm has a limit of its own, and reserves a part of it for its own dials."""
        most, admitted = (
            chosen_connections(self._config),
            max(1, swarm.max_connections - swarm.min_connections),
        )
        if most is not None and admitted < most:
            logger.warning(
                "max_connections of the transport is %d, and the swarm admits %d inbound connections, its "
                "max_connections (%d) less its min_connections (%d): give new_host a connection_config",
                most,
                admitted,
                swarm.max_connections,
                swarm.min_connections,
            )

    # Addresses

    def can_dial(self, maddr: Multiaddr) -> bool:
        return self._serves(QUICAddress.parse, maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        return self._serves(QUICAddress.parse_literal, maddr)

    def _serves(self, parse: Callable[[Multiaddr], QUICAddress], maddr: Multiaddr) -> bool:
        try:
            return parse(maddr).protocol in self.limits.protocols
        except QUICInvalidMultiaddrError:
            return False

    def protocols(self) -> list[str]:
        """The multiaddr protocols in use. "quic" (draft 29 in py-libp2p) is served by QUIC v1."""
        return list(self.limits.protocols)

    def listen_order(self) -> int:
        """1, to come after TCP, which has 0 in py-libp2p."""
        return 1

    # Dialing and listening

    async def dial(self, maddr: Multiaddr) -> QUICConnection:
        """Dial ``maddr``. Returns a connection whose handshake is complete and peer verified.

        The dial leaves from the listening socket that can reach the address, if there is one. With
        /p2p/PEER in ``maddr`` only that peer is accepted, without it any peer. The addresses of a
        name are raced 250 ms apart (RFC 8305), without those that the swarm's connection gate
        denies. While nothing answers, the handshake is restarted every 0.8 s, so that a peer that
        starts late is reached within a second. Always a checkpoint; canceling leaves nothing
        behind.

        Raises DialError or a subclass: PeerIdMismatchError, HandshakeRefusedError,
        HandshakeTimeoutError after the configured CONNECTION_HANDSHAKE_TIMEOUT (default: 10 s), or
        UnreachableError, at once or after the second report of the system or the network. If
        several addresses fail, the class is that of the most specific error; the text and
        ``causes`` have all of them.
        """
        if self._closed:
            raise DialError("Transport is closed")
        try:
            address = QUICAddress.parse(maddr)
        except QUICInvalidMultiaddrError as error:
            raise DialError(f"Invalid QUIC multiaddr: {error}") from error
        if address.port == 0:
            raise DialError(f"Invalid QUIC multiaddr: port 0 cannot be dialed: {maddr}")
        if address.protocol not in self.limits.protocols:
            raise DialError(f"/{address.protocol} is turned off by the configuration: {maddr}")
        # Outside a trio run this raises an error that says so; any await would raise an obscure one.
        current_driver()
        try:
            hosts = interleaved(await resolved(address))
        except DialError as error:
            logger.debug("%s", error)
            raise
        if not hosts:
            raise DialError(f"no address for {maddr}")
        try:
            endpoint = self.endpoint()
        except (OSError, ValueError) as error:
            raise DialError(f"failed to dial {maddr}: {error}") from error
        failures = (DialError, ConnectionLostError)
        begin, finish = partial(self._begin, endpoint, address), partial(self._finish, endpoint, address)
        race = Race(endpoint.driver, begin, finish, endpoint.abandon, failures)
        try:
            return await race.run(hosts)
        except AllFailedError as failed:
            causes = [_dial_error(address, host, cause) for host, cause in failed.causes]
        why = causes[0] if address.name_protocol is None else joint_dial_error(str(maddr), causes)
        logger.debug("%s", why)
        raise why

    async def _begin(self, endpoint: LoopEndpoint, address: QUICAddress, host: str) -> Connection:
        """Start an attempt at one address. Raises DialError."""
        await self._ask_gate(address, host)
        if self._closed:
            raise DialError("Transport is closed")
        peer_id = address.peer_id.to_bytes() if address.peer_id else None
        try:
            attempt = endpoint.engine.connect(host, address.port, peer_id)
        except (OSError, ValueError, EndpointClosedError) as error:
            raise DialError(f"failed to dial {address.at(host)}: {error}") from error
        endpoint.touch()
        return attempt

    async def _finish(
        self, endpoint: LoopEndpoint, address: QUICAddress, host: str, attempt: Connection
    ) -> QUICConnection:
        """Make the connection of an attempt whose handshake is complete.

        Raises DialError if a gate denies the peer or the listener refuses us.
        """
        # The IP literal that was reached, also after a dial by name.
        maddr = address.at(host)
        connection = QUICConnection(attempt, endpoint, self, maddr)
        is_admitted = False
        try:
            denial = await self._peer_denial(connection.peer_id, maddr)
            if denial is None:
                await self._hold(connection, attempt, maddr)
            is_admitted = denial is None
        finally:
            # Also if the dial is canceled while the gate decides.
            if not is_admitted:
                attempt.close(GATED, b"gated")
                endpoint.touch()
        if denial is not None:
            raise DialError(f"failed to dial {maddr}: {denial.reason}", GATED) from denial.cause
        logger.debug("dialed %r", connection)
        self.remember(connection)
        connection.keep()
        return connection

    async def _ask_gate(self, address: QUICAddress, host: str) -> None:
        """Ask the swarm's gate about a resolved address: the swarm asked it about the name only.

        Raises DialError if the gate denies the address.
        """
        if address.name_protocol is None or self._swarm is None:
            return
        denial = await self._swarm_gate.denial(host, to_multiaddr(host, address.port))
        if denial is not None:
            raise DialError(f"{address.host} is {host}: {denial.reason}") from denial.cause

    async def _hold(self, connection: QUICConnection, engine: Connection, maddr: Multiaddr) -> None:
        """Withhold a dialed connection from the swarm until the listener's gate can have answered.

        Without a swarm this returns at once, and the next call on the connection raises the
        refusal. Raises DialError with the listener's code.
        """
        if self._swarm is None:
            return
        statistics = engine.statistics()
        limit = self._verdicts.hold(connection.peer_id, statistics["rtt"], statistics["handshake"])
        with trio.move_on_at(connection.began + limit):
            await connection.driver.ready(engine.closed_nowait, engine.closed)
        lost = engine.closed_nowait()
        if lost is not None:
            logger.debug("dial of %s failed: %s", maddr, lost)
            raise dial_error(lost, str(maddr)) from lost
        self._verdicts.admitted(connection.peer_id)

    def turned_away(self, peer_id: ID, after: float) -> None:
        """Record that a dialed listener refused us ``after`` this many seconds."""
        self._verdicts.turned_away(peer_id, after)

    # Gates

    def deny_addresses(self, addresses: Iterable[str]) -> None:
        """Replace the deny list: refuse inbound handshakes from these IP addresses or networks.

        The engine refuses them before it does any cryptographic work. Existing connections stay
        open, and dials are not affected. Raises ValueError for an invalid address and then changes
        nothing.
        """
        if isinstance(addresses, str):
            raise ValueError(f"deny_addresses takes a list of addresses: [{addresses!r}]")
        denied = [str(ip_network(each, strict=False)) for each in addresses]
        self._denied = denied
        if self._endpoint is not None and self._endpoint.is_current:
            self._endpoint.engine.deny(denied)

    async def denial(self, peer_id: ID, maddr: Multiaddr) -> Denial | None:
        """Why the gates deny a verified inbound peer; None if they admit it.

        The swarm asks its own gate too, but later, and closes without a reason.
        """
        denial = None
        if self._swarm is not None:
            denial = await self._swarm_gate.denial(f"{peer_id} at {maddr}", maddr)
        return denial or await self._peer_denial(peer_id, maddr)

    async def _peer_denial(self, peer_id: ID, maddr: Multiaddr) -> Denial | None:
        if self._peer_gate is None:
            return None
        return await self._peer_gate.denial(f"{peer_id} at {maddr}", peer_id, maddr)

    def _ask_swarm(self, maddr: Multiaddr) -> object:
        # Looked up on each call, as a program may replace the swarm's gate.
        assert self._swarm is not None
        return self._swarm.connection_gate.is_allowed(maddr)

    async def dial_with_source(self, maddr: Multiaddr, source: tuple[str, int]) -> QUICConnection:
        """`dial`. ``source`` is a TCP address and is ignored: dials leave from our UDP socket."""
        return await self.dial(maddr)

    def create_listener(self, handler_function: ConnectionHandler) -> QUICListener:
        """A listener that calls ``handler_function`` for each verified connection.

        Raises ListenError if the transport is closed.
        """
        if self._closed:
            raise ListenError("Transport is closed")
        listener = QUICListener(self, handler_function)
        self.hold(listener)
        return listener

    async def close(self) -> None:
        """Close listeners, connections and sockets.

        Waits until closed streams are delivered, for at most ``linger`` (default: 1 s) and two
        seconds. Canceling ends the wait, not the close. Idempotent.
        """
        self._closed = True
        endpoint, self._endpoint = self._endpoint, None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.stop()
        if endpoint is not None and endpoint.is_current:
            try:
                await endpoint.close()
            finally:
                for connection in list(self._connections):
                    connection.abandon()
            logger.debug("transport of %s closed", self._peer_id)
        await trio.lowlevel.checkpoint()

    # For the listener and the connections

    def hold(self, listener: QUICListener) -> None:
        """Close ``listener`` when the transport is closed. Raises ListenError if it is already."""
        if self._closed:
            raise ListenError("Transport is closed")
        # A list, as py-libp2p's host reads its first element.
        if listener not in self._listeners:
            self._listeners.append(listener)

    def release(self, listener: QUICListener) -> None:
        """Forget a listener that is closed or failed to listen: a host may make thousands."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def endpoint(self) -> LoopEndpoint:
        """The endpoint of the running event loop, made on first use. Raises OSError or ValueError."""
        if self._endpoint is None or not self._endpoint.is_current:
            self._endpoint = LoopEndpoint(self._identity, self._engine_config, self.limits.linger)
            self._attach(self._endpoint)
            if self._denied:
                self._endpoint.engine.deny(self._denied)
        return self._endpoint

    def _attach(self, endpoint: LoopEndpoint) -> None:
        endpoint.nursery = self._background_nursery
        # A swarm cancels its nursery when it ends. Another nursery may wait for its tasks instead.
        if self._background_nursery is not None and self._swarm is not None:
            endpoint.end_with(self._background_nursery)

    def remember(self, connection: QUICConnection) -> None:
        self._connections.add(connection)

    def forget(self, connection: QUICConnection) -> None:
        self._connections.discard(connection)

    def count_connections(self, listener: QUICListener) -> int:
        return sum(c.listener is listener and not c.is_closed for c in self._connections)


def _dial_error(address: QUICAddress, host: str, cause: Exception) -> DialError:
    """Why the attempt at ``host`` failed."""
    if isinstance(cause, DialError):
        return cause
    assert isinstance(cause, ConnectionLostError)
    error = dial_error(cause, str(address.at(host)))
    error.__cause__ = cause
    return error
