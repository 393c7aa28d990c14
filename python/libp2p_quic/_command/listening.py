"""The listening side of a command: opens listeners, prints their addresses, admits certain peers only, and
runs a task for each connection. What the task does is left to the command.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click

from libp2p_quic._command.explanation import Explanation, of_address
from libp2p_quic._command.output import CommandFailedError, NoConnectionError, Output, UnusableArgumentError
from libp2p_quic._command.own_address import dialable
from libp2p_quic._exception_types import InvalidAddressError, InvalidPeerIdError, ListenError
from libp2p_quic._peer_id import PeerId
from libp2p_quic.asyncio.connection import Connection, cancel_all
from libp2p_quic.asyncio.endpoint import Endpoint
from libp2p_quic.asyncio.listener import Listener

T = TypeVar("T")

# What to try when the system refuses a socket.
_STEPS = {
    errno.EADDRINUSE: "give another port, or 0 for a free one; ss -lunp shows who has it",
    errno.EADDRNOTAVAIL: "this machine has no such address: `ip address` lists them; /ip4/0.0.0.0 is all",
    errno.EACCES: "give a port from 1024 on, or 0 for a free one: lower ones need a privilege",
}
# A port that the system chooses, on all IPv4 addresses.
_DEFAULT_ADDRESS = "/ip4/0.0.0.0/udp/0/quic-v1"

# A live table shows no more of those that were refused.
_MOST_REFUSED = 5

addresses_option = click.option(
    "--listen",
    "addresses",
    metavar="ADDR",
    multiple=True,
    help="Where to listen. May be repeated. Default: a port that the system chooses, on all IPv4 addresses.",
)
addresses_argument = click.argument("addresses", metavar="[ADDR]...", nargs=-1)


class PeerGate:
    """Admits certain peers only, and prints each peer that it refuses."""

    def __init__(self, admitted: frozenset[PeerId], option: str, output: Output) -> None:
        self.refused: deque[tuple[PeerId, str]] = deque(maxlen=_MOST_REFUSED)
        """The last peers that were refused, with their addresses."""
        self.count = 0
        """How many were refused."""
        self.is_drawn = False
        """Whether a live table shows them, so that no line is printed."""
        self.reason = f"{option} does not name it"
        self._admitted = admitted
        self._output = output
        self._failure: CommandFailedError | None = None
        self._has_failed = asyncio.Event()

    def __call__(self, peer_id: PeerId, address: str) -> bool:
        if peer_id in self._admitted:
            return True
        self.count += 1
        self.refused.append((peer_id, address))
        try:
            self._print(peer_id, address)
        except CommandFailedError as error:
            # Raised here, it would be the log's: the endpoint takes it for a defect of the gate.
            self._failure = error
            self._has_failed.set()
        return False

    def _print(self, peer_id: PeerId, address: str) -> None:
        if not self.is_drawn:
            self._output.text(f"refused {address}/p2p/{peer_id}: {self.reason}")
        self._output.event(
            "refused", peer_id=str(peer_id), address=address, cause="gated", reason=self.reason
        )

    async def watch(self) -> None:
        """Wait until a peer that was refused cannot be printed. Raises the error."""
        await self._has_failed.wait()
        assert self._failure is not None
        raise self._failure


def peer_gate(allowed: Sequence[str], option: str, output: Output) -> PeerGate | None:
    """Admits the peer ids ``allowed``, of ``option``; None without one, which admits every peer. Ends the
    command if one is no peer id."""
    try:
        admitted = frozenset(PeerId.parse(each) for each in allowed)
    except InvalidPeerIdError as error:
        why = Explanation("peer_id", str(error), "libp2p-quic identity show prints the peer id of a key")
        raise UnusableArgumentError(why, output.is_json) from None
    # The gate prints each peer that it refuses.
    logging.getLogger("libp2p_quic.gate").setLevel(logging.ERROR)
    return PeerGate(admitted, option, output) if admitted else None


async def opened(endpoint: Endpoint, addresses: Sequence[str], output: Output) -> list[Listener]:
    """A listener on each of ``addresses``; on a port that the system chooses without one."""
    return [await _listener(endpoint, each, output) for each in addresses or (_DEFAULT_ADDRESS,)]


async def _listener(endpoint: Endpoint, address: str, output: Output) -> Listener:
    try:
        return await endpoint.listen(address)
    except InvalidAddressError as error:
        raise UnusableArgumentError(of_address(address, error), output.is_json) from None
    except ListenError as error:
        cause = error.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        step = _STEPS.get(number or 0, "give another address")
        raise NoConnectionError(Explanation("listen", str(error), step), output.is_json) from None


def reached_at(listeners: Sequence[Listener]) -> list[str]:
    """The addresses to dial, without the peer id."""
    return [found for each in listeners for found in dialable(each.address)]


def announce(endpoint: Endpoint, listeners: Sequence[Listener], output: Output) -> list[str]:
    """Print the addresses to dial, with the peer id. Returns them."""
    found = [f"{each}/p2p/{endpoint.peer_id}" for each in reached_at(listeners)]
    for each in found:
        output.text(each)
        output.event("listening", address=each, peer_id=str(endpoint.peer_id))
    return found


async def serve_each(listener: Listener, serve: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    """Run ``serve`` in a task for each accepted connection, until the listener is closed. Then, and if
    canceled, the tasks are canceled. If one fails, the listener is closed and the error raised."""
    serving: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    def ended(task: asyncio.Task[None]) -> None:
        serving.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)
            listener.close()

    try:
        async for connection in listener:
            task = asyncio.create_task(serve(connection))
            serving.add(task)
            task.add_done_callback(ended)
            del connection, task
    finally:
        await cancel_all(serving)
    if failures:
        raise failures[0]


def start_serving(
    listeners: Sequence[Listener],
    serve: Callable[[Connection], Coroutine[Any, Any, None]],
    gate: PeerGate | None,
) -> set[asyncio.Task[None]]:
    """A task of `serve_each` for each listener, and one that ends when ``gate`` cannot print a peer."""
    tasks = {asyncio.create_task(serve_each(each, serve)) for each in listeners}
    if gate is not None:
        tasks.add(asyncio.create_task(gate.watch()))
    return tasks


async def serve_until(
    end: asyncio.Future[T],
    listeners: Sequence[Listener],
    serve: Callable[[Connection], Coroutine[Any, Any, None]],
    gate: PeerGate | None,
) -> T:
    """Run ``serve`` for each connection until ``end`` is done, and return its result. Raises its error, and
    that of the first task of `start_serving` that fails. ``end`` is done afterwards in any case."""
    tasks = start_serving(listeners, serve, gate)
    waiting: set[asyncio.Future[Any]] = {end, *tasks}
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not end.done():
            await asyncio.gather(*tasks)
        return await end
    finally:
        end.cancel()
        await cancel_all(tasks)
