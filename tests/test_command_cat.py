"""`libp2p-quic cat`: standard input and output of two processes, with pipes and in pseudo-terminals."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testkit.asyncio_ends import LOOPBACK, ends
from testkit.command import COMMAND, conversation, ended, events, finished, terminal

CAT = "/libp2p-quic/cat/1.0.0"
THERE, BACK = random.Random(1).randbytes(3_000_000), random.Random(2).randbytes(2_000_000)


@contextmanager
def waiting(*options: str, folder: Path, given: bytes = b"") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A listener whose input and output are files, and its address."""
    (folder / "given").write_bytes(given)
    command = [*COMMAND, "cat", "--json", "--listen", *options, LOOPBACK]
    with (
        (folder / "given").open("rb") as source,
        (folder / "taken").open("wb") as target,
        subprocess.Popen(command, stdin=source, stdout=target, stderr=subprocess.PIPE) as process,
    ):
        try:
            assert process.stderr is not None
            yield json.loads(process.stderr.readline())["address"], process
        finally:
            process.kill()


def test_bytes_go_both_ways_and_their_checksums_agree(tmp_path: Path) -> None:
    with waiting("--yes", folder=tmp_path, given=BACK) as (address, listener):
        done = ended("cat", "--json", address, given=THERE)
        assert listener.stderr is not None
        theirs = events(listener.stderr.read().decode())[-1]
        assert listener.wait(100) == 0
    ours = events(done.stderr.decode())[-1]
    assert (done.returncode, done.stdout) == (0, BACK)
    assert (tmp_path / "taken").read_bytes() == THERE
    assert (ours["sent"], ours["received"], ours["complete"]) == (len(THERE), len(BACK), True)
    assert ours["sent_sha256"] == theirs["received_sha256"] == hashlib.sha256(THERE).hexdigest()
    assert theirs["sent_sha256"] == ours["received_sha256"] == hashlib.sha256(BACK).hexdigest()


def test_pipe_gets_the_bytes_alone(tmp_path: Path) -> None:
    with waiting("--yes", folder=tmp_path, given=b"hello\n") as (address, _):
        done = ended("cat", address)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")


def test_standard_input_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with waiting("--yes", folder=tmp_path) as (address, _):
        # Opened for writing only. A terminal that is gone fails likewise.
        done = ended("cat", "--json", address, cwd=tmp_path, redirection="0> unreadable")
    error = events(done.stderr.decode())[-1]
    assert (done.returncode, error["event"], error["cause"]) == (1, "error", "file")
    assert error["text"] == "cannot read standard input: Bad file descriptor"


def test_two_people_talk_after_the_question() -> None:
    with terminal("cat", "--listen", LOOPBACK) as shown:
        address = shown.until(r"waiting for: libp2p-quic cat (\S+)")[1]
        with terminal("cat", address) as other:
            shown.until(r"12D3KooW\w+ at /ip4/\S+ offers a stream\. Accept\? \[y/N\] ")
            # Bytes of a peer that is not accepted yet are not shown.
            other.press("typed too early\n")
            shown.press("y\n")
            shown.until(r"(?s)connected to 12D3KooW.*typed too early")
            shown.press("hello\n")
            other.until("hello")
            other.press("\x04")
            assert shown.end() == 0
            assert other.end() == 0
    assert "Accept?" in shown.screen.partition("typed too early")[0]


def test_declined_peer_gets_an_explanation_and_the_next_one_is_asked_about() -> None:
    with terminal("cat", "--listen", LOOPBACK) as shown:
        address = shown.until(r"waiting for: libp2p-quic cat (\S+)")[1]
        with terminal("cat", address) as refused:
            shown.until(r"\[y/N\] ")
            shown.press("\n")
            refused.until("the peer admits certain peers only")
            assert refused.end() == 3
        with terminal("cat", address) as welcome:
            shown.until(r"(?s)\[y/N\] .*\[y/N\] ")
            shown.press("y\n")
            welcome.press("\x04")
            assert (welcome.end(), shown.end()) == (0, 0)


def test_only_the_named_peer_may_connect(tmp_path: Path) -> None:
    peer = finished("identity", "make", "a.key", cwd=tmp_path).strip()
    with waiting("--from", peer, folder=tmp_path) as (address, listener):
        refused = ended("cat", "--json", address, given=b"no")
        assert refused.returncode == 3
        assert events(refused.stderr.decode())[-1]["cause"] == "gated"
        assert refused.stdout == b""
        assert ended("cat", "--key", tmp_path / "a.key", address, given=b"yes").returncode == 0
        assert listener.wait(100) == 0
    assert (tmp_path / "taken").read_bytes() == b"yes"


def test_pipe_without_consent_is_an_error() -> None:
    done = ended("cat", "--listen", "--json")
    assert (done.returncode, done.stdout) == (2, b"")
    assert events(done.stderr.decode().splitlines()[0])[0]["cause"] == "consent"
    assert ended("cat").returncode == 2


def test_peer_that_resets_is_no_clean_end() -> None:
    async def main() -> tuple[int, bytes]:
        async with ends() as two:
            running = asyncio.create_task(asyncio.to_thread(ended, "cat", two.address, given=b"x"))
            connection = await two.listener.accept()
            stream = await connection.accept_stream([CAT])
            await stream.write(b"a part")
            assert await stream.read_to_end() == b"x"
            stream.reset()
            done = await running
            return done.returncode, done.stderr

    status, errors = asyncio.run(main())
    assert status == 1
    assert b"error: " in errors


def test_control_c_prints_what_was_exchanged() -> None:
    with conversation() as (shown, other):
        other.press("hello\n")
        shown.until(r"hello")
        other.press("\x03")
        other.until(r"6 B sent, 0 B received in .*, broken off")
        assert other.end() == 130
        assert shown.end() == 1


def test_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    with waiting("--yes", folder=tmp_path, given=THERE) as (address, _):
        command = f"{' '.join(COMMAND)} cat {address} < /dev/null | head -c 10"
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, timeout=100)
    assert done.stdout == THERE[:10]
    assert b"Traceback" not in done.stderr
