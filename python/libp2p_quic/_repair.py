"""One change of py-libp2p's behavior, with what it repairs, why, and how to undo it; and probing for defects
by behavior, so that a repair is left out where py-libp2p has mended itself.

A probe calls py-libp2p with stand-ins, without network and within milliseconds. py-libp2p does not change
while a process runs, so each module asks its probe once and caches the answer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from threading import RLock, Thread
from types import ModuleType
from typing import Any
from weakref import finalize

import trio
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import StreamHandlerFn, TProtocol
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from multiaddr import Multiaddr
from multiaddr.protocols import P_P2P_CIRCUIT

from libp2p_quic._callback import Outcome, outcome_of

# What a probe may wait for, by its own clock. Seconds.
_LONGEST_PROBE = 60.0
# The changes that were logged. They are the same for every host.
_told: set[str] = set()


@dataclass(frozen=True)
class Repair:
    """``what`` py-libp2p does now, and ``why`` it did not: a main clause each."""

    what: str
    undo: Callable[[], None]
    why: str
    is_addition: bool = False
    """Whether py-libp2p does nothing of the kind, so that there is no defect to probe for."""

    @property
    def text(self) -> str:
        """One sentence."""
        text = f"{self.what}, since {self.why}"
        return f"an addition: {text}" if self.is_addition else text

    def tell(self, logger: logging.Logger) -> None:
        """Log it at INFO, once in this process."""
        if self.what in _told or not logger.isEnabledFor(logging.INFO):
            return
        _told.add(self.what)
        done = "added to" if self.is_addition else "repaired in"
        logger.info("%s py-libp2p: %s, since %s", done, self.what, self.why)


class ClassPatch:
    """An attribute of a class or a module of py-libp2p that is replaced while at least one host wants it."""

    def __init__(self, cls: type | ModuleType, name: str, value: object) -> None:
        self._cls = cls
        self._name = name
        self._value = value
        self._previous: object = None
        self._users = 0
        # Hosts of several threads may begin and end at the same time. Reentrant, as the end of a host that is
        # garbage may be noticed while the lock is held.
        self._lock = RLock()

    @property
    def is_applied(self) -> bool:
        """Whether any host wants it."""
        return self._users > 0

    def apply(self, host: object) -> Callable[[], None]:
        """Returns a function that undoes it for ``host``. So does the end of that object. Idempotent."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                # None: the class has no such attribute.
                self._previous = vars(self._cls).get(self._name)
                setattr(self._cls, self._name, self._value)
        undo = finalize(host, self._release)
        undo.atexit = False
        return undo

    def _release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users:
                return
            if self._previous is None:
                delattr(self._cls, self._name)
            else:
                setattr(self._cls, self._name, self._previous)


def result_of(work: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """What ``work`` returns if it neither waits nor raises; otherwise None.

    For probes that call py-libp2p with stand-ins that never wait, so no event loop is needed.
    """
    running = outcome_of(work)
    try:
        running.send(None)
    except StopIteration as finished:
        return finished.value.value
    running.close()
    return None


class _JumpingClock(trio.abc.Clock):
    """Jumps to the next deadline once all tasks wait, so that waiting takes no time."""

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        """Nothing: the time is that of the last deadline."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        if deadline == math.inf:
            return deadline
        self._now = max(self._now, deadline)
        return 0.0


def result_in_run(work: Callable[[], Coroutine[Any, Any, object]]) -> object:
    """What ``work`` returns in a trio run of its own; None if it raises, or waits for ever.

    For probes of what py-libp2p waits for. Deadlines pass at once. The run has a thread, as this may be
    called in a run; it ends before this returns.
    """
    found: list[Outcome] = []

    async def run() -> None:
        with trio.move_on_after(_LONGEST_PROBE):
            found.append(await outcome_of(work))

    def probe() -> None:
        # The system has no descriptor left for the run. The defect then counts as found.
        with suppress(OSError):
            trio.run(run, clock=_JumpingClock())

    thread = Thread(target=probe, name="probe of py-libp2p")
    try:
        thread.start()
    except RuntimeError:
        # Nor a thread.
        return None
    thread.join()
    return found[0].value if found else None


def stand_in_swarm(transport: object, addresses: Sequence[Multiaddr]) -> tuple[Any, ID]:
    """A swarm of py-libp2p for probes, which does not run, and a peer of which it knows these addresses.

    ``transport`` needs only the methods that the probed code calls.
    """
    own, peer_id = (ID.from_pubkey(create_new_key_pair().public_key) for _ in range(2))
    peerstore = PeerStore()
    peerstore.add_addrs(peer_id, addresses, ttl=3600)
    transports: Any = [transport]
    upgrader: Any = None
    return Swarm(own, peerstore, upgrader, transports), peer_id


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
    """Whether the address leads through a relay."""
    return _is_circuit(address.to_bytes())


# An upgrade asks a dozen times about two addresses, and to parse one takes some 5 µs.
@lru_cache(maxsize=256)
def _is_circuit(raw: bytes) -> bool:
    return any(protocol.code == P_P2P_CIRCUIT for protocol in Multiaddr(raw).protocols())


def is_relayed_stream(stream: INetStream) -> bool:
    return is_relayed(stream.muxed_conn)
