"""Dials an address: resolves it, races its IP addresses, and asks the gates.

Returns a connection when its handshake is complete and the gates of both sides can have answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress
from libp2p_quic._connection import REFUSALS, QUICConnection
from libp2p_quic._dial_progress import DialProgress
from libp2p_quic._driver import current_driver
from libp2p_quic._endpoint import LoopEndpoint
from libp2p_quic._engine import Connection
from libp2p_quic._engine_errors import ConnectionLostError, EndpointClosedError
from libp2p_quic._error_mapping import dial_error, joint_dial_error
from libp2p_quic._gate import GATED
from libp2p_quic._gates import Gates
from libp2p_quic._happy_eyeballs import ATTEMPT_DELAY, AllFailedError, Race, Ways, interleaved
from libp2p_quic._refusal_delay import RefusalDelays, free_time
from libp2p_quic._resolve import resolved
from libp2p_quic._webtransport_address import NEEDS_CERTHASH
from libp2p_quic.exceptions import DialError

logger = logging.getLogger("libp2p_quic.transport")

# An address, and one of the IP literals of its host.
_Way = tuple[QUICAddress, str]

# py-libp2p's tests search for the beginning.
CLOSED = "Transport is closed; make a new QUICTransport"


class Dialer:
    """Dials for one transport.

    ``open_endpoint`` returns the endpoint of the running event loop. It raises EndpointClosedError
    if the transport is closed, and OSError or ValueError if there can be none.
    """

    def __init__(
        self, gates: Gates, protocols: tuple[str, ...], open_endpoint: Callable[[], LoopEndpoint]
    ) -> None:
        self._gates = gates
        self._protocols = protocols
        self._open_endpoint = open_endpoint
        self._refusal_delays = RefusalDelays()

    async def dial(self, maddr: Multiaddr, progress: DialProgress) -> QUICConnection:
        """See `QUICTransport.dial`. ``progress`` follows the race."""
        address = self._parse(maddr)
        # Outside a trio run this raises an error that says so; any await would raise an obscure one.
        began = current_driver().current_time()
        hosts = interleaved(await resolved(address))
        if not hosts:
            raise DialError(f"no address for {maddr}")
        endpoint = self._endpoint_for(lambda: str(maddr))
        failures = (DialError, ConnectionLostError)
        begin = partial(self._begin, endpoint, address)
        finish = partial(self._finish, endpoint, address, began, self._pause_of_swarm)
        race = Race(
            endpoint.driver,
            begin,
            finish,
            endpoint.close_connection,
            failures,
            is_final=_finality([address.peer_id]),
            observer=progress,
        )
        progress.follow(lambda host: str(address.at(host)))
        try:
            return await race.run(hosts)
        except AllFailedError as failed:
            causes = [_dial_error(address, host, cause) for host, cause in failed.causes]
        raise causes[0] if address.name_protocol is None else joint_dial_error(str(maddr), causes)

    async def dial_peer(self, maddrs: Sequence[Multiaddr], progress: DialProgress) -> QUICConnection:
        """`dial_any`, for a swarm that wants to know whether the listener's gate admits it."""
        first = QUICAddress.parse(maddrs[0])
        held = first.host if first.name_protocol is None else ""
        free = self._refusal_delays.free_time
        return await self.dial_any(maddrs, free=free, held=held, progress=progress)

    async def dial_any(
        self,
        maddrs: Sequence[Multiaddr | QUICAddress],
        delay: float = ATTEMPT_DELAY,
        punched_rtt: float | None = None,
        free: Callable[[ID], float] = lambda _: 0.0,
        held: str = "",
        progress: DialProgress | None = None,
    ) -> QUICConnection:
        """Dial several addresses of one peer, and return the first connection that succeeds. A
        `QUICAddress` among them is an IP literal, and need not be parsed.

        They are raced as the addresses of a name in `dial` (RFC 8305): IPv6 first, ``delay`` seconds
        apart (default: 0.25), the next at once when one fails. The addresses of a name join the race when
        it is resolved, so that no other address waits for a name server.
        ``punched_rtt`` (seconds; default: None) is given if the peer punches holes for these dials. The
        connection is then not withheld until the listener's gate can have answered: the peer asked for
        it, and a relayed connection remains if it is refused.
        ``free`` (default: no time) gives how much of the time of an attempt costs nothing, in seconds.
        ``held`` (default: none) is the IP literal for which the swarm holds a slot of its resource manager.
        ``progress`` (default: none) follows the race.
        Always a checkpoint; canceling leaves nothing behind. Raises DialError or a subclass, with the
        ``causes`` of all addresses.
        """
        driver = current_driver()
        began: dict[_Way, float] = {}
        causes: list[DialError] = []
        addresses: list[QUICAddress] = []
        ways: Ways[_Way] = Ways(lambda each: interleaved(each, lambda way: way[1]))
        for maddr in dict.fromkeys(maddrs):
            try:
                address = self._parse(maddr)
                if address.name_protocol is None:
                    hosts = [address.host] if address.zone is None else await resolved(address)
                    ways.add([(address, host) for host in hosts])
                addresses.append(address)
            except DialError as error:
                causes.append(error)
        endpoint = self._endpoint_for(lambda: joined(maddrs))

        async def begin(way: _Way) -> Connection:
            began[way] = driver.current_time()
            # The swarm asks its gate about a peer's addresses only if `host.connect` dials them, and
            # before the first of its retries only; addresses of a hole punch come from the remote peer.
            return await self._begin(endpoint, *way, punched_rtt, is_asked=False, held=held)

        async def finish(way: _Way, attempt: Connection) -> QUICConnection:
            # Its own time: an address that was dead before it says nothing about this path.
            spare = None if punched_rtt is not None else free
            return await self._finish(endpoint, way[0], began[way], spare, way[1], attempt)

        async def wait(tokens: Sequence[int], until: float) -> None:
            with trio.CancelScope() as scope:
                ways.wake = scope.cancel
                await driver.wait_any(tokens, until)

        failures = (DialError, ConnectionLostError)
        final = _finality([address.peer_id for address in addresses])
        abandon = endpoint.close_connection
        race = Race(driver, begin, finish, abandon, failures, delay, final, wait, progress)
        if progress is not None:
            progress.follow(lambda way: str(way[0].at(way[1])))
        names = [each for each in addresses if each.name_protocol is not None]
        try:
            return await self._run(race, ways, names, causes)
        except AllFailedError as failed:
            causes += [_dial_error(way[0], way[1], cause) for way, cause in failed.causes]
        await driver.checkpoint()
        if len(causes) == 1:
            raise causes[0]
        if not causes:
            raise DialError("no address to dial")
        raise joint_dial_error(f"{len(causes)} addresses", causes)

    async def _run(
        self,
        race: Race[_Way, Connection, QUICConnection],
        ways: Ways[_Way],
        names: Sequence[QUICAddress],
        causes: list[DialError],
    ) -> QUICConnection:
        """Run a race that the addresses of ``names`` join. Errors of their lookups are added to ``causes``.

        Raises AllFailedError.
        """
        if not names:
            return await race.run(ways.waiting)
        unresolved = len(names)

        async def resolve(address: QUICAddress) -> None:
            nonlocal unresolved
            try:
                ways.add([(address, host) for host in await resolved(address)])
            except DialError as error:
                causes.append(error)
            unresolved -= 1
            if not unresolved:
                ways.end()

        failed: AllFailedError[_Way]
        async with trio.open_nursery() as nursery:
            for each in names:
                nursery.start_soon(resolve, each)
            try:
                connection = await race.run(ways)
                # A cancellation that comes while the lookups end must not lose it.
                nursery.cancel_scope.shield = True
                return connection
            except AllFailedError as error:
                # The nursery would wrap it.
                failed = error
            finally:
                nursery.cancel_scope.cancel()
        raise failed

    def _pause_of_swarm(self, peer: ID) -> float:
        return free_time(self._gates.swarm, peer)

    def _parse(self, maddr: Multiaddr | QUICAddress) -> QUICAddress:
        """Parse an address that can be dialed. Raises DialError."""
        try:
            address = maddr if isinstance(maddr, QUICAddress) else QUICAddress.parse(maddr)
        except QUICInvalidMultiaddrError as error:
            raise DialError(f"Invalid QUIC multiaddr: {error}") from error
        if address.port == 0:
            raise DialError(f"Invalid QUIC multiaddr: port 0 cannot be dialed: {maddr}")
        if address.is_webtransport and not address.certificate_hashes:
            raise DialError(f"{NEEDS_CERTHASH}: {maddr}")
        if address.base_protocol not in self._protocols:
            raise DialError(f"/{address.protocol} is turned off by the configuration: {maddr}")
        return address

    def _endpoint_for(self, what: Callable[[], str]) -> LoopEndpoint:
        """The endpoint that dials; ``what`` says which addresses. Raises DialError."""
        try:
            return self._open_endpoint()
        except EndpointClosedError as error:
            raise DialError(f"cannot dial {what()}: {CLOSED}") from error
        except (OSError, ValueError) as error:
            raise DialError(f"failed to dial {what()}: {error}") from error

    async def _begin(
        self,
        endpoint: LoopEndpoint,
        address: QUICAddress,
        host: str,
        punched_rtt: float | None = None,
        is_asked: bool = True,
        held: str = "",
    ) -> Connection:
        """Start an attempt at one address. Raises DialError.

        ``is_asked`` is whether the caller asked the swarm's gate about ``address``.
        """
        # About a name the gate answers for the best of its addresses, so it is asked again.
        if address.name_protocol is not None or not is_asked:
            denial = await self._gates.address_denial(host, address.port, held)
            if denial is not None:
                what = f"{address.host} is {host}" if address.name_protocol else str(address.at(host))
                raise DialError(f"{what}: {denial.reason}") from denial.cause
        if endpoint.is_over:
            raise DialError(f"cannot dial {address.at(host)}: {CLOSED}")
        endpoint.driver.follow_log_level()
        peer_id = address.peer_id.to_bytes() if address.peer_id else None
        try:
            hashes = list(address.certificate_hashes) if address.is_webtransport else None
            attempt = endpoint.engine.connect(
                host, address.port, peer_id, punched_rtt=punched_rtt, certificate_hashes=hashes
            )
        except (OSError, ValueError, EndpointClosedError) as error:
            raise DialError(f"failed to dial {address.at(host)}: {error}") from error
        endpoint.touch()
        return attempt

    async def _finish(
        self,
        endpoint: LoopEndpoint,
        address: QUICAddress,
        began: float,
        free: Callable[[ID], float] | None,
        host: str,
        attempt: Connection,
    ) -> QUICConnection:
        """Make the connection of an attempt whose handshake is complete. The dial began at ``began``.

        ``free`` gives how much of its time costs nothing, in seconds; None: wait for no refusal by the
        listener. Raises DialError if a gate denies the peer or the listener refuses us.
        """
        # The IP literal that was reached, also after a dial by name.
        maddr = address.at(host)
        connection = QUICConnection(attempt, endpoint, maddr, on_refused=self._refusal_delays.record_refusal)
        is_admitted, is_gated = False, self._gates.has_peer_gate
        try:
            denial = await self._gates.peer_denial(connection.peer_id, maddr)
            is_gated = denial is not None
            if denial is None and free is not None:
                spare = free(connection.peer_id)
                await self._await_refusal(endpoint, connection, attempt, maddr, began, spare)
            is_admitted = denial is None
        finally:
            # Also if the dial is canceled: as a denial while the gate decides, and else without blame.
            if is_gated:
                endpoint.close_connection(attempt, GATED, b"gated")
            elif not is_admitted:
                endpoint.close_connection(attempt)
        if denial is not None:
            raise DialError(f"failed to dial {maddr}: {denial.reason}", GATED) from denial.cause
        logger.debug("dialed %s at %s", connection.peer_id, maddr)
        connection._start_tasks()
        return connection

    async def _await_refusal(
        self,
        endpoint: LoopEndpoint,
        connection: QUICConnection,
        attempt: Connection,
        maddr: Multiaddr,
        began: float,
        free: float,
    ) -> None:
        """Withhold a dialed connection from the swarm until the listener's gate can have answered.

        ``free`` is how much of the dial's time costs nothing, in seconds. Without a swarm this returns
        at once, and the next call on the connection raises the refusal. Raises DialError with the
        listener's code.
        """
        if self._gates.swarm is None:
            return
        peer, rtt = connection.peer_id, connection.statistics().rtt
        spent = connection._began - began
        limit = self._refusal_delays.wait_time(peer, rtt, spent, free)
        try:
            with trio.move_on_at(connection._began + limit) as wait:
                # A listener that opens a stream has admitted us; hosts do, for identify.
                connection._keep(
                    await endpoint.driver.ready(attempt.accept_stream_nowait, attempt.acceptable)
                )
        except ConnectionLostError as lost:
            raise dial_error(lost, str(maddr)) from lost
        self._refusal_delays.record_admission(peer)
        if not wait.cancelled_caught:
            self._refusal_delays.record_stream(peer)
        elif free > 0:
            self._refusal_delays.record_silence(peer)


