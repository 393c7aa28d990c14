"""Asks peers again at which address they observe the host.

py-libp2p 0.8.1 identifies a peer once in the life of its connections. When the host's NAT gets another
address or forgets its mappings, connections go on from there (RFC 9000 section 9), but what was observed
before would be offered and advertised until they end. No event tells the host. So it asks regularly, as
rust-libp2p does, and when an upgrade takes long or the machine's addresses have changed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import IHost, INetConn, INetStream, INetwork
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.transport.quic.exceptions import QUICStreamError
from multiaddr import Multiaddr

from libp2p_quic._callback import call_foreign, outcome_of
from libp2p_quic._connection import QUICConnection
from libp2p_quic._hole_punching._announce import push_addresses
from libp2p_quic._hole_punching._exchange import ExchangeError, Messages, proposal, read_acceptance, reset
from libp2p_quic._host_events import PromptNotifee
from libp2p_quic._repair import Repair

logger = logging.getLogger("libp2p_quic.hole_punching")

# rust-libp2p's interval of identify. Seconds.
_INTERVAL = 300.0
# Between renewals that failing upgrades cause: less than an attempt lasts, so that each attempt of an upgrade
# has its own even if the one before came late. Seconds.
_SHORTEST_PAUSE = 4.0
# Connections that are asked: twice as many as py-libp2p needs to advertise an address. The others, which may
# have reported the old address, are asked once a peer that was dialed reports another one.
_MOST = 8
_MOST_AFTER_A_CHANGE = 256
_AT_ONCE = 8
# For one peer. Seconds.
_LIMIT = 5.0
# go-libp2p's limit of an answer. Bytes.
_LARGEST = 8192

_Spawn = Callable[[str, Callable[[], Awaitable[None]]], None]


class Observers(PromptNotifee):
    """The peers that are connected over QUIC to one host, and report its address."""

    def __init__(self, host: IHost) -> None:
        self._host = host
        self._swarm: Any = host.get_network()
        self._spawn: _Spawn | None = None
        self._due = float("-inf")

    def begin(self, spawn: _Spawn) -> Repair | None:
        """Ask regularly from now on, or once the host listens. ``spawn`` runs a task until the swarm ends.

        None if the host does not use what peers observe.
        """
        if self._manager() is None:
            return None
        self._spawn = spawn
        self._swarm.register_notifee(self)
        if getattr(self._swarm, "listeners", None):
            self._start()

        def undo() -> None:
            self._spawn = None
            self._swarm.remove_notifee(self)

        return Repair(
            "peers are asked again at which address they observe the host",
            undo,
            why="py-libp2p 0.8.1 asks once in a connection, and a NAT may change the address",
            is_addition=True,
        )

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        self._start()

    def _start(self) -> None:
        # Once: several listeners may be added.
        spawn, self._spawn = self._spawn, None
        if spawn is not None:
            spawn("asking for observed addresses", self._renew_regularly)

    async def _renew_regularly(self) -> None:
        while True:
            with trio.move_on_after(_INTERVAL):
                await trio.Event().wait()
            # What py-libp2p raises in one round must not end the later ones.
            await call_foreign("asking for observed addresses", self.renew)

    async def renew_if_due(self) -> None:
        """`renew`, unless that began within the last `_SHORTEST_PAUSE` seconds."""
        if trio.current_time() >= self._due:
            await self.renew()

    async def renew(self) -> None:
        """Ask peers now. Those that are connected are told if the host advertises other addresses then."""
        self._due = trio.current_time() + _SHORTEST_PAUSE
        manager = self._manager()
        if manager is None:
            return
        before = await outcome_of(self._host.get_addrs)
        connections = self._connections()
        changed = await self._ask_all(manager, connections[:_MOST])
        # A peer that came in by itself may report what it likes.
        if any(each.muxed_conn.is_initiator for each in changed):
            changed += await self._ask_all(manager, connections[_MOST:_MOST_AFTER_A_CHANGE])
        if changed:
            after = await outcome_of(self._host.get_addrs)
            if after.error is None and after.value != before.value:
                push_addresses(self._host)

    def _manager(self) -> Any:
        """py-libp2p's `ObservedAddrManager`. None if the program disabled it."""
        return getattr(self._host, "_observed_addr_manager", None)

    def _connections(self) -> list[INetConn]:
        """The dialed ones first: their reports are offered first."""
        found: list[INetConn] = [
            each
            for each in self._swarm.get_connections()
            if isinstance(each.muxed_conn, QUICConnection) and not each.is_closed
        ]
        return sorted(found, key=lambda each: not each.muxed_conn.is_initiator)

    async def _ask_all(self, manager: Any, connections: Sequence[INetConn]) -> list[INetConn]:
        """The connections whose peers report another address than before."""
        changed: list[INetConn] = []
        limiter = trio.CapacityLimiter(_AT_ONCE)

        async def ask(connection: INetConn) -> None:
            async with limiter:
                if await self._ask(manager, connection):
                    changed.append(connection)

        async with trio.open_nursery() as nursery:
            for each in connections:
                nursery.start_soon(ask, each)
        return changed

    async def _ask(self, manager: Any, connection: INetConn) -> bool:
        """Whether the peer reports another address than before. What it reports is noted."""
        peer_id = connection.muxed_conn.peer_id
        stream: INetStream | None = None
        try:
            with trio.fail_after(_LIMIT):
                stream = await connection.new_stream()
                reported = await _reported(stream)
                await stream.close()
                stream = None
        except (BaseLibp2pError, QUICStreamError, ExchangeError, trio.TooSlowError) as error:
            # QUICStreamError: MAX_OUTGOING_STREAMS or STREAM_OPEN_TIMEOUT, which is no BaseLibp2pError.
            logger.debug("%s does not tell the address that it observes: %r", peer_id, error)
            return False
        finally:
            if stream is not None:
                # Also if this is canceled: the swarm's connection would keep the stream until it ends.
                with trio.CancelScope(shield=True):
                    await reset(stream)
        before = _recorded(manager, connection)
        local: list[Multiaddr] = list(getattr(self._host, "get_transport_addrs", list)())
        # An address that a peer made up may raise anything in it.
        recorded = await outcome_of(partial(manager.record_observation, connection, reported, local))
        if recorded.error is not None:
            logger.debug("the address that %s observes is unusable: %r", peer_id, recorded.error)
            return False
        after = _recorded(manager, connection)
        if before is None or before == after:
            return False
        logger.debug("%s observes this host at %s, no longer at %s", peer_id, after, before)
        return True


async def _reported(stream: INetStream) -> Multiaddr:
    """The address that the peer observes, which it tells over a new stream.

    Raises ExchangeError or an error of the stream.
    """
    stream.set_protocol(IDENTIFY)
    messages = Messages(stream, _LARGEST)
    await stream.write(proposal(IDENTIFY))
    await read_acceptance(messages, IDENTIFY)
    answer = Identify()
    try:
        # go-libp2p sends a long answer as two messages; the address is in the first.
        answer.ParseFromString(await messages.next())
    except DecodeError as error:
        raise ExchangeError(f"unreadable message: {error}") from error
    if not answer.observed_addr:
        raise ExchangeError("the peer reports no address")
    return Multiaddr(answer.observed_addr)


def _recorded(manager: Any, connection: INetConn) -> str | None:
    """What the peer of the connection reported last."""
    record = getattr(manager, "_conn_observations", {}).get(id(connection))
    if record is None or record[3]() is not connection:
        # None, or of an earlier connection with the same id.
        return None
    return str(record[1])
