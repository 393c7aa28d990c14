"""py-libp2p's transport: dials, makes listeners, and owns the endpoint they share.

The engine proves the peer inside the TLS handshake; nothing here looks at certificates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_network

import trio
from libp2p.abc import ITransport
from libp2p.crypto.keys import PrivateKey
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import (
    QUICInvalidConfigError,
    QUICInvalidMultiaddrError,
)
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._config import QUICTransportConfig, effective_values, engine_config, limits
from libp2p_quic._connection import GATED, ConnectionHandler, QUICConnection
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


# py-libp2p recognises a QUIC transport by the name of its class: it has to be this one.
class QUICTransport(ITransport):
    """libp2p over QUIC v1, with the host's ``private_key``, of a type that docs/keys.md lists.

    ``config`` is py-libp2p's QUICTransportConfig or, better, ours; it is read here, once.
    ``enable_autotls`` is accepted and without effect: libp2p's QUIC certificate is made of
    the host key. One transport serves one trio run at a time, and a later one anew.

    Raises QUICSecurityError, which is a TypeError when ``private_key`` is no private key, and
    QUICInvalidConfigError.
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
        # The host reads its negotiation timeout here.
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
        # Nothing here reads it, but py-libp2p's own tests look for one entry per version.
        self._quic_configs = dict.fromkeys(self.protocols(), self._engine_config)
        self._endpoint: LoopEndpoint | None = None
        self._denied: list[str] = []
        self._background_nursery: trio.Nursery | None = None
        self._swarm: Swarm | None = None
        self._listeners: list[QUICListener] = []
        self._connections: set[QUICConnection] = set()

    def effective_config(self) -> dict[str, object]:
        """Each field of the configuration that this transport reads, with the value in effect.

        Fields that say the same have the same value; None and infinity mean no limit. What
        the swarm reads is not here: `Swarm.connection_config` has it.
        """
        return dict(self._effective)

    # What the swarm tells us

    def set_background_nursery(self, nursery: trio.Nursery) -> None:
        """Where background tasks shall run; without it they are system tasks."""
        self._background_nursery = nursery
        if self._endpoint is not None:
            self._house(self._endpoint)

    def set_swarm(self, swarm: Swarm) -> None:
        """Raises QUICInvalidConfigError when the swarm has a pre-shared key, and
        QUICSecurityError when its peer id is not that of this transport's key.

        A private network's key protects raw connections only (libp2p pnet spec), so a peer
        without the key could talk to us over QUIC. go-libp2p refuses too. With another key
        every peer that dials the host's id would refuse us, and this side would never hear why.
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
        """Multiaddr names: "quic" (py-libp2p's draft 29) is served by QUIC v1."""
        return list(self.limits.protocols)

    def listen_order(self) -> int:
        """After TCP, which py-libp2p gives 0."""
        return 1

    # Dialing and listening

    async def dial(self, maddr: Multiaddr) -> QUICConnection:
        """A connection whose handshake is done and whose peer is proven.

        Leaves from the listening socket that can reach the address, if there is one. With
        /p2p/PEER in ``maddr`` only that peer will do; without, whoever answers. The addresses
        of a name are raced as RFC 8305 says, 250 ms apart, those excepted that the swarm's
        connection gate denies. While nothing answers the handshake is begun again every 0.8 s, so
        that a peer that starts late is met within a second. Always a checkpoint; a cancelled
        dial leaves nothing behind.

        Raises DialError or, more exactly, its subclasses PeerIdMismatchError,
        HandshakeRefusedError, HandshakeTimeoutError after the configured
        CONNECTION_HANDSHAKE_TIMEOUT, and UnreachableError at once, or as soon as the system or the
        network has said so twice; of several addresses, the one that says most, with all of them in
        its text and its ``causes``.
        """
        if self._closed:
            raise DialError("Transport is closed")
        try:
            address = QUICAddress.parse(maddr)
        except QUICInvalidMultiaddrError as error:
            raise DialError(f"Invalid QUIC multiaddr: {error}") from error
        if address.port == 0:
            raise DialError(f"Invalid QUIC multiaddr: nobody listens on port 0: {maddr}")
        if address.protocol not in self.limits.protocols:
            raise DialError(f"/{address.protocol} is turned off by the configuration: {maddr}")
        hosts = interleaved(await resolved(address))
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
        """An attempt at one address. Raises DialError."""
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
        """The connection of an attempt that completed its handshake. Raises DialError when a gate denies."""
        # The literal that was reached, whatever was dialed.
        maddr = address.at(host)
        connection = QUICConnection(attempt, endpoint, self, maddr)
        is_admitted = False
        try:
            denial = await self._peer_denial(connection.peer_id, maddr)
            if denial is None:
                await self._hold(connection, attempt, maddr)
            is_admitted = denial is None
        finally:
            # Also when this dial is cancelled while the gate is asked.
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
        """The swarm asked its gate about the name only, and that may mean another address now."""
        if address.name_protocol is None or self._swarm is None:
            return
        denial = await self._swarm_gate.denial(host, to_multiaddr(host, address.port))
        if denial is not None:
            raise DialError(f"{address.host} is {host}: {denial.reason}") from denial.cause

    async def _hold(self, connection: QUICConnection, engine: Connection, maddr: Multiaddr) -> None:
        """Keep a dialed connection from the swarm until the listener's gate can have answered.

        Without a swarm nothing waits: the next call on the connection raises what happened.
        Raises DialError with the listener's code.
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
        """A listener that we dialed kept us out, ``after`` so many seconds."""
        self._verdicts.turned_away(peer_id, after)

    # Gates

    def deny_addresses(self, addresses: Iterable[str]) -> None:
        """Refuse the handshakes that these IP addresses or networks begin, and of no others any more.

        The engine refuses them itself, before it does any work. Connections that exist live on,
        and dials are not asked. Raises ValueError, and then nothing has changed.
        """
        denied = [str(ip_network(each, strict=False)) for each in addresses]
        self._denied = denied
        if self._endpoint is not None and self._endpoint.is_current:
            self._endpoint.engine.deny(denied)

    async def denial(self, peer_id: ID, maddr: Multiaddr) -> Denial | None:
        """Why a proven peer that dialed us is kept from the swarm; None when it is admitted.

        The swarm would ask its gate, too, but later, and would close without saying why.
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
        # Looked up each time: a program may replace the swarm's gate.
        assert self._swarm is not None
        return self._swarm.connection_gate.is_allowed(maddr)

    async def dial_with_source(self, maddr: Multiaddr, source: tuple[str, int]) -> QUICConnection:
        """`dial`: ``source`` is a TCP address, and dials leave from our UDP socket anyway."""
        return await self.dial(maddr)

    def create_listener(self, handler_function: ConnectionHandler) -> QUICListener:
        """A listener that will call ``handler_function`` for each proven connection.

        Raises ListenError when the transport is closed.
        """
        if self._closed:
            raise ListenError("Transport is closed")
        listener = QUICListener(self, handler_function)
        self.hold(listener)
        return listener

    async def close(self) -> None:
        """Close listeners, connections and sockets.

        Waits until what closed streams owe is delivered, for at most the linger time and a
        little; cancelling stops that wait, not the closing. Idempotent.
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
        """Close it when the transport is closed. Raises ListenError after that."""
        if self._closed:
            raise ListenError("Transport is closed")
        # A list, as py-libp2p's host looks at the first.
        if listener not in self._listeners:
            self._listeners.append(listener)

    def release(self, listener: QUICListener) -> None:
        """It is closed, or did not come to listen: a host may make thousands of them."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def endpoint(self) -> LoopEndpoint:
        """The endpoint of the running event loop, made on first use."""
        if self._endpoint is None or not self._endpoint.is_current:
            self._endpoint = LoopEndpoint(self._identity, self._engine_config, self.limits.linger)
            self._house(self._endpoint)
            if self._denied:
                self._endpoint.engine.deny(self._denied)
        return self._endpoint

    def _house(self, endpoint: LoopEndpoint) -> None:
        endpoint.nursery = self._background_nursery
        # A swarm's nursery ends with the swarm; another's may wait for what lives in it.
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
