"""`libp2p-quic ping`: round-trip times by libp2p's ping protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time

import click

from libp2p_quic._command.connecting import connected, ended
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.options import (
    Seconds,
    address_argument,
    identity_of,
    key_option,
    timeout_option,
)
from libp2p_quic._command.output import INTERRUPTED, CommandFailedError, Output, json_option
from libp2p_quic._command.quantity import duration, percentile
from libp2p_quic._command.services import PING, PING_SIZE
from libp2p_quic._exception_types import ConnectionClosed, StreamLost
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.stream import Stream


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic ping /ip4/192.0.2.1/udp/4001/quic-v1
  libp2p-quic ping -c 100 -i 0 --json ADDR | tail -1
"""
)
@address_argument
@click.option(
    "-c", "--count", type=click.IntRange(1), metavar="N", help="Stop after N rounds. Default: Ctrl-C."
)
@click.option(
    "-i",
    "--interval",
    type=Seconds(0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="From the start of a round to the next. 0: as fast as the peer answers.",
)
@click.option(
    "-W",
    "--wait",
    type=Seconds(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="A round without an answer for this long is lost.",
)
@click.option("--new-streams", "has_new_streams", is_flag=True, help="A stream for each round.")
@key_option
@timeout_option
@json_option
def ping(
    address: Address,
    count: int | None,
    interval: float,
    wait: float,
    has_new_streams: bool,
    key_file: str | None,
    timeout: float,
    is_json: bool,
) -> None:
    """Measure the round-trip time to ADDR, on one stream of one connection.

    The peer may be any libp2p that serves /ipfs/ping/1.0.0. Ctrl-C prints what was measured so far.
    Exit status 1 if a round was lost.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)

    async def command(interruption: Interruption) -> bool:
        """Whether it was interrupted before there was a result."""
        async with connected(address, identity, timeout, output) as connection:
            rounds = _Rounds(connection, output, interval, wait, has_new_streams)
            try:
                is_interrupted = await interruption.measured(rounds.run(count))
            finally:
                rounds.summarize()
            if (closed := rounds.closed) is not None:
                raise ended(closed, output)
        if rounds.lost:
            total = rounds.lost + len(rounds.times)
            text = f"{rounds.lost} of {total} rounds were not answered within {wait:g} s"
            step = "the path loses packets or the peer is overloaded: compare with perf, which shows the loss"
            if not has_new_streams and rounds.times:
                # libp2p-ping 0.48 does not wait for the next ping of a stream once it has answered one.
                step += "; rust-libp2p may answer only every other round of a stream: add --new-streams"
            raise CommandFailedError(Explanation("loss", text, step), is_json)
        return is_interrupted and not rounds.times

    if run(command):
        sys.exit(INTERRUPTED)


class _Rounds:
    """The rounds of one run."""

    def __init__(
        self, connection: Connection, output: Output, interval: float, wait: float, has_new_streams: bool
    ) -> None:
        self.times: list[float] = []
        self.lost = 0
        self.closed: ConnectionClosed | None = None
        self._connection = connection
        self._output = output
        self._interval = interval
        self._wait = wait
        self._has_new_streams = has_new_streams
        self._stream: Stream | None = None
        self._began = time.perf_counter()

    async def run(self, count: int | None) -> None:
        """``count`` rounds; without it, until canceled. Ends when the connection does.

        Raises ProtocolNotSupportedError and other errors of a stream.
        """
        peer = self._connection.peer_id
        self._output.text(f"ping {self._connection.remote_address}/p2p/{peer}")
        handshake = self._connection.statistics().handshake
        self._output.event(
            "connected", peer_id=str(peer), address=self._connection.remote_address, handshake=handshake
        )
        end = asyncio.create_task(self._connection.closed())
        try:
            for number in itertools.count(1) if count is None else range(1, count + 1):
                next_at = time.perf_counter() + self._interval
                await self._round(number)
                if number != count and (left := next_at - time.perf_counter()) > 0:
                    # The end of the connection is noticed between two rounds, too.
                    await asyncio.wait([end], timeout=left)
                if end.done():
                    self.closed = end.result()
                    break
        except StreamLost:
            self.closed = await end
        finally:
            end.cancel()

    async def _round(self, number: int) -> None:
        began = time.perf_counter()
        try:
            await asyncio.wait_for(self._exchange(), self._wait)
        except asyncio.TimeoutError:
            self.lost += 1
            # A late answer must not be taken for that of the next round.
            if self._stream is not None:
                self._stream.reset()
                self._stream = None
            self._output.text(f"round {number}: no answer within {self._wait:g} s")
            self._output.event("round", number=number, rtt=None)
            return
        rtt = time.perf_counter() - began
        self.times.append(rtt)
        self._output.text(f"round {number}: {duration(rtt)}")
        self._output.event("round", number=number, rtt=rtt)

    async def _exchange(self) -> None:
        if self._stream is None:
            self._stream = await self._connection.open_stream(PING)
        sent = os.urandom(PING_SIZE)
        await self._stream.write(sent)
        if await self._stream.read_exactly(PING_SIZE) != sent:
            text, step = "the peer answered other bytes than were sent", "it does not serve ping properly"
            raise CommandFailedError(Explanation("answer", text, step), self._output.is_json)
        if self._has_new_streams:
            self._stream.close()
            self._stream = None

    def summarize(self) -> None:
        """Print the figures of the rounds so far. Nothing before the first one ended."""
        total = len(self.times) + self.lost
        if not total:
            return
        elapsed = time.perf_counter() - self._began
        loss = self.lost / total
        figures = {"min": 0.0, "median": 50.0, "p99": 99.0, "max": 100.0}
        found = {name: percentile(self.times, at) for name, at in figures.items()} if self.times else {}
        self._output.text()
        answered = f"{total} rounds, {len(self.times)} answered, {loss:.1%} lost, in {duration(elapsed)}"
        self._output.text(answered)
        if found:
            self._output.text("  ".join(f"{name} {duration(value)}" for name, value in found.items()))
        self._output.event(
            "summary", rounds=total, answered=len(self.times), loss=loss, elapsed=elapsed, **found
        )