def joined(maddrs: Sequence[Multiaddr | QUICAddress]) -> str:
    """The texts of addresses that `Dialer.dial_any` takes."""
    return ", ".join(str(each.at(each.host) if isinstance(each, QUICAddress) else each) for each in maddrs)


def _finality(peers: Sequence[ID | None]) -> Callable[[Exception], bool]:
    """Whether an error of one address ends the dial of all: the peer has refused us.

    The codes are those of a close after the handshake, when TLS has proven the peer's id. The same peer
    has the same limit and the same gate at its other addresses. A refusal in the handshake (0x2) proves
    nothing: anybody on the path can send it. Addresses that name no peer, or several, are not of one peer.

    A peer that denies only one of our own addresses might admit another. Its operator wants no
    connection from us then either, and waiting for dead addresses costs a handshake timeout each.
    """
    is_one = None not in peers and len(set(peers)) == 1

    def is_final(error: Exception) -> bool:
        lost = error.__cause__ if isinstance(error, DialError) else error
        if not (is_one and isinstance(lost, ConnectionLostError)):
            return False
        return (lost.by, lost.kind) == ("peer", "closed") and lost.code in REFUSALS

    return is_final


def _dial_error(address: QUICAddress, host: str, cause: Exception) -> DialError:
    """Why the attempt at ``host`` failed."""
    if isinstance(cause, DialError):
        return cause
    assert isinstance(cause, ConnectionLostError)
    error = dial_error(cause, str(address.at(host)))
    error.__cause__ = cause
    return error
