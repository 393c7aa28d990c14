"""`libp2p-quic perf`, against `listen` and against a peer that does not serve it."""

from __future__ import annotations

import asyncio
import re

import pytest

from libp2p_quic.asyncio import Stream
from testkit.asyncio_ends import LOOPBACK, ends
from testkit.command import ended, events, finished, running, terminal


@pytest.mark.parametrize(
    ("direction", "flows"), [("up", {"up"}), ("down", {"down"}), ("both", {"up", "down"})]
)
def test_goodput_of_each_direction_is_what_the_listener_counts(direction: str, flows: set[str]) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        told = finished("perf", "--json", "--seconds", 2, "--streams", 2, "--direction", direction, address)
        closed = listener.event("closed")
    summary = events(told)[-1]
    assert summary["event"] == "summary"
    assert flows == {"up", "down"} & set(summary)
    for name, counted in (("up", "bytes_received"), ("down", "bytes_sent")):
        if name in flows:
            flow = summary[name]
            assert 0 < flow["bytes"] < closed[counted]
            assert flow["bits_per_second"] == pytest.approx(flow["bytes"] * 8 / summary["elapsed"])
    assert summary["rtt"] > 0
    assert summary["congestion_window"] > 0
    assert summary["packets_sent"] > 0
    # In the handshake a datagram has several packets, and a loss is one of a packet.
    assert summary["loss"] == summary["packets_lost"] / summary["packets_sent"]


def test_pipe_gets_the_summary_alone() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        done = ended("perf", "--seconds", 2, address)
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["perf", "up", "path"]
    assert done.stderr == b""


def test_bar_in_a_terminal_and_control_c() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("perf", "--seconds", 1000, address) as shown:
            shown.until(r"s +[━╸╺ ]+ +up [\d.]+ [MGk]?bit/s  rtt .* lost \d+  window ")
            shown.press("\x03")
            assert shown.end() == 0
    # The bar is erased and the cursor returns to its line.
    assert re.search(r"[\r\n]up +[\d.]+ ", shown.screen)
    assert "path  rtt " in shown.screen


def test_perf_listens_and_serves_nothing_else_to_measure() -> None:
    with running("perf", "--listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        summary = events(finished("perf", "--json", "--seconds", 2, address))[-1]
        closed = listener.event("closed")
        told = events(finished("dial", "--json", address))
        listener.interrupt()
        listener.end()
        assert listener.process.returncode == 0
    assert 0 < summary["up"]["bytes"] < closed["bytes_received"]
    identified = next(each for each in told if each["event"] == "identify")
    assert identified["protocols"] == ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/perf/1.0.0"]


def test_perf_without_an_address_is_a_usage_error() -> None:
    done = ended("perf")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"perf needs one ADDR, or --listen" in done.stderr


def test_peer_without_perf_is_explained() -> None:
    async def main() -> tuple[int, bytes]:
        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({"/other": lambda stream: stream.read()}))
            done = await asyncio.to_thread(ended, "perf", "--seconds", 0.3, two.address)
            serving.cancel()
            return done.returncode, done.stderr

    status, errors = asyncio.run(main())
    assert status == 1
    assert b"the peer supports none of /perf/1.0.0" in errors


def test_measurement_that_is_interrupted_before_a_byte_has_no_result() -> None:
    async def main() -> tuple[int, str]:
        asked, over = asyncio.Event(), asyncio.Event()

        async def silent(_: Stream) -> None:
            asked.set()
            await over.wait()

        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({"/perf/1.0.0": silent}))
            with running("perf", "--seconds", 1000, "--direction", "down", two.address) as perf:
                await asyncio.wait_for(asked.wait(), 100)
                perf.interrupt()
                told = await asyncio.to_thread(perf.end)
            over.set()
            serving.cancel()
        assert perf.process.returncode is not None
        return perf.process.returncode, told

    status, told = asyncio.run(main())
    assert status == 130
    assert [line.split()[0] for line in told.splitlines()] == ["perf"]


def test_download_from_a_peer_that_sends_nothing_ends_in_time() -> None:
    async def main() -> tuple[int, bytes]:
        over = asyncio.Event()

        async def silent(_: Stream) -> None:
            await over.wait()

        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({"/perf/1.0.0": silent}))
            arguments = ("perf", "--seconds", 0.3, "--direction", "down", two.address)
            done = await asyncio.to_thread(ended, *arguments)
            over.set()
            serving.cancel()
            return done.returncode, done.stderr

    status, errors = asyncio.run(main())
    assert status == 1
    assert b"agreed to /perf/1.0.0 and sent nothing in 0.3 s" in errors
