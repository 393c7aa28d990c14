"""`libp2p-quic ping` and `listen`, in processes of their own, with pipes and in pseudo-terminals."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest

from libp2p_quic.asyncio import Connection, Identity, Listener, Stream
from testkit.asyncio_ends import ends
from testkit.command import ended, events, finished, running, terminal

LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"
PING = "/ipfs/ping/1.0.0"
SOMEBODY = Identity.generate().peer_id


async def in_thread(*arguments: object) -> tuple[int, str, str]:
    """Status, standard output and standard error of the command, while this loop serves it."""
    done = await asyncio.to_thread(ended, *arguments)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_rounds_and_their_figures_are_printed() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        told = finished("ping", "-c", 3, "-i", 0, address)
        connected, *rounds, summary = events(finished("ping", "-c", 5, "-i", 0, "--json", address))
    lines = told.splitlines()
    assert lines[0] == f"ping {address}"
    assert [line.split(":")[0] for line in lines[1:4]] == ["round 1", "round 2", "round 3"]
    assert lines[5].startswith("3 rounds, 3 answered, 0.0% lost")
    assert lines[6].startswith("min ")
    assert connected["peer_id"] == address.rpartition("/")[2]
    times = sorted(each["rtt"] for each in rounds)
    assert [each["number"] for each in rounds] == [1, 2, 3, 4, 5]
    assert [summary[name] for name in ("min", "median", "p99", "max")] == [times[at] for at in (0, 2, 4, 4)]
    assert (summary["rounds"], summary["answered"], summary["loss"]) == (5, 5, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_ping_prints_what_was_measured(number: signal.Signals) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with running("ping", "--json", "-i", "100", address) as ping:
            ping.event("round")
            ping.process.send_signal(number)
            (summary,) = events(ping.end())
            assert ping.process.returncode == 0
    assert summary["rounds"] == 1


def test_control_c_in_a_terminal_prints_what_was_measured() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("ping", "-i", "100", address) as shown:
            shown.until("round 1: ")
            shown.press("\x03")
            shown.until(r"1 rounds, 1 answered, 0.0% lost")
            assert shown.end() == 0


def test_ping_that_is_interrupted_before_an_answer_has_no_result() -> None:
    async def main() -> tuple[int, str]:
        asked = asyncio.Event()

        async def silent(stream: Stream) -> None:
            await stream.read_exactly(32)
            asked.set()
            await stream.read()

        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({PING: silent}))
            with running("ping", "-W", 300, "--json", two.address) as ping:
                await asyncio.wait_for(asked.wait(), 100)
                ping.interrupt()
                told = await asyncio.to_thread(ping.end)
            serving.cancel()
        assert ping.process.returncode is not None
        return ping.process.returncode, told

    status, told = asyncio.run(main())
    assert status == 130
    assert [each["event"] for each in events(told)] == ["connected"]


def test_ping_that_loses_its_connection_says_why() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with running("ping", "--json", "-i", "100", address) as ping:
            ping.event("round")
            listener.interrupt()
            summary, error = events(ping.end())
            assert ping.process.returncode == 1
            assert "try:" in ping.errors()
    assert (summary["answered"], error["cause"]) == (1, "closed")


def test_unanswered_round_is_lost_and_the_next_one_has_a_new_stream() -> None:
    async def main() -> tuple[int, str, str]:
        streams: list[Stream] = []

        async def silent_once(stream: Stream) -> None:
            streams.append(stream)
            while data := await stream.read(32):
                if len(streams) > 1:
                    await stream.write(data)

        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({PING: silent_once}))
            told = await in_thread("ping", "-c", 2, "-i", 0, "-W", 2, "--json", two.address)
            serving.cancel()
        assert len(streams) == 2
        return told

    status, told, errors = asyncio.run(main())
    lost, answered, summary, error = events(told)[1:]
    assert (status, lost["rtt"], error["cause"]) == (1, None, "loss")
    assert answered["rtt"] > 0
    assert summary["loss"] == 0.5
    assert "1 of 2 rounds were not answered within 2 s" in errors


def test_new_streams_have_one_round_each() -> None:
    async def main() -> tuple[tuple[int, str, str], list[int]]:
        rounds: list[int] = []

        async def counted(stream: Stream) -> None:
            rounds.append(0)
            number = len(rounds) - 1
            while data := await stream.read(32):
                rounds[number] += 1
                await stream.write(data)

        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({PING: counted}))
            told = await in_thread("ping", "-c", 3, "-i", 0, "--new-streams", "--json", two.address)
            serving.cancel()
        return told, rounds

    (status, told, _), rounds = asyncio.run(main())
    assert status == 0
    assert events(told)[-1]["answered"] == 3
    assert rounds == [1, 1, 1]


def test_peer_may_ping_and_identify_meanwhile() -> None:
    async def main() -> tuple[bytes, bytes]:
        async with ends() as two:
            with running("ping", "-W", 300, two.address) as ping:
                connection = await two.listener.accept()
                stream = await connection.open_stream(PING)
                await stream.write(bytes(range(32)))
                answered = await asyncio.wait_for(stream.read_exactly(32), 100)
                asked = await connection.open_stream("/ipfs/id/1.0.0")
                told = await asyncio.wait_for(asked.read(), 100)
                ping.interrupt()
                await asyncio.to_thread(ping.end)
        return answered, told

    answered, told = asyncio.run(main())
    assert answered == bytes(range(32))
    assert b"libp2p-quic/" in told


def test_peer_without_ping_is_explained() -> None:
    async def main() -> tuple[int, str, str]:
        async with ends() as two:
            serving = asyncio.create_task(two.listener.serve({"/other": lambda stream: stream.read()}))
            told = await in_thread("ping", "-c", 1, two.address)
            serving.cancel()
        return told

    status, _, errors = asyncio.run(main())
    assert status == 1
    assert "the peer supports none of /ipfs/ping/1.0.0" in errors
    assert "dial ADDR lists the protocols" in errors


def test_peer_that_resets_ping_is_explained() -> None:
    async def main() -> tuple[int, str, str]:
        async def reset_first(listener: Listener) -> None:
            connection = await listener.accept()
            (await connection.accept_stream()).reset()
            await connection.closed()

        async with ends() as two:
            resetting = asyncio.create_task(reset_first(two.listener))
            told = await in_thread("ping", "-c", 1, two.address)
            await resetting
        return told

    status, _, errors = asyncio.run(main())
    assert status == 1
    assert "reset the stream before it agreed to /ipfs/ping/1.0.0" in errors
    assert "dial ADDR lists the protocols" in errors


def test_listener_in_a_terminal_shows_a_qr_code_and_a_live_table() -> None:
    with terminal("listen", LOOPBACK) as shown:
        address = shown.until(r"(/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1/p2p/12D3KooW\w+)\n")[1]
        shown.until("[█▀▄]{5}")
        shown.until("0 connections so far")
        with terminal("ping", "-i", "100", address) as ping:
            ping.until("round 1")
            shown.until(r"(?s)rtt.*…\w{8} .*127\.0\.0\.1/udp/\d+.* open ")
            ping.press("\x03")
            assert ping.end() == 0
        shown.until(r"connection\s")
        shown.press("\x03")
        assert shown.end() == 0


def test_listener_in_a_pipe_prints_a_line_for_each_event(tmp_path: Path) -> None:
    finished("identity", "make", "a.key", cwd=tmp_path)
    finished("identity", "make", "b.key", cwd=tmp_path)
    peer = finished("identity", "show", "b.key", "--json", cwd=tmp_path)
    with running("listen", "--key", "a.key", LOOPBACK, cwd=tmp_path) as listener:
        address = listener.line().strip()
        finished("identity", "compare", address.rpartition("/")[2], "a.key", cwd=tmp_path)
        finished("ping", "-c", 1, "--key", "b.key", address, cwd=tmp_path)
        assert listener.line().strip().endswith(f"/quic-v1/p2p/{events(peer)[0]['peer_id']}")
        assert listener.line().startswith("closed /ip4/127.0.0.1/udp/")
        listener.interrupt()
        assert (listener.end(), listener.process.returncode) == ("", 0)


def test_wildcard_listener_prints_addresses_that_can_be_dialed() -> None:
    with running("listen", "--json") as listener:
        address = listener.event("listening")["address"]
        assert address.startswith("/ip4/127.0.0.1/udp/")
        finished("ping", "-c", 1, address)


def test_listener_admits_allowed_peers_only(tmp_path: Path) -> None:
    peer = finished("identity", "make", "a.key", cwd=tmp_path).strip()
    other = finished("identity", "make", "b.key", cwd=tmp_path).strip()
    with running("listen", "--json", "--allow", peer, LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        finished("ping", "-c", 1, "--key", "a.key", address, cwd=tmp_path)
        refused = ended("ping", "-c", 1, "--json", "--key", "b.key", address, cwd=tmp_path)
        told = listener.event("refused")
    assert refused.returncode == 3
    assert events(refused.stdout.decode())[-1]["cause"] == "gated"
    assert re.fullmatch(r"/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1", told.pop("address"))
    assert told == {
        "event": "refused",
        "peer_id": other,
        "cause": "gated",
        "reason": "--allow does not name it",
    }


def test_listener_prints_the_peers_that_it_refuses(tmp_path: Path) -> None:
    other = finished("identity", "make", "b.key", cwd=tmp_path).strip()
    with running("listen", "--allow", SOMEBODY, LOOPBACK) as listener:
        address = listener.line().strip()
        assert ended("ping", "-c", 1, "--key", "b.key", address, cwd=tmp_path).returncode == 3
        refused = listener.line().strip()
        listener.interrupt()
        # No further line, also not of the log on standard error.
        assert (listener.end(), listener.process.returncode) == ("", 0)
        assert listener.errors() == ""
    assert re.fullmatch(rf"refused /ip4/127\S+/quic-v1/p2p/{other}: --allow does not name it", refused)


def test_listener_in_a_terminal_shows_the_peers_that_it_refuses(tmp_path: Path) -> None:
    other = finished("identity", "make", "b.key", cwd=tmp_path).strip()
    with terminal("listen", "--allow", SOMEBODY, LOOPBACK) as shown:
        address = shown.until(r"(/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1/p2p/12D3KooW\w+)\n")[1]
        shown.until("0 connections so far, 0 refused")
        assert ended("ping", "-c", 1, "--key", "b.key", address, cwd=tmp_path).returncode == 3
        shown.until(rf"(?s)refused: --allow does not name it.*{other}  /ip4/127\.0\.0\.1")
        shown.until("0 connections so far, 1 refused")
        shown.press("\x03")
        assert shown.end() == 0


def test_address_that_cannot_be_listened_on_is_explained() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        taken = listener.event("listening")["address"].rpartition("/p2p/")[0]
        done = ended("listen", taken)
    assert done.returncode == 3
    assert b"Address already in use" in done.stderr
    assert b"ss -lunp" in done.stderr
    assert ended("listen", "/dns4/localhost/udp/0/quic-v1").returncode == 2
    assert ended("listen", "--allow", "x").returncode == 2


def test_identify_tells_the_protocols_of_the_listener() -> None:
    from libp2p_quic._command.identify import IDENTIFY, identify
    from libp2p_quic.asyncio import Endpoint

    async def main(address: str) -> None:
        async with Endpoint(Identity.generate()) as endpoint:
            connection: Connection = await endpoint.connect(address)
            found = await identify(connection)
            assert found.protocols == ("/echo/1.0.0", IDENTIFY, PING, "/perf/1.0.0")
            assert found.observed_address == connection.local_address
            assert found.listen_addresses == (connection.remote_address,)
            assert found.agent.startswith("libp2p-quic/")

    with running("listen", "--json", LOOPBACK) as listener:
        asyncio.run(main(listener.event("listening")["address"]))
