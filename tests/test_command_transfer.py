"""`libp2p-quic send` and `receive`: files between processes, and peers that break the protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from libp2p_quic._command import file_protocol
from libp2p_quic.asyncio import Endpoint, Identity, ProtocolNotSupportedError, Stream, StreamReset
from testkit.asyncio_ends import LOOPBACK, ends
from testkit.command import COMMAND, ended, events, finished, running, terminal

FILE = "/libp2p-quic/file/1.0.0"
RECEIVE = ("receive", "--json", "--yes", "--listen", LOOPBACK)
CONTENT = random.Random(1).randbytes(3_000_000)
HALF = len(CONTENT) // 2


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The folder of the receiver."""
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """The folder of the sender, with `some.file`."""
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "some.file").write_bytes(CONTENT)
    return tmp_path / "near"


async def say(stream: Stream, **message: object) -> None:
    encoded = json.dumps(message).encode()
    await stream.write(len(encoded).to_bytes(2, "big") + encoded)


async def heard(stream: Stream) -> dict[str, Any]:
    size = int.from_bytes(await stream.read_exactly(2), "big")
    found: dict[str, Any] = json.loads(await stream.read_exactly(size))
    return found


async def is_reset(stream: Stream) -> None:
    """The receiver gives up. Its reset may overtake its agreement to the protocol."""
    with pytest.raises((StreamReset, ProtocolNotSupportedError)):
        await stream.read()


@asynccontextmanager
async def stream_to(address: str) -> AsyncIterator[Stream]:
    async with Endpoint(Identity.generate()) as endpoint, await endpoint.connect(address) as connection:
        yield await connection.open_stream(FILE)


async def sent(address: str, name: str, content: bytes, checksum: bytes) -> dict[str, Any]:
    """The final answer to a whole file; the first one if that is a refusal."""
    async with stream_to(address) as stream:
        await say(stream, name=name, size=len(content))
        answer = await heard(stream)
        if not answer.get("accepted"):
            return answer
        await say(stream, offset=0)
        await stream.write(content + checksum)
        stream.finish()
        return await heard(stream)


async def broken_off(address: str, content: bytes, total: int) -> None:
    """Send the first bytes of `some.file`, and go away when they are delivered."""
    async with stream_to(address) as stream:
        await say(stream, name="some.file", size=total)
        assert (await heard(stream))["accepted"]
        await say(stream, offset=0)
        await stream.write(content)
        stream.finish()
        await stream.finished()


