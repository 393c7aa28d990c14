"""`libp2p-quic perf`: goodput by libp2p's perf protocol, with rtt, loss and congestion window."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from typing import TypedDict

import click

from libp2p_quic._command.connecting import connected
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.listening import announce, opened
from libp2p_quic._command.live import LiveBar
from libp2p_quic._command.options import (
    Seconds,
    address_of,
    identity_of,
    key_option,
    timeout_option,
)
from libp2p_quic._command.output import INTERRUPTED, CommandFailedError, Output, json_option
from libp2p_quic._command.perf_protocol import PERF, download, serve_perf, upload
from libp2p_quic._command.quantity import duration, rate, size
from libp2p_quic._command.server import Server
from libp2p_quic._command.services import PING, ping
from libp2p_quic._identity import Identity
from libp2p_quic.asyncio.connection import Connection, cancel_all
from libp2p_quic.asyncio.endpoint import Endpoint

# How often the bar is drawn, and how often --json prints figures. Seconds.
_DRAW_INTERVAL = 0.2
_REPORT_INTERVAL = 1.0


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic perf ADDR
  libp2p-quic perf --direction both --streams 4 --seconds 30 ADDR
  libp2p-quic perf --json ADDR | tail -1 | jq .up.bits_per_second
  libp2p-quic perf --listen /ip4/0.0.0.0/udp/4001/quic-v1
"""
)
@click.argument("addresses", metavar="ADDR", nargs=-1)
@click.option(
    "--listen",
    "is_listening",
    is_flag=True,
    help="Serve /perf/1.0.0 on each ADDR until Ctrl-C. Default: a port that the system chooses.",
)
@click.option(
    "--direction",
    type=click.Choice(["up", "down", "both"]),
    default="up",
    show_default=True,
    help="up: this side sends. both: at the same time.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    metavar="N",
    help="In each direction.",
)
@click.option(
    "--seconds",
    type=Seconds(0.1),
    default=10.0,
    show_default=True,
    metavar="S",
    help="How long to send.",
)
@key_option
@timeout_option
@json_option
def perf(
    addresses: tuple[str, ...],
    is_listening: bool,
    direction: str,
    streams: int,
    seconds: float,
    key_file: str | None,
    timeout: float,
    is_json: bool,
) -> None:
    """Measure the goodput to and from ADDR, which serves /perf/1.0.0: go-libp2p, rust-libp2p, js-libp2p,
    or `libp2p-quic listen` and `perf --listen`.

    Bytes sent are counted until the peer has read the last one. Loss is of packets that this side sent.
    Ctrl-C prints what was measured so far.
    """
    output = Output(is_json)
    if not is_listening and len(addresses) != 1:
        raise click.UsageError("perf needs one ADDR, or --listen")
    identity = identity_of(key_file, output)
    if is_listening:
        run(lambda interruption: _serve(interruption, identity, addresses, output))
        return
    address = address_of(addresses[0], is_json)

    async def command(interruption: Interruption) -> bool:
        """Whether it was interrupted before there was a result."""
        async with connected(address, identity, timeout, output) as connection:
            output.text(f"perf {connection.remote_address}/p2p/{connection.peer_id}")
            transfer = _Transfer(connection, output, seconds)
            try:
                is_interrupted = await interruption.measured(transfer.run(direction, streams))
            finally:
                has_result = transfer.summarize(direction)
            return is_interrupted and not has_result

    if run(command):
        sys.exit(INTERRUPTED)


async def _serve(
    interruption: Interruption, identity: Identity, addresses: tuple[str, ...], output: Output
) -> None:
    async with Endpoint(identity) as endpoint:
        listeners = await opened(endpoint, addresses, output)
        announce(endpoint, listeners, output)
        server = Server(listeners, identity.public_key, output, {PERF: serve_perf, PING: ping})
        await interruption.measured(server.run())


class _Flow(TypedDict):
    bytes: int
    bits_per_second: float


