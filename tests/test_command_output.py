"""`libp2p-quic` whose standard streams are full, closed, or read by nobody: it ends with the status that the
page has, says why if that is possible, and loses nothing that it has stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libp2p_quic.asyncio import Endpoint, Identity
from testkit.asyncio_ends import LOOPBACK
from testkit.census import PATIENCE
from testkit.command import COMMAND, ended, events, filling, finished, running

FILE, PING = "/libp2p-quic/file/1.0.0", "/ipfs/ping/1.0.0"
RECEIVE = ("receive", "--yes", "--listen", LOOPBACK)
CONTENT = random.Random(1).randbytes(300_000)
SOMEBODY = Identity.generate()
KEY = SOMEBODY.to_protobuf()
# Each prints something that click, the command, or the end of a command writes.
PRINTING = [
    ("--help",),
    ("ping", "--help"),
    ("--version",),
    ("completion", "bash"),
    ("completion", "bash", "--json"),
    ("identity", "show", "-"),
    ("identity", "make", "-"),
    ("identity", "convert", "-"),
    ("identity", "convert", "--form", "pem", "-"),
    ("dial", "--json", "hello"),
]


@contextmanager
def without_reader() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def is_clean(errors: str) -> bool:
    return "Traceback" not in errors and "Exception ignored" not in errors


def is_silent(errors: str) -> bool:
    return is_clean(errors) and "error: " not in errors


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_an_error(arguments: tuple[str, ...], redirection: str) -> None:
    done = ended(*arguments, given=KEY, redirection=redirection)
    errors = done.stderr.decode()
    assert done.returncode == 2, errors
    assert is_clean(errors)
    assert errors.startswith("error: ")
    if "hello" not in arguments:
        reason = {">/dev/full": "No space left on device", ">&-": "Bad file descriptor"}[redirection]
        assert errors.splitlines()[0] == f"error: cannot write the results: {reason}"


@pytest.mark.parametrize(
    ("arguments", "redirection"),
    [
        (("--help",), ">/dev/full"),
        (("--help",), ">&-"),
        (("identity", "show", "-"), ">/dev/full"),
        (("ping", "--nothing"), "2>/dev/full"),
    ],
    ids=str,
)
def test_output_without_a_buffer_that_cannot_be_written_is_an_error(
    arguments: tuple[str, ...], redirection: str
) -> None:
    done = ended(*arguments, given=KEY, redirection=redirection, env={"PYTHONUNBUFFERED": "1"})
    assert (done.returncode, is_clean(done.stderr.decode())) == (2, True)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_key_that_a_full_disk_takes_a_part_of_is_an_error(unbuffered: str, tmp_path: Path) -> None:
    """A limit on the size of a file stands for the disk: four bytes fit."""
    program = ["bash", "-c", 'ulimit -f 1; exec "$@" >>results', "-", *COMMAND, "identity", "convert", "-"]
    results = tmp_path / "results"
    results.write_bytes(bytes(1020))
    done = subprocess.run(
        program,
        cwd=tmp_path,
        input=KEY,
        stderr=subprocess.PIPE,
        check=False,
        timeout=100,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    errors = done.stderr.decode()
    assert (done.returncode, results.stat().st_size) == (2, 1024)
    assert errors.startswith("error: cannot write the results: File too large")
    assert is_clean(errors)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_output_that_nobody_reads_is_no_message(arguments: tuple[str, ...]) -> None:
    with without_reader() as writing:
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=KEY,
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            timeout=100,
        )
    if "hello" in arguments:
        assert (done.returncode, is_clean(done.stderr.decode())) == (2, True)
        assert done.stderr.startswith(b"error: ")
    else:
        assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("identity", "show", "-"), 0),
        (("identity", "show", "nothing"), 2),
        (("ping", "--nothing"), 2),
        (("dial", "--json", "hello"), 2),
    ],
    ids=str,
)
def test_errors_that_cannot_be_written_change_no_status(
    arguments: tuple[str, ...], status: int, redirection: str
) -> None:
    assert ended(*arguments, given=KEY, redirection=redirection).returncode == status


def test_remark_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """`trace` says where a picture is, if standard error is a terminal."""
    record = {"name": "quic:packet_sent", "time": 0, "data": {}}
    (tmp_path / "file").write_text(f"\x1e{json.dumps(record)}\n")
    done = ended("trace", "--svg", "picture", "file", cwd=tmp_path, redirection="2>&-")
    assert done.returncode == 0
    assert (tmp_path / "picture").exists()


@pytest.mark.parametrize("form", ["protobuf", "pem"])
def test_key_on_standard_output_is_whole(form: str) -> None:
    done = ended("identity", "convert", "--form", form, "-", given=KEY)
    assert finished("identity", "compare", "-", SOMEBODY.peer_id, given=done.stdout).startswith("the same")


def test_closed_input_is_empty() -> None:
    done = ended("identity", "show", "-", redirection="<&-")
    assert (done.returncode, is_clean(done.stderr.decode())) == (2, True)
    assert b"error: " in done.stderr
    assert ended("receive", redirection="<&-").returncode == 2


def test_bytes_for_a_closed_output_go_nowhere_else() -> None:
    """A socket would get the number of standard output otherwise, and a peer's bytes with it."""
    with subprocess.Popen(
        [*COMMAND, "cat", "--json", "--listen", "--yes", LOOPBACK],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as listener:
        try:
            assert listener.stdin is not None
            assert listener.stderr is not None
            listener.stdin.write(b"hello")
            listener.stdin.close()
            address = json.loads(listener.stderr.readline())["address"]
            done = ended("cat", address, redirection=">&-")
        finally:
            listener.kill()
    assert done.returncode == 1
    assert b"error: cannot write what the peer sent: Bad file descriptor" in done.stderr
    assert is_clean(done.stderr.decode())


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The folder of the receiver."""
    (tmp_path / "far").mkdir()
    return tmp_path / "far"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "some.file").write_bytes(CONTENT)
    return tmp_path / "some.file"


def test_stored_file_is_reported_to_the_sender_though_nobody_reads(source: Path, far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        address = receiver.line().strip()
        receiver.leave()
        assert hashlib.sha256(CONTENT).hexdigest() in finished("send", source, address)
        assert receiver.status() == 1
        assert is_silent(receiver.errors())
    assert (far / "some.file").read_bytes() == CONTENT


def test_stored_file_is_reported_to_the_sender_though_the_disk_is_full(source: Path, far: Path) -> None:
    with filling(*RECEIVE, cwd=far) as (receiver, pipe):
        address = pipe.line().strip()
        pipe.fill()
        finished("send", source, address)
        assert receiver.status() == 2
        errors = receiver.errors()
    assert errors.startswith("error: cannot write the results: ")
    assert is_clean(errors)
    assert (far / "some.file").read_bytes() == CONTENT


@pytest.mark.parametrize("option", ["--json", "--keep-open"])
def test_receiver_ends_if_nobody_reads(option: str, source: Path, far: Path) -> None:
    """With --json the offer is the first line that fails, before the file."""
    with running(*RECEIVE, option, cwd=far) as receiver:
        line = receiver.line()
        receiver.leave()
        address = json.loads(line)["address"] if option == "--json" else line.strip()
        assert ended("send", source, address).returncode == (1 if option == "--json" else 0)
        assert receiver.status() == 1
        assert is_silent(receiver.errors())


async def send_and_hear_nothing(address: str) -> None:
    """Send the file `x`, without reading the answer. Returns when the receiver has ended."""
    async with Endpoint(Identity.generate()) as endpoint, await endpoint.connect(address) as connection:
        stream = await connection.open_stream(FILE)
        await stream.write(message(name="x", size=1))
        size = int.from_bytes(await stream.read_exactly(2), "big")
        assert json.loads(await stream.read_exactly(size))["accepted"]
        stream.stop()
        # The receiver has handled STOP_SENDING when it answers on another stream.
        async with await connection.open_stream(PING) as other:
            await other.write(bytes(32))
            await other.read_exactly(32)
        await stream.write(message(offset=0) + b"x" + hashlib.sha256(b"x").digest())
        stream.finish()
        await asyncio.wait_for(connection.closed(), PATIENCE)


def message(**values: object) -> bytes:
    encoded = json.dumps(values).encode()
    return len(encoded).to_bytes(2, "big") + encoded


def test_receiver_ends_if_the_sender_does_not_hear_that_its_file_is_stored(far: Path) -> None:
    with running(*RECEIVE, cwd=far) as receiver:
        asyncio.run(send_and_hear_nothing(receiver.line().strip()))
        assert receiver.line().startswith("received x: ")
        assert receiver.status() == 0
    assert (far / "x").read_bytes() == b"x"


@pytest.mark.parametrize("command", [("listen",), ("perf", "--listen")])
def test_listener_ends_if_nobody_reads(command: tuple[str, ...]) -> None:
    with running(*command, LOOPBACK) as listener:
        address = listener.line().strip()
        listener.leave()
        ended("ping", "-c", 1, address)
        assert listener.status() == 1
        assert is_silent(listener.errors())


@pytest.mark.parametrize("command", [("listen",), ("perf", "--listen")])
def test_listener_whose_disk_is_full_ends_with_an_explanation(command: tuple[str, ...]) -> None:
    with filling(*command, LOOPBACK) as (listener, pipe):
        address = pipe.line().strip()
        pipe.fill()
        ended("ping", "-c", 1, address)
        assert listener.status() == 2
        errors = listener.errors()
    assert errors.startswith("error: cannot write the results: ")
    assert is_clean(errors)


@pytest.mark.parametrize("option", ["--allow", "--from"])
def test_refused_peer_that_cannot_be_printed_ends_the_listener(option: str, far: Path) -> None:
    command = ("listen", "--allow") if option == "--allow" else ("receive", "--listen", LOOPBACK, "--from")
    rest = (LOOPBACK,) if option == "--allow" else ()
    with running(*command, SOMEBODY.peer_id, *rest, cwd=far) as listener:
        address = listener.line().strip()
        listener.leave()
        assert ended("dial", address).returncode in (1, 3)
        assert listener.status() == 1
        assert is_silent(listener.errors())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--json", "dial", "hello"), "No such option"),
        (("--nothing", "--json"), "No such option"),
        (("nothing", "--json"), "No such command"),
        (("completion", "--json"), "Missing argument"),
    ],
)
def test_wrong_arguments_of_the_group_are_in_json_too(arguments: tuple[str, ...], text: str) -> None:
    done = ended(*arguments)
    (error,) = events(done.stdout.decode())
    assert (done.returncode, error["event"], error["cause"]) == (2, "error", "usage")
    assert text in error["text"]
    assert text in done.stderr.decode()


def test_completion_script_is_in_the_json_object() -> None:
    (told,) = events(finished("completion", "zsh", "--json"))
    assert (told["event"], told["shell"]) == ("completion", "zsh")
    assert told["script"] == finished("completion", "zsh").removesuffix("\n")


INTERRUPTED_IMPORT = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from libp2p_quic._command import main
main()
"""


@pytest.mark.parametrize("module", ["program", "identity"])
@pytest.mark.parametrize("arguments", [("identity", "--help"), ("--help",)])
def test_control_c_during_an_import_is_an_interruption(module: str, arguments: tuple[str, ...]) -> None:
    program = INTERRUPTED_IMPORT.format(name=f"libp2p_quic._command.{module}")
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("is_json", [False, True])
def test_name_that_is_not_utf_8(is_json: bool, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.key")
    finished("identity", "make", "a", cwd=tmp_path)
    # Not the error handler of the C locale, which writes the byte as it is.
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    if is_json:
        made = ended("identity", "make", name, "--json", cwd=tmp_path, env=strict)
        (told,) = events(made.stdout.decode("ascii"))
        assert (made.returncode, told["file"]) == (0, name)
    else:
        finished("identity", "make", name, cwd=tmp_path)
        compared = ended("identity", "compare", "a", name, cwd=tmp_path, env=strict)
        assert (compared.returncode, compared.stderr) == (1, b"")
        assert b"\\udcff.key: 12D3KooW" in compared.stdout
