"""An endpoint of the engine with asyncio's methods: dials, listens, and closes what it made.

One identity with its sockets. All listeners and dials of an endpoint share it, so that dials leave
from the listening socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from types import TracebackType

from libp2p_quic._dial_attempt import DialAttempt
from libp2p_quic._dial_counts import DialCounts
from libp2p_quic._dial_progress import DialProgress
from libp2p_quic._driver._asyncio import AsyncioDriver, current
from libp2p_quic._engine import Connection as EngineConnection
from libp2p_quic._engine import Endpoint as EngineEndpoint
from libp2p_quic._engine_errors import ConnectionLostError, EndpointClosedError
from libp2p_quic._exception_types import DialError, ListenError, dial_error, joint_dial_error
from libp2p_quic._gate import GATED, denied_networks
from libp2p_quic._happy_eyeballs import AllFailedError, Race, interleaved
from libp2p_quic._identity import Identity
from libp2p_quic._last_failures import LastFailures
from libp2p_quic._peer_id import PeerId
from libp2p_quic._statistics import EndpointStatistics, endpoint_statistics
from libp2p_quic._webtransport_address import NEEDS_CERTHASH
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.gate import AsyncioGate
from libp2p_quic.asyncio.listener import Listener
from libp2p_quic.asyncio.resolve import resolved

logger = logging.getLogger("libp2p_quic.endpoint")

# Time beyond `linger` for the last packets and for closing the sockets. Seconds.
_CLOSE_MARGIN = 2.0


class Endpoint:
    """libp2p over QUIC version 1 (RFC 9000) for one asyncio event loop.

    ``identity`` is the host key, ``config`` the limits and timeouts (default: `EndpointConfig`).
    Constructing it opens nothing. It belongs to the loop in which it is used first, and is closed
    when that loop ends; ``async with`` closes it earlier.
    """

    def __init__(self, identity: Identity, config: EndpointConfig | None = None) -> None:
        """Raises TypeError if ``identity`` or ``config`` is of another class."""
        if not isinstance(identity, Identity):
            raise TypeError(f"identity must be an Identity, got a {type(identity).__name__}")
        if not isinstance(config, EndpointConfig | None):
            raise TypeError(f"config must be an EndpointConfig, got a {type(config).__name__}")
        self.identity = identity
        self.config = EndpointConfig() if config is None else config
        gate = self.config.gate_peer
        self._gate = None
        if gate is not None:
            name = f"gate_peer ({getattr(gate, '__qualname__', type(gate).__qualname__)})"
            self._gate = AsyncioGate(name, gate, self.config.gate_timeout)
        self._last_failures: LastFailures[DialError] = LastFailures()
        self._listeners: list[Listener] = []
        # By the gate, of listeners that are closed.
        self._gated_before = 0
        self._dials = DialCounts()
        self._denied: list[str] = []
        self._is_closed = False
        self._open: tuple[AsyncioDriver, EngineEndpoint, Callable[[], None]] | None = None

    @property
    def peer_id(self) -> PeerId:
        """The peer id of ``identity``."""
        return self.identity.peer_id

    def _opened(self) -> tuple[AsyncioDriver, EngineEndpoint, Callable[[], None]]:
        driver = current()
        if self._is_closed:
            raise EndpointClosedError("the endpoint is closed")
        if self._open is None:
            engine = EngineEndpoint(self.identity._engine, self.config.engine_config(), driver.ready_queue)
            driver.adopt(engine)
            if self._denied:
                engine.deny(self._denied)
            self._open = driver, engine, partial(driver.touch, engine)
        elif self._open[0] is not driver:
            raise RuntimeError("the endpoint belongs to another event loop: make one for each loop")
        return self._open

    async def listen(self, address: str) -> Listener:
        """Bind a UDP socket to ``address``, a multiaddr such as "/ip4/0.0.0.0/udp/9000/quic-v1".

        With /webtransport at its end the socket also serves WebTransport, as browsers dial, and
        ``listener.webtransport_address`` is the address for them. Port 0 lets the system choose;
        ``listener.address`` tells. Does not suspend, so that it is never canceled in the middle.
        Raises InvalidAddressError, and ListenError if the system refuses (for example an address in
        use) or the endpoint is closed.
        """
        parsed = Address.parse_literal(address)
        if parsed.peer_id not in (None, self.peer_id):
            raise ListenError(f"cannot listen on {address}: this endpoint is {self.peer_id}")
        try:
            driver, engine, touch = self._opened()
            made = engine.listen(parsed.host, parsed.port)
            if parsed.is_webtransport:
                made.serve_webtransport(True)
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror or error}") from error
        except EndpointClosedError as error:
            raise ListenError(f"cannot listen on {address}: the endpoint is closed") from error
        driver.follow_log_level()
        touch()
        hashes = engine.certificate_hashes if parsed.is_webtransport else None
        listener = Listener(made, driver, touch, self.config, self._gate, self._forget, hashes)
        self._listeners.append(listener)
        logger.info("listening on %s", listener.address)
        if parsed.is_webtransport:
            logger.info("listening on %s", listener.webtransport_address)
        if limitation := made.limitation:
            logger.warning("%s: %s", listener.address, limitation)
        return listener

    def _forget(self, listener: Listener) -> None:
        self._listeners.remove(listener)
        self._gated_before += listener.gated

    async def connect(self, address: str, *, attempts: list[DialAttempt] | None = None) -> Connection:
        """Dial ``address``, a multiaddr. Returns a connection whose handshake is complete and whose
        peer is verified.

        With /p2p/PEER in ``address`` only that peer is accepted, without it any peer. The dial
        leaves from the listening socket that can reach the address, if there is one. The addresses
        of a name are raced 250 ms apart (RFC 8305). Canceling leaves nothing behind, and `last_failure`
        tells what came of the dial.

        ``attempts`` is a list of the caller, to which each address is added when it is tried, and
        which another task may read meanwhile: when it began and ended, how, and what was sent.

        Raises InvalidAddressError, and DialError or a subclass: PeerIdMismatchError,
        HandshakeRefusedError, HandshakeTimeoutError after the configured ``handshake_timeout``
        (default: 10 s), or UnreachableError, at once or after the second report of the system or
        the network. If several addresses fail, the class is that of the most specific error; the
        text and ``causes`` have all of them.
        """
        parsed = Address.parse(address)
        progress = DialProgress(str(address), attempts)
        try:
            with self._dials.counted(parsed.is_webtransport):
                connection = await self._connect(parsed, address, progress)
        except DialError as error:
            self._note_failure(parsed, error)
            raise
        except asyncio.CancelledError as canceled:
            failure = progress.canceled()
            self._note_failure(parsed, failure)
            # `asyncio.timeout` raises TimeoutError from it, so that its traceback shows the failure.
            raise canceled from failure
        self._last_failures.forget([_key(parsed)])
        return connection

    def _note_failure(self, parsed: Address, error: DialError) -> None:
        # The only line of a failed dial; the error has the reason of each address.
        logger.debug("%s", error)
        self._last_failures.record([_key(parsed)], error)

    def last_failure(self, address: str) -> DialError | None:
        """Why the last dial of this address failed: the error that `connect` raised.

        If the program canceled the dial, for instance by `asyncio.timeout`, it is the error that says
        what had come of the dial until then; the traceback of the TimeoutError shows it too. A peer id
        in ``address`` is ignored. None if the last dial succeeded, or if there was none, or none
        among the last 256 addresses that failed. Raises InvalidAddressError.
        """
        return self._last_failures.get(_key(Address.parse(address)))

    async def _connect(self, parsed: Address, address: str, progress: DialProgress) -> Connection:
        """`connect` to ``parsed``, which was given as ``address``. ``progress`` follows the race."""
        if parsed.port == 0:
            raise DialError(f"failed to dial {address}: port 0 cannot be dialed")
        if parsed.is_webtransport and not parsed.certificate_hashes:
            raise DialError(f"failed to dial {address}: {NEEDS_CERTHASH}")
        try:
            driver, _, touch = self._opened()
        except (OSError, EndpointClosedError) as error:
            raise DialError(f"failed to dial {address}: {error}") from error
        hosts = interleaved(await resolved(parsed))
        if not hosts:
            raise DialError(f"failed to dial {address}: the name has no address")

        def abandon(attempt: EngineConnection) -> None:
            attempt.close(0, b"")
            touch()

        failures = (DialError, ConnectionLostError)
        begin, finish = partial(self._begin, parsed), partial(self._finish, parsed)
        race = Race(driver, begin, finish, abandon, failures, observer=progress)
        progress.follow(lambda host: str(parsed.at(host)), partial(_dial_error, parsed))
        try:
            return await race.run(hosts)
        except AllFailedError as failed:
            causes = [_dial_error(parsed, host, cause) for host, cause in failed.causes]
        raise causes[0] if parsed.name_protocol is None else joint_dial_error(str(parsed), causes)

    async def _begin(self, address: Address, host: str) -> EngineConnection:
        """Start an attempt at one address. Raises DialError."""
        peer_id = bytes(address.peer_id) if address.peer_id is not None else None
        try:
            driver, engine, touch = self._opened()
            driver.follow_log_level()
            hashes = list(address.certificate_hashes) if address.is_webtransport else None
            attempt = engine.connect(host, address.port, peer_id, certificate_hashes=hashes)
        except (OSError, ValueError, EndpointClosedError) as error:
            raise DialError(f"failed to dial {address.at(host)}: {error}") from error
        touch()
        return attempt

    async def _finish(self, address: Address, host: str, attempt: EngineConnection) -> Connection:
        """Make the connection of an attempt whose handshake is complete. Raises DialError if the
        gate denies the peer."""
        driver, _, touch = self._opened()
        driver.follow_log_level()
        connection = Connection(attempt, driver, touch, self.config.negotiation_timeout)
        reached = str(address.at(host))
        if self._gate is None:
            logger.debug("dialed %s at %s", connection.peer_id, reached)
            return connection
        is_admitted = False
        try:
            peer = f"{connection.peer_id} at {reached}"
            denial = await self._gate.denial(peer, connection.peer_id, reached)
            is_admitted = denial is None
        finally:
            # Also if the dial is canceled while the gate decides.
            if not is_admitted:
                connection.close(GATED, "gated")
        if denial is not None:
            raise DialError(f"failed to dial {reached}: {denial.reason}", GATED) from denial.cause
        logger.debug("dialed %s at %s", connection.peer_id, reached)
        return connection

    def deny_addresses(self, addresses: Iterable[str]) -> None:
        """Replace the deny list: refuse inbound handshakes from these IP addresses or networks.

        The engine refuses them before it does any cryptographic work. Existing connections stay
        open, and dials are not affected. Raises ValueError for an invalid address and then changes
        nothing.
        """
        self._denied = denied_networks(addresses)
        if self._open is not None:
            self._open[1].deny(self._denied)

    def statistics(self) -> EndpointStatistics:
        """A snapshot of what this endpoint did, and what it has in use now.

        Its cost does not depend on the number of connections. Does not suspend; may be called in any
        thread, and after `close`. `libp2p_quic.metrics` gives it to Prometheus.
        """
        return endpoint_statistics(None if self._open is None else self._open[1])._replace(
            **self._dials.fields(),
            refused_by_gate=self._gated_before + sum(listener.gated for listener in self._listeners),
        )

    async def close(self) -> None:
        """Close listeners, connections and sockets.

        Waits until finished streams are delivered, for at most the configured ``linger`` (default:
        1 s) and two seconds. Canceling ends the wait, not the close. Idempotent.
        """
        self._is_closed = True
        for listener in list(self._listeners):
            listener.close()
        if self._open is None:
            return
        driver, engine, touch = self._open
        engine.close(0, b"")
        touch()
        deadline = driver.current_time() + self.config.linger + _CLOSE_MARGIN
        try:
            while engine.closed_nowait() is None and driver.current_time() < deadline:
                await driver.wait_any([engine.closed], deadline)
        finally:
            driver.release(engine)

    async def __aenter__(self) -> Endpoint:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Endpoint {self.peer_id}, {'closed' if self._is_closed else 'open'}>"


def _key(address: Address) -> Address:
    """Of `LastFailures`: the address without the peer id."""
    return replace(address, peer_id=None)


def _dial_error(address: Address, host: str, cause: Exception) -> DialError:
    """Why the attempt at ``host`` failed."""
    if isinstance(cause, DialError):
        return cause
    assert isinstance(cause, ConnectionLostError)
    return dial_error(cause, str(address.at(host)))
