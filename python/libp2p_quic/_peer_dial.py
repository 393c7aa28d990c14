"""Dials a peer at all its QUIC addresses, in place of the first, and returns once one is connected.

py-libp2p 0.8.1 tries the first QUIC address of its peerstore only, so that a peer whose first address is
dead is not reached; and it waits 250 ms in every dial for a failure of the last address. This module
replaces `dial_peer` of one swarm. Gates, limits, retries and the peerstore stay the swarm's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.abc import INetConn
from libp2p.exceptions import MultiError
from libp2p.metrics.swarm import SwarmEvent
from libp2p.network.exceptions import SwarmDialAllFailedError, SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.utils.address_validation import has_public_ipv6, is_public_ipv6_address
from multiaddr import Multiaddr

from libp2p_quic._addr import PeerAddresses, QUICAddress
from libp2p_quic._causes import explain
from libp2p_quic._happy_eyeballs import ATTEMPT_DELAY
from libp2p_quic._repair import Repair, result_in_run, stand_in_swarm
from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.transport")

# More are not dialed: a peer may tell a thousand.
_MOST_ADDRESSES = 16

# The addresses of the probe's peer, of which the second is alive.
_DEAD, _ALIVE = (Multiaddr(f"/ip4/192.0.2.{each}/udp/4001/quic-v1") for each in (1, 2))


def repair_dials(swarm: Swarm, transport: QUICTransport) -> Repair | None:
    """`dial_all_addresses`, unless py-libp2p's own dial goes on to a second address and returns at once.

    Logs it once in this process.
    """
    if _is_mended():
        return None
    repair = Repair(
        "a peer is dialed at all its QUIC addresses, and a dial returns once it is connected",
        dial_all_addresses(swarm, transport),
        why="py-libp2p 0.8.1 dials the first one only, and waits 250 ms in each dial for a failure",
    )
    repair.tell(logger)
    return repair


def dial_all_addresses(swarm: Swarm, transport: QUICTransport) -> Callable[[], None]:
    """Replace ``swarm.dial_peer``. Returns a function that undoes it.

    A swarm that runs again keeps the replacement that it has.
    """
    target: Any = swarm
    dialer = getattr(vars(swarm).get("dial_peer"), "__self__", None)
    if not (isinstance(dialer, _PeerDialer) and dialer.transport is transport):
        dialer = _PeerDialer(swarm, transport)
        target.dial_peer = dialer.dial_peer

    def undo() -> None:
        if getattr(vars(swarm).get("dial_peer"), "__self__", None) is dialer:
            del target.dial_peer

    return undo


class _Dial:
    """A dial of a peer, which other tasks that want the peer wait for."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.connections: list[INetConn] = []
        # None while it runs, and if it was canceled.
        self.error: SwarmDialAllFailedError | None = None


