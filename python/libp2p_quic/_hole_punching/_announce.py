"""Tells connected peers the host's new addresses when those of the machine change, by identify/push.

py-libp2p 0.8.1 pushes only when a listener is added. A host that listens on a wildcard then has other
addresses after the laptop changed networks, and its peers keep the old ones until they identify it
again. The addresses are watched by rtnetlink(7), without polling.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import cast

import trio
from libp2p.abc import IHost, INetwork
from multiaddr import Multiaddr

from libp2p_quic._callback import outcome_of
from libp2p_quic._engine_errors import EndpointClosedError
from libp2p_quic._hole_punching._push import AddressPushes
from libp2p_quic._host_events import PromptNotifee
from libp2p_quic._repair import Repair
from libp2p_quic._transport import QUICTransport

logger = logging.getLogger("libp2p_quic.hole_punching")

# linux/rtnetlink.h: RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
_GROUPS = 0x10 | 0x100
_LONGEST = 65_536
# An interface that comes up gets its addresses within some milliseconds: one push tells them all. Seconds.
_SETTLING = 0.25


class AddressAnnouncer(PromptNotifee):
    """Watches the machine's addresses for one host, from the first listener until the swarm ends, or
    `undo` of its `Repair`."""

    def __init__(self, host: IHost, transport: QUICTransport, renew: Callable[[], None]) -> None:
        """``renew`` has peers asked again how they observe the host, and returns at once."""
        self._host = host
        self._transport = transport
        self._renew = renew
        self._pushes = AddressPushes(host, transport)
        self._watching: trio.CancelScope | None = None
        self._is_on = False

    def begin(self) -> Repair:
        """Watch from now on, or once the host listens."""
        network = self._host.get_network()
        self._is_on = True
        network.register_notifee(self)
        if getattr(network, "listeners", None):
            self._start()

        def undo() -> None:
            self._is_on = False
            network.remove_notifee(self)
            self._pushes.cancel()
            if self._watching is not None:
                self._watching.cancel()

        return Repair(
            "peers are told the host's new addresses when the machine's change",
            undo,
            why="py-libp2p 0.8.1 tells them only when a listener is added",
            is_addition=True,
        )

    def announce(self) -> None:
        """Tell connected peers what the host advertises now. Returns at once."""
        self._pushes.begin()

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        self._start()

    def _start(self) -> None:
        if self._watching is not None or not self._is_on:
            return
        try:
            endpoint = self._transport._open_endpoint()
        except EndpointClosedError:
            # The swarm is closing: it has closed its transports already.
            return
        # Set here: the task begins in a later scheduler pass, and several listeners may be added in this one.
        self._watching = trio.CancelScope()
        endpoint.spawn(partial(self._watch, self._watching), None)

    async def _watch(self, scope: trio.CancelScope) -> None:
        try:
            with scope, _subscribed() as changes:
                told = await self._addresses()
                while True:
                    await _next_change(changes)
                    with trio.move_on_after(_SETTLING):
                        await _read_on(changes)
                    current = await self._addresses()
                    if current is not None and current != told:
                        told = current
                        # In tasks, both: peers that do not answer must not delay later addresses.
                        self.announce()
                        # The machine is behind another NAT now, or behind none.
                        self._renew()
        except OSError as error:
            logger.debug("changes of this machine's addresses cannot be watched: %s", error)
        finally:
            self._watching = None

    async def _addresses(self) -> set[Multiaddr] | None:
        """None if the program's `addrs_factory` raises."""
        outcome = await outcome_of(self._host.get_addrs)
        if outcome.error is not None:
            logger.warning(
                "the host's addresses are unknown, so peers are not told new ones: %r", outcome.error
            )
            return None
        return set(cast("list[Multiaddr]", outcome.value))


def push_addresses(host: IHost) -> None:
    """Have the announcer of ``host`` tell connected peers what the host advertises now. Returns at once."""
    for each in getattr(host.get_network(), "notifees", ()):
        if isinstance(each, AddressAnnouncer):
            each.announce()


def _subscribed() -> trio.socket.SocketType:
    """A socket that gets a message for each address of this machine that comes, changes or goes."""
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.EAFNOSUPPORT, "this system has no netlink sockets")
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        opened.bind((0, _GROUPS))
        return trio.socket.from_stdlib_socket(opened)
    except OSError:
        opened.close()
        raise


async def _next_change(changes: trio.socket.SocketType) -> None:
    try:
        await changes.recv(_LONGEST)
    except OSError as error:
        # Messages were lost, as there were too many: something has changed.
        if error.errno != errno.ENOBUFS:
            raise


async def _read_on(changes: trio.socket.SocketType) -> None:
    while True:
        await _next_change(changes)