class _Transfer:
    """All streams of one run, and their figures."""

    def __init__(self, connection: Connection, output: Output, seconds: float) -> None:
        self._connection = connection
        self._output = output
        self._seconds = seconds
        self._began = time.monotonic()
        self._sent = 0
        self._received = 0
        # Sent, received and time at the last report.
        self._reported = 0, 0, self._began

    def _count_sent(self, count: int) -> None:
        self._sent += count

    def _count_received(self, count: int) -> None:
        self._received += count

    async def run(self, direction: str, streams: int) -> None:
        """Send and receive until the time is over and the peer has read everything. Raises QUICError."""
        self._began = time.monotonic()
        self._reported = 0, 0, self._began
        until = self._began + self._seconds
        running: set[asyncio.Task[None]] = set()
        for _ in range(streams):
            if direction != "down":
                running.add(asyncio.create_task(upload(self._connection, until, self._count_sent)))
            if direction != "up":
                running.add(asyncio.create_task(download(self._connection, until, self._count_received)))
        try:
            await self._watch(running)
        finally:
            await cancel_all(running)
        if direction != "up" and not self._received:
            text = f"the peer agreed to {PERF} and sent nothing in {self._seconds:g} s"
            step = (
                "measure in the other direction with --direction up, or for longer; look into the peer's log"
            )
            raise CommandFailedError(Explanation("silent", text, step), self._output.is_json)

    async def _watch(self, running: set[asyncio.Task[None]]) -> None:
        interval = _DRAW_INTERVAL if self._output.is_live else _REPORT_INTERVAL
        with ExitStack() as stack:
            bar = None
            if self._output.is_live:
                bar = stack.enter_context(LiveBar(self._seconds, "0.0 s"))
            pending = set(running)
            while pending:
                done, pending = await asyncio.wait(
                    pending, timeout=interval, return_when=asyncio.FIRST_EXCEPTION
                )
                for each in done:
                    each.result()
                if bar is not None:
                    elapsed = time.monotonic() - self._began
                    bar.draw(elapsed, self._figures(), f"{elapsed:.1f} s")
                elif pending:
                    self._output.event("interval", **self._interval())

    def _figures(self) -> list[str]:
        """The figures since the last call, the most important first."""
        facts = self._interval()
        up, down = facts["up_bits_per_second"], facts["down_bits_per_second"]
        flows = [f"{name} {rate(value)}" for name, value in (("up", up), ("down", down)) if value]
        path = [f"rtt {duration(facts['rtt'])}", f"lost {facts['packets_lost']:.0f}"]
        return [*flows, *path, f"window {size(facts['congestion_window'])}"]

    def _interval(self) -> dict[str, float]:
        now = time.monotonic()
        sent, received, before = self._reported
        self._reported = self._sent, self._received, now
        elapsed = max(now - before, 1e-9)
        return {
            "elapsed": now - self._began,
            "up_bits_per_second": (self._sent - sent) * 8 / elapsed,
            "down_bits_per_second": (self._received - received) * 8 / elapsed,
            **self._path(),
        }

    def _path(self) -> dict[str, float]:
        facts = self._connection.statistics()
        counts = ("datagrams_sent", "packets_sent", "packets_lost", "congestion_events")
        return {name: getattr(facts, name) for name in ("rtt", "congestion_window", "mtu", *counts)}

    def summarize(self, direction: str) -> bool:
        """Print the figures of the whole run. Nothing if no byte was transferred. Returns whether there are
        figures."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        counts = {"up": self._sent, "down": self._received}
        flows = {
            name: _Flow(bytes=count, bits_per_second=count * 8 / elapsed)
            for name, count in counts.items()
            if direction in (name, "both")
        }
        if not any(flow["bytes"] for flow in flows.values()):
            return False
        path = self._path()
        for name, flow in flows.items():
            self._output.text(
                f"{name:<4}  {rate(flow['bits_per_second'])}  {size(flow['bytes'])} in {duration(elapsed)}"
            )
        loss = path["packets_lost"] / max(path["packets_sent"], 1)
        self._output.text(
            f"path  rtt {duration(path['rtt'])}  lost {path['packets_lost']:.0f} ({loss:.2%})  "
            f"window {size(path['congestion_window'])}  mtu {path['mtu']:.0f}"
        )
        self._output.event("summary", elapsed=elapsed, **flows, loss=loss, **path)
        return True