class _PeerDialer:
    def __init__(self, swarm: Swarm, transport: QUICTransport) -> None:
        self.transport = transport
        self._swarm: Any = swarm
        self._stock = swarm.dial_peer
        self._dials: dict[ID, _Dial] = {}

    async def dial_peer(self, peer_id: ID) -> list[INetConn]:
        """`Swarm.dial_peer`: the connections to the peer, dialed if there is none.

        Tasks that want the same peer share one dial, and its error. Raises SwarmException, whose text
        and `causes` have the error of each address. The text of the swarm's own dial stays as it is, and
        a note of the exception has the cause.
        """
        while True:
            running = self._dials.get(peer_id)
            if running is None:
                quic, others = await self._addresses(peer_id)
                # The gate may have waited, and another task may have begun meanwhile.
                if peer_id not in self._dials:
                    break
                continue
            await running.done.wait()
            if running.error is not None:
                raise _copy_of(running.error) from running.error.__cause__
            if any(not each.is_closed for each in running.connections):
                return running.connections
        is_left_to_stock = (
            not quic
            or peer_id in self._swarm._ongoing_dials
            or any(not each.is_closed for each in self._swarm.get_connections(peer_id))
            or self._swarm._negative_peer_cache.is_blocked(str(peer_id))
        )
        if is_left_to_stock:
            try:
                return await self._stock(peer_id)
            except SwarmException as error:
                _add_cause(error)
                raise
        dial = self._dials[peer_id] = _Dial()
        self._swarm._ongoing_dials[peer_id] = dial.done
        try:
            await self._run(dial, peer_id, quic, others[:1])
        finally:
            del self._dials[peer_id]
            self._swarm._ongoing_dials.pop(peer_id, None)
            dial.done.set()
        return dial.connections

    async def _addresses(self, peer_id: ID) -> tuple[list[Multiaddr], list[Multiaddr]]:
        """The peer's addresses that the swarm would dial: those for our transport, and the others."""
        try:
            known = list(self._swarm.peerstore.addrs(peer_id))
        except PeerStoreError:
            return [], []
        gate = self._swarm.connection_gate
        allowed = [each for each in known if await gate.is_allowed(each)]
        # As the swarm: a peer that tells other addresses too is not looked for on this machine.
        allowed = [each for each in allowed if not _is_loopback(each)] or allowed
        dialed = [each for each in allowed if self.transport.can_dial(each) and _is_of(each, peer_id)]
        # WebTransport takes two round trips more: it is for peers that have nothing else.
        quic = [each for each in dialed if not QUICAddress.parse(each).is_webtransport] or dialed
        others = [each for each in allowed if self._is_of_another_transport(each)]
        # As the swarm: TCP before WebSocket. Unlike QUIC's, its addresses are not raced.
        others.sort(key=lambda each: "/ws" in str(each))
        return quic[:_MOST_ADDRESSES], others

    def _is_of_another_transport(self, address: Multiaddr) -> bool:
        if "/p2p-circuit" in str(address) or self.transport.can_dial(address):
            return False
        if is_public_ipv6_address(address) and not has_public_ipv6():
            return False
        return self._swarm.transport_manager.transport_for_dialing(address) is not None

    async def _run(
        self, dial: _Dial, peer_id: ID, quic: Sequence[Multiaddr], others: Sequence[Multiaddr]
    ) -> None:
        """Race QUIC, and after 250 ms or its failure another transport."""
        await self._count(peer_id, dial_attempt=True)
        errors: list[Exception] = []
        has_failed = trio.Event()

        async def connect(address: Multiaddr) -> None:
            try:
                async with self._swarm._global_dial_limiter:
                    dial.connections.append(await self._swarm.dial_addr(address, peer_id))
                nursery.cancel_scope.cancel()
            except SwarmException as error:
                errors.append(error)
                has_failed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(connect, PeerAddresses([_of_peer(each, peer_id) for each in quic]))
            for address in others:
                with trio.move_on_after(ATTEMPT_DELAY):
                    await has_failed.wait()
                nursery.start_soon(connect, address)
        if dial.connections:
            self._swarm._negative_peer_cache.evict(str(peer_id))
            return
        self._swarm._negative_peer_cache.mark_failed(str(peer_id))
        await self._count(peer_id, dial_attempt_error=True)
        cause = MultiError(errors)
        dial.error = SwarmDialAllFailedError(
            f"unable to connect to {peer_id}: {explain(cause)}",
            peer_id=peer_id,
            num_addrs_tried=len(quic) + len(others),
        )
        raise dial.error from cause

    async def _count(self, peer_id: ID, **what: bool) -> None:
        """Report to py-libp2p's metrics, as the method that this replaces does."""
        if self._swarm.metric_send_channel is None:
            return
        event: Any = SwarmEvent()
        event.peer_id = peer_id.pretty()
        vars(event).update(what)
        await self._swarm.metric_send_channel.send(event)


@cache
def _is_mended() -> bool:
    return result_in_run(_dials_promptly) is True


async def _dials_promptly() -> bool:
    """Whether py-libp2p's dial of a peer whose first address is dead takes the second, and no time beyond. It
    raises if it does not reach the peer."""
    swarm, peer_id = stand_in_swarm(SimpleNamespace(can_dial=lambda _: True), [_DEAD, _ALIVE])
    connection: Any = SimpleNamespace(is_closed=False)

    async def dial(address: Multiaddr, *_: object, **__: object) -> object:
        if str(address).startswith(str(_DEAD)):
            raise SwarmException("nobody answers")
        return connection

    for method in ("dial_addr", "_dial_with_retry", "_dial_addr_single_attempt"):
        setattr(swarm, method, dial)
    began = trio.current_time()
    connections = await Swarm.dial_peer(swarm, peer_id)
    return connections == [connection] and trio.current_time() - began < ATTEMPT_DELAY


def _copy_of(error: SwarmDialAllFailedError) -> SwarmDialAllFailedError:
    """A new exception for each task, as raising one adds to its traceback."""
    return SwarmDialAllFailedError(str(error), error.peer_id, error.num_addrs_tried)


def _add_cause(error: SwarmException) -> None:
    """Have the traceback of ``error`` say what `explain` says. CPython 3.10 has no notes."""
    why = explain(error).removeprefix(f"{error}: ")
    if sys.version_info >= (3, 11) and why not in str(error):
        error.add_note(why)


def _is_of(address: Multiaddr, peer_id: ID) -> bool:
    """Whether ``address``, which can be dialed, names this peer or none."""
    return QUICAddress.parse(address).peer_id in (None, peer_id)


def _of_peer(address: Multiaddr, peer_id: ID) -> Multiaddr:
    if "/p2p/" in str(address):
        return address
    return address.encapsulate(Multiaddr(f"/p2p/{peer_id}"))


def _is_loopback(address: Multiaddr) -> bool:
    return str(address).startswith(("/ip4/127.", "/ip6/::1/"))