def test_file_arrives_and_both_sides_print_its_checksum(near: Path, far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        told = {
            each["event"]: each for each in events(finished("send", "--json", "some.file", address, cwd=near))
        }
        offer, received = receiver.event("offer"), receiver.event("received")
        assert (receiver.end(), receiver.process.returncode) == ("", 0)
    assert (offer["name"], offer["size"]) == ("some.file", len(CONTENT))
    assert offer["peer_id"] == told["connected"]["own_peer_id"]
    assert told["sent"]["sha256"] == received["sha256"] == digest(CONTENT)
    assert received["path"] == "some.file"
    assert os.listdir(far) == ["some.file"]
    assert (far / "some.file").read_bytes() == CONTENT


def test_empty_file_arrives_under_another_name(near: Path, far: Path) -> None:
    (near / "empty").touch()
    with running(*RECEIVE, cwd=far) as receiver:
        finished("send", "--name", "nothing", "empty", receiver.event("listening")["address"], cwd=near)
        assert receiver.event("received")["sha256"] == digest(b"")
        receiver.end()
    assert [each.stat().st_size for each in far.iterdir()] == [0]
    assert os.listdir(far) == ["nothing"]


def test_person_at_a_terminal_is_asked_and_sees_a_bar(near: Path, far: Path) -> None:
    finished("identity", "make", "a.key", cwd=near)
    with terminal("receive", "--listen", LOOPBACK, cwd=far) as shown:
        address = shown.until(r"waiting for: libp2p-quic send FILE (\S+)")[1]
        with terminal("send", "--key", "a.key", "some.file", address, cwd=near) as sender:
            peer = sender.until(r"we are (12D3KooW\w+): the receiver may have to accept this peer")[1]
            question = shown.until(
                r"(12D3KooW\w+) at /ip4/\S+ offers some\.file, 2\.86 MiB\. Accept\? \[y/N\] "
            )
            assert question[1] == peer
            assert os.listdir(far) == []
            shown.press("y\n")
            sender.until(r"some\.file [━╸╺ ]+ +\d+% of 2\.86 MiB  [\d.]+ [kMG]?bit/s")
            assert sender.end() == 0
        shown.until(r"received some\.file: 2\.86 MiB in ")
        assert shown.end() == 0
    assert f"sha256 {digest(CONTENT)}" in sender.screen
    assert f"sha256 {digest(CONTENT)}" in shown.screen


def test_declined_peer_is_not_asked_about_again(near: Path, far: Path) -> None:
    finished("identity", "make", "a.key", cwd=near)
    with terminal("receive", "--listen", LOOPBACK, cwd=far) as shown:
        address = shown.until(r"send FILE (\S+)")[1]
        with running("send", "--key", "a.key", "some.file", address, cwd=near) as sender:
            shown.until(r"\[y/N\] ")
            shown.press("n\n")
            assert "the receiver does not take some.file: the receiver declined" in sender.errors()
            sender.end()
            assert sender.process.returncode == 1
        again = ended("send", "--key", "a.key", "some.file", address, cwd=near)
        assert b"the receiver declined" in again.stderr
        assert len(shown.screen.split("[y/N]")) == 2
        shown.press("\x03")
        assert shown.end() == 130
    assert os.listdir(far) == []


def test_sender_that_leaves_during_the_question_is_forgotten(near: Path, far: Path) -> None:
    with terminal("receive", "--listen", LOOPBACK, cwd=far) as shown:
        address = shown.until(r"send FILE (\S+)")[1]
        with terminal("send", "some.file", address, cwd=near) as sender:
            shown.until(r"\[y/N\] ")
            sender.press("\x03")
            assert sender.end() == 130
        shown.until("is gone")
        with running("send", "some.file", address, cwd=near) as sender_again:
            shown.until(r"(?s)is gone.*\[y/N\] ")
            shown.press("yes\n")
            sender_again.end()
            assert sender_again.process.returncode == 0
        assert shown.end() == 0


def test_only_the_named_peer_may_send(near: Path, far: Path) -> None:
    peer = finished("identity", "make", "a.key", cwd=near).strip()
    with running("receive", "--json", "--from", peer, "--listen", LOOPBACK, cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        refused = ended("send", "--json", "some.file", address, cwd=near)
        assert refused.returncode == 3
        assert events(refused.stdout.decode())[-1]["cause"] == "gated"
        finished("send", "--key", "a.key", "some.file", address, cwd=near)
        assert receiver.event("offer")["peer_id"] == peer
    assert (far / "some.file").read_bytes() == CONTENT


def test_pipe_without_consent_is_an_error(far: Path) -> None:
    done = ended("receive", "--json", cwd=far)
    assert done.returncode == 2
    assert events(done.stdout.decode())[0]["cause"] == "consent"
    assert b"--from PEER" in done.stderr


def test_broken_transfer_goes_on_where_it_stopped(near: Path, far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        asyncio.run(broken_off(address, CONTENT[:HALF], len(CONTENT)))
        assert receiver.event("broken")["position"] == HALF
    # The next one is another process, which has the hidden file of the first.
    assert not (far / "some.file").exists()
    with running(*RECEIVE, cwd=far) as receiver:
        told = finished("send", "some.file", receiver.event("listening")["address"], cwd=near)
        assert "resumed at 1.43 MiB" in told
        received = receiver.event("received")
        receiver.end()
    assert (received["resumed_at"], received["sha256"]) == (HALF, digest(CONTENT))
    assert os.listdir(far) == ["some.file"]
    assert (far / "some.file").read_bytes() == CONTENT


@pytest.mark.parametrize("other", [b"x" * HALF, b"x" * (len(CONTENT) + 1)])
def test_bytes_of_another_file_are_not_resumed(other: bytes, near: Path, far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        asyncio.run(broken_off(address, other, 2 * len(other)))
        receiver.event("broken")
        finished("send", "some.file", address, cwd=near)
        assert receiver.event("received")["resumed_at"] == 0
    assert (far / "some.file").read_bytes() == CONTENT


def test_receiver_that_goes_away_is_explained(near: Path) -> None:
    async def main() -> tuple[int, str, str]:
        async with ends() as two:
            sending = asyncio.create_task(
                asyncio.to_thread(ended, "send", "some.file", two.address, cwd=near)
            )
            connection = await two.listener.accept()
            stream = await connection.accept_stream([FILE])
            assert await heard(stream) == {"name": "some.file", "size": len(CONTENT)}
            await say(stream, accepted=True, offset=0, sha256=digest(b""))
            assert await heard(stream) == {"offset": 0}
            await stream.read_exactly(HALF)
            connection.close()
            done = await sending
            return done.returncode, done.stdout.decode(), done.stderr.decode()

    status, told, errors = asyncio.run(main())
    assert status == 1
    assert told.startswith("broken off after ")
    assert "try: run the same command again: it goes on where this one stopped" in errors


def test_control_c_prints_how_far_the_transfer_was(near: Path) -> None:
    # More than the windows of a receiver that does not read.
    with (near / "large.file").open("wb") as large:
        large.truncate(64 * 1024 * 1024)

    def watch(address: str) -> tuple[int, str]:
        with terminal("send", "large.file", address, cwd=near) as shown:
            shown.until(r"large\.file [━╸╺ ]+ +\d+% of 64\.0 MiB")
            shown.press("\x03")
            return shown.end(), shown.screen

    async def main() -> tuple[int, str]:
        async with ends() as two:
            sending = asyncio.create_task(asyncio.to_thread(watch, two.address))
            connection = await two.listener.accept()
            stream = await connection.accept_stream([FILE])
            await heard(stream)
            await say(stream, accepted=True, offset=0, sha256=digest(b""))
            return await sending

    status, screen = asyncio.run(main())
    assert status == 130
    assert "broken off after " in screen
    assert "of 64.0 MiB" in screen.rpartition("broken off after ")[2]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../some.file",
        "/etc/x",
        "a\\b",
        ".bashrc",
        "..",
        "-rf",
        "a\x1b[2Jb",
        "a\u202eb",
        "x" * 201,
        "\ud800",
    ],
)
def test_name_that_could_do_harm_is_refused_without_a_question(name: str, far: Path) -> None:
    async def offered(address: str) -> None:
        async with stream_to(address) as stream:
            await say(stream, name=name, size=1)
            if name == "\ud800":
                await is_reset(stream)
                return
            answer = await heard(stream)
            assert answer["accepted"] is False
            assert answer["reason"].startswith("the name ")

    with terminal("receive", "--listen", LOOPBACK, cwd=far) as shown:
        asyncio.run(offered(shown.until(r"send FILE (\S+)")[1]))
        shown.until("refused '|no file of ")
        assert "[y/N]" not in shown.screen
        assert "\u202e" not in shown.screen
        assert "\x1b[2J" not in shown.raw
        shown.press("\x03")
        assert shown.end() == 130
    assert os.listdir(far) == []


def test_existing_file_is_kept_unless_forced(near: Path, far: Path) -> None:
    (far / "some.file").write_text("mine")
    with running(*RECEIVE, cwd=far) as receiver:
        refused = ended("send", "--json", "some.file", receiver.event("listening")["address"], cwd=near)
        assert refused.returncode == 1
        assert events(refused.stdout.decode())[-1]["cause"] == "refused"
        assert b"a file of this name exists there" in refused.stderr
        assert receiver.event("refused")["reason"] == "a file of this name exists there"
    assert (far / "some.file").read_text() == "mine"
    with running(*RECEIVE, "--force", cwd=far) as receiver:
        finished("send", "some.file", receiver.event("listening")["address"], cwd=near)
    assert (far / "some.file").read_bytes() == CONTENT


def test_file_that_is_made_during_the_transfer_is_kept(far: Path) -> None:
    async def main(address: str) -> dict[str, Any]:
        async with stream_to(address) as stream:
            await say(stream, name="x", size=1)
            assert (await heard(stream))["accepted"]
            (far / "x").write_text("mine")
            await say(stream, offset=0)
            await stream.write(b"." + hashlib.sha256(b".").digest())
            return await heard(stream)

    with running(*RECEIVE, cwd=far) as receiver:
        answer = asyncio.run(main(receiver.event("listening")["address"]))
        assert receiver.event("error")["cause"] == "file"
        receiver.end()
        assert receiver.process.returncode == 1
    assert answer["stored"] is False
    assert (far / "x").read_text() == "mine"


def test_wrong_checksum_leaves_nothing(far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        answer = asyncio.run(sent(receiver.event("listening")["address"], "x", b"abc", bytes(32)))
        assert receiver.event("error")["cause"] == "checksum"
        receiver.end()
        assert receiver.process.returncode == 1
    assert (answer["stored"], os.listdir(far)) == (False, [])


def test_receiver_that_stays_open_survives_peers_that_break_the_protocol(near: Path, far: Path) -> None:
    async def misbehave(address: str) -> None:
        assert not (await sent(address, "x", b"abc", bytes(32)))["stored"]
        for garbage in (b"\xff\xff", b"\x00\x01[", b"\x00\x02[]", b"\x00", b"\x10\x00" + b"[" * 4096):
            async with stream_to(address) as stream:
                await stream.write(garbage)
                stream.finish()
                await is_reset(stream)
        for size in (-1, True, "1", 1 << 63, None):
            async with stream_to(address) as stream:
                await say(stream, name="x", size=size)
                await is_reset(stream)
        async with stream_to(address) as stream:
            await say(stream, name="x", size=10)
            assert (await heard(stream))["accepted"]
            await say(stream, offset=5)
            await is_reset(stream)

    with running(*RECEIVE, "--keep-open", cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        asyncio.run(misbehave(address))
        assert receiver.event("failed")["cause"] == "checksum"
        for name in ("a", "b"):
            finished("send", "--name", name, "some.file", address, cwd=near)
            assert receiver.event("received")["name"] == name
        receiver.interrupt()
        receiver.end()
        assert receiver.process.returncode == 0
        assert "Traceback" not in receiver.errors()
    assert sorted(os.listdir(far)) == ["a", "b"]


def test_senders_that_come_together_take_turns(near: Path, far: Path) -> None:
    with running(*RECEIVE, "--keep-open", cwd=far) as receiver:
        address = receiver.event("listening")["address"]
        with (
            running("send", "--name", "a", "some.file", address, cwd=near) as one,
            running("send", "--name", "b", "some.file", address, cwd=near) as two,
        ):
            for each in (one, two):
                each.end()
                assert each.process.returncode == 0
    assert (far / "a").read_bytes() == (far / "b").read_bytes() == CONTENT


def test_interrupted_receiver_tells_how_far_it_was_and_keeps_the_part(far: Path) -> None:
    async def main(address: str, watch: Callable[[], None]) -> None:
        async with stream_to(address) as stream:
            await say(stream, name="some.file", size=len(CONTENT))
            assert (await heard(stream))["accepted"]
            await say(stream, offset=0)
            await stream.write(CONTENT[:HALF])
            await asyncio.to_thread(watch)

    with terminal("receive", "--yes", "--listen", LOOPBACK, cwd=far) as shown:
        partial = far / ".some.file.libp2p-quic-part"

        def watch() -> None:
            while partial.stat().st_size < HALF:
                os.sched_yield()
            shown.press("\x03")
            assert shown.end() == 130

        asyncio.run(main(shown.until(r"send FILE (\S+)")[1], watch))
    assert "some.file broke off after 1.43 MiB of 2.86 MiB: interrupted" in shown.screen
    assert partial.read_bytes() == CONTENT[:HALF]
    assert os.listdir(far) == [partial.name]


def test_silent_sender_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_protocol, "STALL", 0.2)

    async def main() -> None:
        async with ends() as two:
            near, theirs = await two.streams()
            with pytest.raises(file_protocol.FileProtocolError, match=r"sent nothing for 0\.2 s"):
                await file_protocol.Receiver(theirs).offer()
            await is_reset(near)

    asyncio.run(main())


def test_file_beyond_the_limit_is_refused(near: Path, far: Path) -> None:
    with running(*RECEIVE, "--max-size", "1 MiB", cwd=far) as receiver:
        done = ended("send", "some.file", receiver.event("listening")["address"], cwd=near)
    assert done.returncode == 1
    assert b"it has 2.86 MiB, and the receiver takes at most 1.00 MiB" in done.stderr
    assert ended("receive", "--max-size", "much", cwd=far).returncode == 2


def test_disk_that_takes_no_more_is_explained_on_both_sides(near: Path, far: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 1000; exec "$@"', "-", *COMMAND, *RECEIVE]
    with subprocess.Popen(
        limited, cwd=far, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        address = json.loads(receiver.stdout.readline())["address"]
        done = ended("send", "some.file", address, cwd=near)
        told = events(receiver.stdout.read())
    assert done.returncode == 1
    assert b"the receiver cannot store it" in done.stderr
    assert (receiver.returncode, told[-1]["cause"]) == (1, "file")
    assert "File too large" in told[-1]["text"]
    # What arrived is kept for the next time.
    assert (far / ".some.file.libp2p-quic-part").stat().st_size > 0


def test_partial_file_is_no_link_and_has_one_receiver(far: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (far / ".x.libp2p-quic-part").symlink_to(tmp_path / "mine")

    async def twice(first: str, second: str) -> dict[str, Any]:
        async with stream_to(first) as stream:
            await say(stream, name="y", size=5)
            assert (await heard(stream))["accepted"]
            return await sent(second, "y", b"abc", bytes(32))

    with running(*RECEIVE, "-k", cwd=far) as one, running(*RECEIVE, "-k", cwd=far) as two:
        addresses = [each.event("listening")["address"] for each in (one, two)]
        linked = asyncio.run(sent(addresses[0], "x", b"abc", bytes(32)))
        refused = asyncio.run(twice(*addresses))
    assert linked == {"accepted": False, "reason": "the receiver cannot store it"}
    assert refused == {"accepted": False, "reason": "y is being received already"}
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("nothing", "cannot read nothing: No such file"),
        ("folder", "folder is a folder"),
        ("pipe", "pipe is no regular file"),
        (".hidden", "'.hidden' cannot be sent: the name begins with a dot"),
    ],
)
def test_file_that_cannot_be_sent_is_explained(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    done = ended("send", file, "/ip4/127.0.0.1/udp/9/quic-v1", cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr.decode()
    assert b"try: " in done.stderr


def test_peer_that_does_not_receive_is_explained(near: Path) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        done = ended("send", "some.file", listener.event("listening")["address"], cwd=near)
    assert done.returncode == 1
    assert b"the peer has to run: libp2p-quic receive" in done.stderr


def test_dial_shows_what_a_receiver_serves(far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        told = events(finished("dial", "--json", receiver.event("listening")["address"]))
    identified = next(each for each in told if each["event"] == "identify")
    assert identified["protocols"] == ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", FILE]
