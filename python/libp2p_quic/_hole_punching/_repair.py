"""One change of py-libp2p's behavior, with what it repairs and how to undo it; and probing for defects
by behavior, so that a repair is left out where py-libp2p has mended itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from weakref import finalize

from libp2p.abc import IHost, INetStream
from libp2p.custom_types import StreamHandlerFn, TProtocol
from multiaddr import Multiaddr
from multiaddr.protocols import P_P2P_CIRCUIT

from libp2p_quic._callback import outcome_of


@dataclass(frozen=True)
class Repair:
    """``what`` was wrong and is repaired, in a sentence for the log."""

    what: str
    undo: Callable[[], None]


class ClassPatch:
    """An attribute of a class of py-libp2p that is replaced while at least one host wants it."""

    def __init__(self, cls: type, name: str, value: object) -> None:
        self._cls = cls
        self._name = name
        self._value = value
        self._previous: object = None
        self._users = 0

    @property
    def is_applied(self) -> bool:
        """Whether any host wants it."""
        return self._users > 0

    def apply(self, host: IHost) -> Callable[[], None]:
        """Returns a function that undoes it for ``host``. So does the end of the host object. Idempotent."""
        if not self._users:
            # None: the class has no such attribute.
            self._previous = vars(self._cls).get(self._name)
            setattr(self._cls, self._name, self._value)
        self._users += 1
        undo = finalize(host, self._release)
        undo.atexit = False
        return undo

    def _release(self) -> None:
        self._users -= 1
        if self._users:
            return
        if self._previous is None:
            delattr(self._cls, self._name)
        else:
            setattr(self._cls, self._name, self._previous)


def result_of(work: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """What ``work`` returns if it neither waits nor raises; otherwise None.

    For probes: they call py-libp2p with stand-ins that never wait, so no event loop is needed.
    """
    running = outcome_of(work)
    try:
        running.send(None)
    except StopIteration as finished:
        return finished.value.value
    running.close()
    return None


def set_handler(host: IHost, protocol: TProtocol, handler: StreamHandlerFn) -> Callable[[], None]:
    """Replace a stream handler. Returns a function that restores the previous one."""
    previous = host.get_mux().handlers.get(protocol)
    host.set_stream_handler(protocol, handler)

    def undo() -> None:
        if host.get_mux().handlers.get(protocol) is not handler:
            # The program has set another since.
            return
        if previous is None:
            host.remove_stream_handler(protocol)
        else:
            host.set_stream_handler(protocol, previous)

    return undo


def addresses_of(connection: object) -> list[Multiaddr]:
    """The addresses of a connection of the swarm, or of a muxed one, as far as it knows them."""
    try:
        addresses: list[Multiaddr] | None = getattr(connection, "get_transport_addresses", list)()
    except AttributeError:
        # A layer of py-libp2p below it does not have the method.
        return []
    return list(addresses or ())


def is_relayed(connection: object) -> bool:
    """Whether a connection of the swarm, or a muxed one, goes through a relay."""
    return any(is_circuit(address) for address in addresses_of(connection))


def is_circuit(address: Multiaddr) -> bool:
    """Whether the address leads through a relay. The text of one with two peer ids takes 18 us to make."""
    return any(protocol.code == P_P2P_CIRCUIT for protocol in address.protocols())


def is_relayed_stream(stream: INetStream) -> bool:
    return is_relayed(stream.muxed_conn)
