"""py-libp2p's transport: makes listeners, dials, and owns the endpoint that they share.

The engine verifies peers inside the TLS handshake. This module does not see certificates.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

import trio
from libp2p.abc import ITransport
from libp2p.crypto.keys import PrivateKey
from libp2p.network.config import ConnectionConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import UNREADABLE, PeerAddresses, QUICAddress, check_type
from libp2p_quic._config import (
    QUICTransportConfig,
    chosen_connections,
    effective_values,
    engine_config,
    limits,
)
from libp2p_quic._connection import ConnectionHandler, QUICConnection
from libp2p_quic._dial import CLOSED, Dialer, joined
from libp2p_quic._dial_counts import DialCounts
from libp2p_quic._dial_progress import DialProgress
from libp2p_quic._driver import current_driver
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Endpoint
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._error_mapping import canceled_dial_error
from libp2p_quic._gate import denied_networks
from libp2p_quic._gates import Gates
from libp2p_quic._happy_eyeballs import ATTEMPT_DELAY
from libp2p_quic._host_key import identity_of
from libp2p_quic._last_failures import LastFailures
from libp2p_quic._limited_dials import limited_dials
from libp2p_quic._listener import QUICListener
from libp2p_quic._statistics import EndpointStatistics, added, endpoint_statistics
from libp2p_quic._swarm_limits import admitted
from libp2p_quic.exceptions import DialError, HostKeyError, InvalidConfigError, ListenError

logger = logging.getLogger("libp2p_quic.transport")


# py-libp2p recognizes a QUIC transport by this class name.
class QUICTransport(ITransport):
    """libp2p over QUIC version 1 (RFC 9000), and over WebTransport on the same port.

    ``private_key`` is the host's key; docs/keys.md lists the supported types. ``config`` is a
    `QUICTransportConfig` of this package or of py-libp2p (default: this package's defaults). It is
    read once, by the constructor. ``enable_autotls`` has no effect: libp2p's certificate for QUIC
    is made from the host key. A transport serves one trio run at a time and can be used again in
    a later run.

    Raises HostKeyError (HostKeyTypeError, a TypeError, if ``private_key`` is not a private key) and
    InvalidConfigError.
    """

    provides_native_muxing = True
    """Tells the swarm that connections of this transport are not upgraded: QUIC has streams and TLS."""
    # Called with every swarm that a transport is attached to; `install` sets them.
    _swarm_hooks: ClassVar[tuple[Callable[[QUICTransport, Swarm], None], ...]] = ()

    def __init__(
        self,
        private_key: PrivateKey,
        config: StockConfig | None = None,
        enable_autotls: bool = False,
    ) -> None:
        _warn_of_asyncio()
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
        self._limits = limits(self._config)
        self._effective = effective_values(self._config)
        self._peer_id = ID(self._identity.peer_id)
        self._gates = Gates(self._limits.gate_peer, self._limits.gate_timeout)
        self._dialer = Dialer(self._gates, self._limits.protocols, self._open_endpoint)
        self._last_failures: LastFailures[DialError] = LastFailures()
        self._closed = False
        # Only py-libp2p's tests read this: they expect one entry for each version.
        self._quic_configs = dict.fromkeys(self.protocols(), self._engine_config)
        self._endpoint: LoopEndpoint | None = None
        self._dials = DialCounts()
        # The engine's endpoint of the last run, and what those of earlier runs counted.
        self._counting: Endpoint | None = None
        self._earlier = EndpointStatistics()
        self._denied: list[str] = []
        self._background_nursery: trio.Nursery | None = None
        # A list, as py-libp2p's host reads its first element.
        self._listeners: list[QUICListener] = []

    def effective_config(self) -> dict[str, object]:
        """The value in effect for each configuration field that this transport reads.

        Synonyms have the same value. None and infinity mean no limit. Fields that the swarm reads
        are in `Swarm.connection_config`.
        """
        return dict(self._effective)

    def statistics(self) -> EndpointStatistics:
        """A snapshot of what this transport did in all its runs, and what it has in use now.

        Its cost does not depend on the number of connections. Waits for nothing; may be called in any
        thread, and after `close`. `libp2p_quic.metrics` gives it to Prometheus.
        """
        counted = added(self._earlier, endpoint_statistics(self._counting))
        return counted._replace(
            **self._dials.fields(),
            refused_by_gate=self._gates.denied,
            refused_by_swarm=self._gates.refused_by_swarm,
        )

    # Called by the swarm

    def set_background_nursery(self, nursery: trio.Nursery) -> None:
        """Run background tasks in ``nursery``. Without this call they are system tasks."""
        self._background_nursery = nursery
        if self._endpoint is not None:
            self._attach(self._endpoint)

    def set_swarm(self, swarm: Swarm) -> None:
        """Attach the swarm that uses this transport.

        Raises InvalidConfigError if the swarm has a pre-shared key: libp2p's pnet
        specification protects raw connections only, so a peer without the key could connect over
        QUIC. go-libp2p refuses too. Raises HostKeyError if the swarm's peer id is not that of this
        transport's key: every peer that dials the host's id would refuse this transport's
        certificate, and only the peer would see the reason. Logs a WARNING if another swarm that
        uses this transport still runs.
        """
        if getattr(swarm, "psk", None) is not None:
            raise InvalidConfigError("QUIC cannot take part in a private network (psk): use TCP, or no psk")
        if swarm.get_peer_id() != self._peer_id:
            raise HostKeyError(
                f"the transport's private key is that of peer {self._peer_id}, and the host is "
                f"{swarm.get_peer_id()}: give both the same key_pair, "
                "new_host(key_pair=key_pair, transports=[QUICTransport(key_pair.private_key)])"
            )
        previous = self._gates.swarm
        if previous is not None and previous is not swarm and previous.get_manager().is_running:
            logger.warning(
                "the transport of peer %s is used by two hosts that run: their gates, limits and "
                "connections mix; make one QUICTransport for each host",
                self._peer_id,
            )
        self._gates.swarm = swarm
        if self._endpoint is not None:
            # It was made before, by a dial or a listener of the program.
            self._attach(self._endpoint)
        self._compare_limits(swarm.connection_config)
        for hook in self._swarm_hooks:
            hook(self, swarm)

    def _compare_limits(self, swarm: ConnectionConfig) -> None:
        """The swarm has a limit of its own, and reserves a part of it for its own dials."""
        most = chosen_connections(self._config)
        if most is not None and admitted(swarm) < most:
            logger.warning(
                "max_connections of the transport is %d, and the swarm admits %d inbound connections, its "
                "max_connections (%d) less its min_connections (%d): give new_host a connection_config",
                most,
                admitted(swarm),
                swarm.max_connections,
                swarm.min_connections,
            )

    # Addresses

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether `dial` serves this kind of address, with an IP literal or a name. Asks no network."""
        return self._serves(QUICAddress.parse, maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Whether a listener serves this kind of address, with an IP literal. Asks no network."""
        return self._serves(QUICAddress.parse_literal, maddr)

    def _serves(self, parse: Callable[[Multiaddr], QUICAddress], maddr: Multiaddr) -> bool:
        try:
            return parse(maddr).base_protocol in self._limits.protocols
        except QUICInvalidMultiaddrError:
            return False

    def protocols(self) -> list[str]:
        """The multiaddr protocols in use. "quic" (draft 29 in py-libp2p) is served by QUIC v1."""
        return list(self._limits.protocols)

    def listen_order(self) -> int:
        """1, to come after TCP, which has 0 in py-libp2p."""
        return 1

    # Dialing and listening

    async def dial(self, maddr: Multiaddr) -> QUICConnection:
        """Dial ``maddr``. Returns a connection whose handshake is complete and peer verified.

        The dial leaves from the listening socket that can reach the address, if there is one. With
        /p2p/PEER in ``maddr`` only that peer is accepted, without it any peer. The addresses of a
        name are raced 250 ms apart, or at once after one that fails or whose port is unreachable
        (RFC 8305), without those that the swarm's connection gate denies. While nothing answers,
        the handshake is restarted every 0.8 s, so that a peer that starts late is reached within a
        second. Always a checkpoint; canceling leaves nothing behind, and `last_failure` tells what came
        of the dial.

        Raises DialError or a subclass: PeerIdMismatchError, HandshakeRefusedError,
        HandshakeTimeoutError after the configured CONNECTION_HANDSHAKE_TIMEOUT (default: 10 s), or
        UnreachableError, at once or after the second report of the system or the network. If
        several addresses fail, the class is that of the most specific error; the text and
        ``causes`` have all of them. Raises TypeError if ``maddr`` is no Multiaddr.
        """
        check_type(maddr, "dial")
        if self._closed:
            raise DialError(f"cannot dial {maddr}: {CLOSED}")
        # From `_peer_dial`, through the swarm's dial of one address.
        is_peer = isinstance(maddr, PeerAddresses)
        maddrs: tuple[Multiaddr, ...] = maddr.addresses if is_peer else (maddr,)
        # Outside a trio run this raises an error that says so.
        current_driver()
        deadline = trio.current_effective_deadline()
        text = _readable(maddr)
        progress = DialProgress(text if len(maddrs) == 1 else f"{len(maddrs)} addresses")
        connection: QUICConnection | None = None
        try:
            # Several addresses of a peer are all of one kind.
            with self._dials.counted("/webtransport" in text):
                if is_peer:
                    connection = await self._dialer.dial_peer(maddrs, progress)
                else:
                    connection = await self._dialer.dial(maddr, progress)
        except DialError as error:
            self._note_failure(maddrs, error, deadline)
            raise
        finally:
            # Canceled: trio's Cancelled, or a group of several from the nursery that resolves names.
            if connection is None and not isinstance(sys.exc_info()[1], Exception):
                self._note_failure(maddrs, canceled_dial_error(progress), deadline)
        if self._last_failures:
            self._last_failures.forget(map(_key, maddrs))
            limited_dials.forget(deadline)
        return connection

    def _note_failure(self, maddrs: Sequence[Multiaddr], error: DialError, deadline: float) -> None:
        # The only line of a failed dial; the error has the reason of each address.
        logger.debug("%s", error)
        keys = tuple(map(_key, maddrs))
        self._last_failures.record(keys, error)
        limited_dials.record(deadline, keys, error)

    def last_failure(self, maddr: Multiaddr) -> DialError | None:
        """Why the last dial of this address failed: the error that `dial` raised.

        If the program canceled the dial, for instance by `trio.fail_after` around it or around
        ``host.connect``, it is the error that says what had come of the dial until then. A peer id in
        ``maddr`` is ignored. None if the last dial succeeded, or if there was none, or none among
        the last 256 addresses that failed. Raises TypeError if ``maddr`` is no Multiaddr.
        """
        check_type(maddr, "last_failure")
        return self._last_failures.get(_key(maddr))

    async def _dial_any(
        self,
        maddrs: Sequence[Multiaddr | QUICAddress],
        delay: float = ATTEMPT_DELAY,
        punched_rtt: float | None = None,
    ) -> QUICConnection:
        """See `Dialer.dial_any`."""
        if self._closed:
            raise DialError(f"cannot dial {joined(maddrs)}: {CLOSED}")
        with self._dials.counted():
            return await self._dialer.dial_any(maddrs, delay, punched_rtt)

    async def dial_with_source(self, maddr: Multiaddr, source: tuple[str, int]) -> QUICConnection:
        """`dial`. ``source`` is a TCP address and is ignored: dials leave from our UDP socket."""
        return await self.dial(maddr)

    def create_listener(self, handler_function: ConnectionHandler) -> QUICListener:
        """A listener that calls ``handler_function`` for each verified connection.

        Raises ListenError if the transport is closed.
        """
        if self._closed:
            raise ListenError(f"cannot make a listener: {CLOSED}")
        listener = QUICListener(
            handler_function, self._open_endpoint, self._add_listener, self._remove_listener
        )
        # Only py-libp2p's tests read this.
        listener._transport = self
        self._add_listener(listener)
        return listener

    # Gates

    def deny_addresses(self, addresses: Iterable[str]) -> None:
        """Replace the deny list: refuse inbound handshakes from these IP addresses or networks.

        The engine refuses them before it does any cryptographic work. Existing connections stay
        open, and dials are not affected. Raises ValueError for an invalid address and then changes
        nothing.
        """
        denied = denied_networks(addresses)
        if self._endpoint is not None and self._endpoint.is_current:
            self._endpoint.engine.deny(denied)
        # The endpoints of later runs get it when they are made.
        self._denied = denied

    # Closing

    async def close(self) -> None:
        """Close listeners, connections and sockets.

        Waits until closed streams are delivered, for at most ``linger`` (default: 1 s) and two
        seconds. Canceling ends the wait, not the close. Idempotent.
        """
        self._closed = True
        endpoint, self._endpoint = self._endpoint, None
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener._stop()
        if endpoint is not None and endpoint.is_current:
            await endpoint.close()
            logger.debug("transport of %s closed", self._peer_id)
        await trio.lowlevel.checkpoint()

    def _add_listener(self, listener: QUICListener) -> None:
        """Close ``listener`` when the transport is closed. Raises ListenError if it is already."""
        if self._closed:
            raise ListenError(f"cannot listen: {CLOSED}")
        if listener not in self._listeners:
            self._listeners.append(listener)

    def _remove_listener(self, listener: QUICListener) -> None:
        """Forget a listener that is closed or failed to listen: a host may make thousands."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _open_endpoint(self) -> LoopEndpoint:
        """The endpoint of the running event loop, made on first use.

        Raises EndpointClosedError if the transport is closed, and OSError or ValueError.
        """
        if self._closed:
            raise EndpointClosedError("the transport is closed")
        if self._endpoint is None or not self._endpoint.is_current:
            self._endpoint = LoopEndpoint(self._identity, self._engine_config, self._limits, self._gates)
            self._earlier = added(self._earlier, endpoint_statistics(self._counting))
            self._counting = self._endpoint.engine
            self._attach(self._endpoint)
            if self._denied:
                self._endpoint.engine.deny(self._denied)
        return self._endpoint

    def _attach(self, endpoint: LoopEndpoint) -> None:
        endpoint.nursery = self._background_nursery
        # A swarm cancels its nursery when it ends. Another nursery may wait for its tasks instead.
        if self._background_nursery is not None and self._gates.swarm is not None:
            endpoint.end_with(self._background_nursery)


def _key(maddr: Multiaddr) -> object:
    """Of `LastFailures`: the address without the peer id. The same for each form of a multiaddr."""
    try:
        return replace(QUICAddress.parse(maddr), peer_id=None)
    except QUICInvalidMultiaddrError:
        return maddr.to_bytes()


def _readable(maddr: Multiaddr) -> str:
    try:
        return str(maddr)
    except UNREADABLE:
        # `dial` raises the error that says why.
        return "an unreadable address"


def _warn_of_asyncio() -> None:
    """Warn of a program that runs asyncio. A host fails there inside trio, with an AttributeError."""
    asyncio = sys.modules.get("asyncio")
    try:
        if asyncio is None or asyncio.current_task() is None:
            return
    except RuntimeError:
        # No asyncio loop runs in this thread.
        return
    logger.warning(
        "the program runs asyncio, and py-libp2p and libp2p_quic need trio: run it with trio.run(main)"
    )
