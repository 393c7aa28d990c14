"""Pushes the host's addresses to connected peers by identify/push, and again to those that did not take it.

py-libp2p 0.8.1 pushes to ten peers at a time and drops the results. Ten peers that do not answer keep it from
all others, and a peer that missed the push has the old addresses until it identifies the host again. This is
part of an addition, so no probe precedes it: what py-libp2p leaves open is looked for after each push.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial

import trio
from libp2p.abc import IHost, INetStream
from libp2p.identity.identify_push.identify_push import ID_PUSH, push_identify_to_peer
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStoreError
from libp2p.rcmgr.metrics import Direction

from libp2p_quic._callback import call_foreign
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._hole_punching._exchange import reset
from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.hole_punching")

# Peers that are pushed to at the same time.
_AT_ONCE = 32
# For one peer, once it is its turn. Seconds.
_LIMIT = 5.0
# Before each repetition. Few, as py-libp2p logs an ERROR for each push that fails. Seconds.
_PAUSES = (5.0, 20.0, 60.0)


class AddressPushes:
    """The pushes of one host. Its task ends with the swarm, or with `cancel`."""

    def __init__(self, host: IHost, transport: QUICTransport) -> None:
        self._host = host
        self._transport = transport
        self._slots = trio.CapacityLimiter(_AT_ONCE)
        self._scope = trio.CancelScope()

    def begin(self) -> None:
        """Tell connected peers what the host advertises now, in a task of its own.

        Replaces what an earlier call still does: it would tell its peers the same addresses.
        """
        try:
            endpoint = self._transport._open_endpoint()
        except EndpointClosedError:
            # The swarm is closing: it has closed its transports already.
            return
        self.cancel()
        self._scope = trio.CancelScope()
        endpoint.spawn(partial(self._run, self._scope), None)

    def cancel(self) -> None:
        """End the task, if there is one. Idempotent."""
        self._scope.cancel()

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            left = self._takers(self._host.get_connected_peers())
            for pause in (0.0, *_PAUSES):
                if pause:
                    with trio.move_on_after(pause):
                        await trio.Event().wait()
                # A peer that is gone identifies the host when it is connected again.
                left = self._takers(left)
                if not left:
                    return
                logger.debug("telling %d peers the host's new addresses", len(left))
                async with trio.open_nursery() as nursery:
                    for each in left:
                        nursery.start_soon(self._push, each, left)
            if left:
                logger.debug("%d peers did not take the host's new addresses", len(left))

    def _takers(self, peers: Iterable[ID]) -> set[ID]:
        return {each for each in peers if self._takes_pushes(each)}

    def _takes_pushes(self, peer_id: ID) -> bool:
        """Whether the peer is connected and serves identify/push.

        py-libp2p dials a peer that is not, and logs an ERROR for one that does not.
        """
        try:
            is_served = ID_PUSH in self._host.get_peerstore().get_protocols(peer_id)
        except PeerStoreError:
            return False
        return is_served and bool(self._host.get_network().get_connections(peer_id))

    async def _push(self, peer_id: ID, left: set[ID]) -> None:
        """Discard the peer from ``left`` if it takes the push."""

        async def push() -> None:
            # Our slots limit how many run: py-libp2p's own limiter is shared by all hosts of the process.
            if await push_identify_to_peer(self._host, peer_id, limit=trio.CapacityLimiter(1)):
                left.discard(peer_id)

        async with self._slots:
            if not self._takes_pushes(peer_id):
                # Since it waited.
                return
            before = self._open_streams(peer_id)
            try:
                with trio.move_on_after(_LIMIT):
                    # It calls py-libp2p, whose exceptions must not end the swarm.
                    await call_foreign("identify/push", push)
            finally:
                if peer_id in left:
                    # py-libp2p resets the stream of a push that fails, but not that of one that is canceled:
                    # the swarm's connection would keep it until it ends.
                    with trio.CancelScope(shield=True):
                        for each in self._open_streams(peer_id) - before:
                            await reset(each)

    def _open_streams(self, peer_id: ID) -> set[INetStream]:
        """The streams of pushes to the peer. Those that are still negotiated have no protocol yet."""
        return {
            stream
            for connection in self._host.get_network().get_connections(peer_id)
            for stream in connection.get_streams()
            if stream.get_protocol() == ID_PUSH and getattr(stream, "_direction", None) == Direction.OUTBOUND
        }
