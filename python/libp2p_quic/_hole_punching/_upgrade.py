"""libp2p's DCUtR: upgrades relayed connections to direct ones, in both roles, as go-libp2p and
rust-libp2p speak it.

The side that the relayed connection came in to begins. For each of three attempts it exchanges
addresses and takes the round-trip time (CONNECT), tells the other side to begin (SYNC), and half a
round trip later punches and waits as the QUIC server. If nobody comes in at once, it dials too, as
rust-libp2p does; in the third attempt it only dials, as go-libp2p does. The other side dials at once. A
direct connection that either side dialed is a success.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast
from weakref import WeakKeyDictionary

import trio
from libp2p.abc import IHost, IMuxedConn, INetConn, INetStream, INetwork
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.relay.circuit_v2.dcutr import PROTOCOL_ID
from multiaddr import Multiaddr

from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._callback import call_foreign
from libp2p_quic._connection import QUICConnection
from libp2p_quic._dial import joined
from libp2p_quic._driver import gather_writes
from libp2p_quic._engine import Inbound
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._hole_punching._acceptance import Accepting
from libp2p_quic._hole_punching._candidates import own_addresses, public_addresses, usable_addresses
from libp2p_quic._hole_punching._dial_limit import DialLimit
from libp2p_quic._hole_punching._exchange import (
    ExchangeError,
    NoAnswerError,
    begin_exchange,
    join_exchange,
    open_exchange,
    reset,
)
from libp2p_quic._hole_punching._precedence import Precedence
from libp2p_quic._host_events import PromptNotifee
from libp2p_quic._prompt_lock import PromptLock
from libp2p_quic._repair import Repair, is_relayed, is_relayed_stream, set_handler
from libp2p_quic._transport import QUICTransport
from libp2p_quic.exceptions import DialError

logger = logging.getLogger("libp2p_quic.hole_punching")

# The specification: "inbound peers SHOULD retry twice".
ATTEMPTS = 3
# The longest that one attempt punches or dials: go-libp2p's. Seconds.
LIMIT = 5.0
# How long the server waits for the client's packets before it dials too: at least this, and a round trip.
# Below go-libp2p's first repetition, which comes after 200 ms. Seconds.
_PROMPT = 0.1
# An attempt that takes longer has mostly failed. What remains of `LIMIT` is enough for peers to answer.
# Seconds.
_SLOW = 2.0
# How long the relayed connection stays after the upgrade, for its streams to end: py-libp2p's. Seconds.
GRACE = 60.0
# Pauses before the first attempt is tried again, while the own observed address is not known yet, or
# the peer has no handler yet: go-libp2p sets it once it knows an address of its own. Seconds.
_PATIENCE = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# Peers that are upgraded at the same time, and further ones that wait for that.
_MOST_PEERS = 16
_MOST_WAITING = 256
# Attempts that one relayed connection may ask for: twice the specification's.
_MOST_ASKED = 2 * ATTEMPTS
# Upgrades of one relayed connection after a direct one ended.
_MOST_RESTARTS = 2
# For closing a connection that the swarm does not take. Seconds.
_CLOSING = 1.0
# For how long the messages of an exchange may wait for each other. A busy interpreter needs some
# milliseconds to write those of one side. Seconds.
_GATHERING = 0.005


class _Joined:
    """Addresses for a log line. Their text costs time, which few programs read."""

    def __init__(self, addresses: Sequence[QUICAddress]) -> None:
        self._addresses = addresses

    def __str__(self) -> str:
        return joined(self._addresses) or "no address"


class Upgrades(PromptNotifee):
    """The upgrades of one host. Its tasks end with the swarm, or with `undo` of its `Repair`."""

    def __init__(
        self,
        host: IHost,
        transport: QUICTransport,
        precedence: Precedence,
        renew_addresses: Callable[[], Awaitable[None]],
    ) -> None:
        """``precedence`` is taken when this side begins, and ends with each upgrade.
        ``renew_addresses`` asks peers again how they observe the host."""
        self.host = host
        self.swarm: Any = host.get_network()
        self.transport = transport
        self._renew_addresses = renew_addresses
        self._scopes: set[trio.CancelScope] = set()
        self._is_on = False
        # The handler of DCUtR.
        self.serve_stream = Accepting(PROTOCOL_ID, self._serve_stream, reads_first=True)
        self._undo_handler: Callable[[], None] = lambda: None
        # Set when a direct connection to the peer is in the swarm.
        self._expected: dict[ID, set[trio.Event]] = {}
        # The peers that are upgraded or wait for it, with the addresses that were dialed without a punch.
        self._beginning: dict[ID, set[tuple[str, int]]] = {}
        self._slots = PromptLock(trio.CapacityLimiter(_MOST_PEERS))
        self._dials = DialLimit()
        # What happened on each relayed connection.
        self._counts: WeakKeyDictionary[IMuxedConn, Counter[str]] = WeakKeyDictionary()
        self._precedence = precedence

    def begin(self) -> Repair:
        """Serve DCUtR, and upgrade relayed connections that come in from now on."""
        self._is_on = True
        self.swarm.register_notifee(self)
        self._undo_handler = set_handler(self.host, PROTOCOL_ID, self.serve_stream)

        def undo() -> None:
            self._is_on = False
            self.swarm.remove_notifee(self)
            self._undo_handler()
            for scope in list(self._scopes):
                scope.cancel()

        what = "DCUtR over QUIC: punches from the listening socket, with the addresses that peers observe"
        why = "py-libp2p 0.8.1 punches from a socket that nobody uses, and only if a program runs it"
        return Repair(what, undo, why, is_addition=True)

    def serve_again(self) -> None:
        """Set the handler if it was removed: py-libp2p's own service does so when it ends."""
        if self._is_on and self.host.get_mux().handlers.get(PROTOCOL_ID) is None:
            self._undo_handler = set_handler(self.host, PROTOCOL_ID, self.serve_stream)

    # What the swarm tells

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        if not is_relayed(conn):
            self._note_direct(conn)
            return
        self._counts.setdefault(conn.muxed_conn, Counter())
        if _is_inbound(conn):
            self._precedence.take(conn.muxed_conn)
            self._spawn_upgrade(conn.muxed_conn.peer_id)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """Begin again if that was the last direct connection: while it was there, perhaps dead already, no
        relayed connection was upgraded."""
        peer_id = conn.muxed_conn.peer_id
        is_closing = getattr(self.swarm, "_closing", False)
        if is_closing or is_relayed(conn) or self.direct(peer_id) is not None:
            return
        for relayed in filter(_is_inbound, self._relayed(peer_id)):
            counts = self._counts.setdefault(relayed.muxed_conn, Counter())
            if counts["restarts"] < _MOST_RESTARTS:
                counts["restarts"] += 1
                self._spawn_upgrade(peer_id)
                return

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        # Before its protocol is agreed on: the first streams of a relayed connection may be exchanges.
        counts = self._counts.get(stream.muxed_conn)
        if counts is not None and counts["streams"] < _MOST_ASKED:
            counts["streams"] += 1
            gather_writes(_GATHERING)

    def _note_direct(self, direct: INetConn) -> None:
        peer_id = direct.muxed_conn.peer_id
        for event in self._expected.get(peer_id, ()):
            event.set()
        relayed = self._relayed(peer_id)
        for each in relayed:
            self._precedence.end(each.muxed_conn)
        if relayed:
            work = partial(self._end_relayed, direct, relayed)
            self.spawn(f"the relayed connection to {peer_id}", work)

    def _connections(self, peer_id: ID) -> list[INetConn]:
        return [each for each in self.swarm.get_connections(peer_id) if not each.is_closed]

    def _relayed(self, peer_id: ID) -> list[INetConn]:
        """The newest is the last."""
        return [each for each in self._connections(peer_id) if is_relayed(each)]

    def is_only_relayed(self, peer_id: ID) -> bool:
        """Whether the swarm has a relayed connection to the peer, and no direct one."""
        connections = self._connections(peer_id)
        return bool(connections) and all(is_relayed(each) for each in connections)

    def direct(self, peer_id: ID) -> INetConn | None:
        """A direct connection to the peer, if the swarm has one."""
        return next((each for each in self._connections(peer_id) if not is_relayed(each)), None)

    @contextmanager
    def expecting(self, peer_id: ID) -> Iterator[trio.Event]:
        """An event that is set when a direct connection to the peer is in the swarm."""
        event = trio.Event()
        if self.direct(peer_id) is not None:
            event.set()
        events = self._expected.setdefault(peer_id, set())
        events.add(event)
        try:
            yield event
        finally:
            events.discard(event)
            if not events and self._expected.get(peer_id) is events:
                del self._expected[peer_id]

    # Tasks

    def spawn(self, what: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run ``work`` in a task of its own until the swarm ends or `undo` is called."""

        async def run() -> None:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    # It calls py-libp2p, whose exceptions must not end the swarm.
                    await call_foreign(what, work)
                finally:
                    self._scopes.discard(scope)

        if not self._is_on:
            return
        try:
            endpoint = self.transport._open_endpoint()
        except EndpointClosedError:
            # The swarm is closing: it has closed its transports already.
            return
        endpoint.spawn(run, None)

    async def _end_relayed(self, direct: INetConn, relayed: Sequence[INetConn]) -> None:
        """Close the connections that ``direct`` replaced. A relayed connection that came later did so because
        the peer had no direct one."""
        closed = cast(SwarmConn, direct).event_closed
        with trio.move_on_after(GRACE):
            await closed.wait()
        if closed.is_set():
            return
        for each in relayed:
            peer_id = each.muxed_conn.peer_id
            logger.debug("closing the relayed connection to %s, %g s after the upgrade", peer_id, GRACE)
            await each.close()

    # The side that the relayed connection came in to

    def _spawn_upgrade(self, peer_id: ID) -> None:
        async def work() -> None:
            await self.upgrade(peer_id)

        self.spawn(f"the upgrade of {peer_id}", work)

    async def upgrade(self, peer_id: ID) -> bool:
        """Upgrade the relayed connection to the peer. Returns whether there is a direct one now."""
        if self.direct(peer_id) is not None:
            return True
        if peer_id in self._beginning or len(self._beginning) >= _MOST_PEERS + _MOST_WAITING:
            return False
        self._beginning[peer_id] = set()
        try:
            async with self._slots:
                await self._try_all(peer_id)
        finally:
            del self._beginning[peer_id]
        return self.direct(peer_id) is not None

    async def _try_all(self, peer_id: ID) -> None:
        if not self.is_only_relayed(peer_id):
            # Since it waited.
            return
        with self.expecting(peer_id) as direct:
            if await self._try_plain_dial(peer_id, direct):
                return
            await self._punch(peer_id, direct)
            # The peer was identified meanwhile.
            if direct.is_set() or await self._try_plain_dial(peer_id, direct):
                return
        logger.info("no direct connection to %s after %d attempts: it stays relayed", peer_id, ATTEMPTS)

    async def _try_plain_dial(self, peer_id: ID, direct: trio.Event) -> bool:
        """Dial the public addresses that the peer has told, which may need no punching: each once."""
        dialed = self._beginning[peer_id]
        new = [each for each in self._told(peer_id) if each not in dialed]
        if new:
            count = await self._dial(peer_id, [QUICAddress.of_peer(*each, peer_id) for each in new])
            dialed.update(new[:count])
        return direct.is_set()

    def _told(self, peer_id: ID) -> list[tuple[str, int]]:
        try:
            return public_addresses(self.host.get_peerstore().addrs(peer_id))
        except PeerStoreError:
            # Unknown, or expired.
            return []

    async def _punch(self, peer_id: ID, direct: trio.Event) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            exchanged = await self._exchange(peer_id, direct)
            if exchanged is None or direct.is_set():
                return
            addresses, round_trip = exchanged
            self._spawn_renewal(direct)
            with trio.move_on_after(round_trip / 2):
                await direct.wait()
            is_client = attempt == ATTEMPTS
            logger.debug(
                "attempt %d to reach %s as %s: %s, RTT %.0f ms",
                attempt,
                peer_id,
                "client" if is_client else "server",
                _Joined(addresses),
                round_trip * 1000,
            )
            if is_client:
                # A connection that either side dialed.
                self._begin_dial(peer_id, addresses, round_trip)
                with trio.move_on_after(LIMIT):
                    await direct.wait()
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._dial_later, peer_id, addresses, round_trip, direct)
                    await self.serve(peer_id, addresses)
            if direct.is_set():
                logger.info("direct connection to %s after %d of %d attempts", peer_id, attempt, ATTEMPTS)
                return

    async def _dial_later(
        self, peer_id: ID, addresses: Sequence[QUICAddress], round_trip: float, direct: trio.Event
    ) -> None:
        """Dial too, if the peer did not come in at once.

        Its first packets then came before the punch, and the peer repeats them late: rust-libp2p after
        a second.
        """
        with trio.move_on_after(max(round_trip, _PROMPT)):
            await direct.wait()
        if not direct.is_set():
            self._begin_dial(peer_id, addresses, round_trip)

    def _spawn_renewal(self, direct: trio.Event) -> None:
        """Have the own addresses asked for again if an attempt takes long: they may be outdated, and the
        next attempt offers them."""

        async def renew() -> None:
            with trio.move_on_after(_SLOW):
                await direct.wait()
            if not direct.is_set():
                await self._renew_addresses()

        self.spawn("asking for observed addresses", renew)

    async def _exchange(self, peer_id: ID, direct: trio.Event) -> tuple[list[QUICAddress], float] | None:
        """CONNECT both ways, and SYNC. The peer's usable addresses and the round-trip time."""
        error: Exception | None = None
        for pause in (0.0, *_PATIENCE):
            if pause:
                with trio.move_on_after(pause):
                    await direct.wait()
            relayed = self._relayed(peer_id)
            if direct.is_set() or not relayed:
                return None
            own = await own_addresses(self.host)
            if not own:
                error = ExchangeError("no peer has told us our own address yet")
                # The peer may be identified before we know it.
                if await self._try_plain_dial(peer_id, direct):
                    return None
                continue
            try:
                gather_writes(_GATHERING)
                stream = await open_exchange(relayed[-1])
                stream.set_protocol(PROTOCOL_ID)
                offered, round_trip = await begin_exchange(stream, own)
            except NoAnswerError as failure:
                error = failure
                break
            except (BaseLibp2pError, ExchangeError) as failure:
                error = failure
                continue
            return usable(peer_id, offered, own), round_trip
        logger.debug("no exchange of addresses with %s: %s", peer_id, error)
        return None

    async def serve(self, peer_id: ID, addresses: Sequence[QUICAddress]) -> INetConn | None:
        """Punch to the addresses until the peer's connection is in the swarm, for at most `LIMIT`."""
        try:
            inbound = self.transport._open_endpoint().engine.next_inbound(peer_id.to_bytes())
        except EndpointClosedError:
            return None
        try:
            with self.expecting(peer_id) as direct, trio.move_on_after(LIMIT):
                for each in addresses:
                    await self._punch_to(inbound, peer_id, each.host, each.port)
                await direct.wait()
        finally:
            inbound.close()
        return self.direct(peer_id)

    async def _punch_to(self, inbound: Inbound, peer_id: ID, host: str, port: int) -> None:
        # As before a dial.
        denial = await self.transport._gates.address_denial(host, port)
        try:
            if denial is None:
                inbound.punch(host, port, LIMIT)
                return
            reason = denial.reason
        except (ValueError, EndpointClosedError) as error:
            reason = str(error)
        logger.debug("did not punch to %s at %s: %s", peer_id, to_multiaddr(host, port), reason)

    # The side that dials

    async def _serve_stream(self, stream: INetStream, acceptance: bytes) -> None:
        # As in a task: an exception of a handler would end the swarm.
        await call_foreign("DCUtR", partial(self._handle, stream, acceptance))

    async def _handle(self, stream: INetStream, acceptance: bytes) -> None:
        """Serve a peer that begins. Only the owner of a living relayed connection may ask."""
        connection = stream.muxed_conn
        peer_id = connection.peer_id
        counts = self._counts.setdefault(connection, Counter())
        counts["asked"] += 1
        is_served = is_relayed_stream(stream) and counts["asked"] <= _MOST_ASKED
        if not is_served or self.direct(peer_id) is not None:
            await reset(stream)
            return
        own = await own_addresses(self.host)
        addresses: list[QUICAddress] = []
        with self.expecting(peer_id) as direct:
            try:
                await join_exchange(
                    stream,
                    own,
                    on_connect=lambda offered: addresses.extend(usable(peer_id, offered, own)),
                    on_sync=lambda round_trip: self._begin_dial(peer_id, addresses, round_trip),
                    acceptance=acceptance,
                )
            except (BaseLibp2pError, ExchangeError) as error:
                logger.debug("no exchange of addresses with %s: %s", peer_id, error)
                return
            # Without those that ended before SYNC, which peers repeat.
            counts["synchronized"] += 1
            attempt = counts["synchronized"]
            self._spawn_renewal(direct)
            logger.debug("dialing %s at %s", peer_id, _Joined(addresses))
            with trio.move_on_after(LIMIT):
                await direct.wait()
        if self.is_only_relayed(peer_id):
            # The peer does not say which attempt is its last.
            level = logging.DEBUG if attempt % ATTEMPTS else logging.INFO
            what = "no direct connection to %s after attempt %d that it began: it stays relayed"
            logger.log(level, what, peer_id, attempt)

    def _begin_dial(self, peer_id: ID, addresses: Sequence[QUICAddress], round_trip: float) -> None:
        """Dial in a task of its own.

        The dial goes on if the peer's connection is proven first: the peer may have given up that one
        for ours at the same time.
        """
        # The first packet is repeated after three times the estimate: one relayed round trip.
        if addresses and self.direct(peer_id) is None:
            self.spawn(f"the dial of {peer_id}", partial(self._dial, peer_id, addresses, round_trip / 3))

    async def _dial(
        self, peer_id: ID, addresses: Sequence[QUICAddress], punched_rtt: float | None = None
    ) -> int:
        """Returns how many of the addresses, from the first one on, the limits admitted to be dialed."""
        wanted = len(addresses)
        with self._dials.admitted(peer_id, wanted) as count, trio.move_on_after(LIMIT):
            if count < wanted:
                what = "dialing %d of %d addresses of %s: too many dials to addresses that peers named"
                logger.debug(what, count, wanted, peer_id)
            if count:
                await self._dial_and_add(addresses[:count], punched_rtt)
        return count

    async def _dial_and_add(self, addresses: Sequence[QUICAddress], punched_rtt: float | None) -> None:
        try:
            connection = await self.transport._dial_any(addresses, 0.0, punched_rtt)
        except DialError as error:
            logger.debug("%s", error)
            return
        await self._add(connection)

    async def _add(self, connection: QUICConnection) -> None:
        """Pass a dialed connection to the swarm, also when the time of the dial is over."""
        limit = self.swarm.connection_config.outbound_upgrade_timeout
        try:
            with trio.CancelScope(shield=True), trio.fail_after(limit):
                added: SwarmConn = await self.swarm.add_conn(connection, direction="outbound")
        except (SwarmException, trio.TooSlowError) as error:
            # Its limits, or the peer has closed the connection.
            logger.debug("the swarm does not take %r: %r", connection, error)
            with trio.CancelScope(shield=True), trio.move_on_after(_CLOSING):
                await connection.close()
            return
        logger.debug("dialed %r", added)


def _is_inbound(conn: INetConn) -> bool:
    return isinstance(conn, SwarmConn) and conn.direction.name == "INBOUND"


def usable(peer_id: ID, offered: Sequence[Multiaddr], own: Sequence[Multiaddr]) -> list[QUICAddress]:
    """The addresses of the peer that may be dialed and punched to, with its peer id."""
    return [QUICAddress.of_peer(*each, peer_id) for each in usable_addresses(offered, own)]
