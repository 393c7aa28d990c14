"""`libp2p-quic` in terminals that are narrow, without color or without control sequences, and with outputs
that take nothing. What each command shows is in the other test_command files.
"""

from __future__ import annotations

import platform
import re
import subprocess
import time
from pathlib import Path

import pytest

from libp2p_quic._command.live import fitting, shortened
from testkit.asyncio_ends import LOOPBACK
from testkit.command import COMMAND, ended, events, running, terminal
from testkit.screen import Screen

COMMANDS = ["cat", "completion", "dial", "identity", "listen", "perf", "ping", "receive", "send", "trace"]
# What a live display leaves free for the echo of Ctrl-C.
ROOM = 3
# A bar of `perf`, with its first figures.
FIGURES = r"\d+\.\d s \S* *up [\d.]+ .bit/s  rtt [\d.]+ .?s"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_into_forty_columns(command: str) -> None:
    with terminal(command, "--help", columns=40) as shown:
        assert shown.end() == 0
    # Examples are lines to copy.
    text, _, _ = shown.screen.partition("Examples:")
    assert [line for line in text.splitlines() if len(line) > 40] == []


def lines_of(raw: str) -> list[str]:
    """The screen after ``raw``, as a terminal of unlimited width shows it."""
    screen = Screen()
    screen.feed(raw)
    return screen.lines()


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (40, "peer since state"),
        (60, "peer address state"),
        (80, "peer address since rtt state"),
        (160, "peer address since rtt streams received sent state"),
    ],
)
def test_table_of_connections_has_the_columns_that_fit(columns: int, names: str) -> None:
    with terminal("listen", LOOPBACK, columns=columns) as shown:
        address = shown.until(r"(?m)^(/ip4/\S+)\n")[1]
        ended("ping", "-c", 1, address)
        shown.until(r"closed")
        shown.press("\x03")
        assert shown.end() == 0
    screen = lines_of(shown.raw)
    titles = [(place, line.split()) for place, line in enumerate(screen) if line.split()[:1] == ["peer"]]
    # "peer" may begin a line of the state, too.
    ((head, found),) = [each for each in titles if each[1][-1:] == ["state"]]
    # The times have three or four characters.
    assert [name for name in found if name != "lost"] == names.split()
    assert max(len(line) for line in screen[head:]) <= columns - ROOM
    assert [line for line in screen[head:] if line.startswith("1 connection so far, 0 refused.")]
    assert any("█" in line for line in screen[:head]) == (columns > 40), "the QR code"


@pytest.mark.parametrize("columns", [40, 80])
def test_bar_shows_whole_figures_only(columns: int) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("perf", "--seconds", 30, address, columns=columns) as shown:
            # Four drawings, and one with figures: an interval in which nothing was sent has none.
            shown.until(r"(?s)(?:[\r\n]\d+\.\d s .*?){4}")
            shown.until(rf"[\r\n]{FIGURES}")
            shown.press("\x03")
            assert shown.end() == 0
    drawn = [line for line in re.split(r"[\r\n]+", shown.screen) if re.match(r"\d+\.\d s ", line)]
    assert len(drawn) > 3
    for line in drawn:
        # The terminal echoes Ctrl-C.
        assert len(line.removesuffix("^C")) <= columns - ROOM
        assert "…" not in line
        assert ("━" in line) == (columns == 80)
    assert any(re.match(FIGURES, line) for line in drawn)
    # Nothing is left of it.
    screen = lines_of(shown.raw)
    assert [line.split()[:1] for line in screen if line] == [["perf"], ["up"], ["path"]]


def test_terminal_without_control_sequences_gets_none() -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("perf", "--seconds", 0.3, address, environment={"TERM": "dumb"}) as shown:
            assert shown.end() == 0
    assert "\x1b" not in shown.raw
    assert "\r\n\r\n" not in shown.raw


def test_no_color_gets_no_color() -> None:
    with terminal("ping", "hello", environment={"NO_COLOR": "1"}) as shown:
        assert shown.end() == 2
    assert "error:" in shown.screen
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", shown.raw)


def reads_standard_input(process: int) -> bool:
    """Whether it waits in the system call read(0, …)."""
    call = Path(f"/proc/{process}/syscall").read_text().split()
    return call[:2] == [{"x86_64": "0", "aarch64": "63"}[platform.machine()], "0x0"]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the number of read is not known")
def test_interrupted_reading_of_a_key_has_the_status_of_an_interruption() -> None:
    with terminal("identity", "show", "-") as shown:
        while not reads_standard_input(shown.process.pid):
            time.sleep(0.01)  # scenario: the command shows nothing before it reads
        shown.press("\x03")
        assert shown.end() == 130
    assert "Aborted" not in shown.screen


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ping", "--json", "-c", "x", LOOPBACK), "'x' is not a valid integer"),
        (("ping", "-c", "x", "--json", LOOPBACK), "'x' is not a valid integer"),
        (("perf", "--json"), "perf needs one ADDR"),
        (("listen", "--json", "--nothing"), "No such option"),
    ],
)
def test_wrong_arguments_are_in_json_too(arguments: tuple[str, ...], text: str) -> None:
    done = ended(*arguments)
    (error,) = events(done.stdout.decode())
    assert (done.returncode, error["event"], error["cause"]) == (2, "error", "usage")
    assert text in error["text"]
    assert text in done.stderr.decode()


LARGE = "1" * 400


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("ping", "-i", "nan", LOOPBACK), "'nan' is not a number of seconds"),
        (("ping", "-i", "inf", LOOPBACK), "'inf' is not a number of seconds"),
        (("ping", "-W", "nan", LOOPBACK), "'nan' is not a number of seconds"),
        (("perf", "--seconds", "nan", LOOPBACK), "'nan' is not a number of seconds"),
        (("dial", "--timeout", "nan", LOOPBACK), "'nan' is not a number of seconds"),
        (("listen", "--max-connections", str(1 << 32), LOOPBACK), "4294967296 is not in the range"),
        (("receive", "--max-size", LARGE), f"{LARGE} is larger than any file"),
    ],
    ids=lambda each: each[:40] if isinstance(each, str) else " ".join(each[:2]),
)
def test_number_that_no_command_can_use_is_explained(arguments: tuple[str, ...], text: str) -> None:
    done = ended(*arguments, "--json")
    (error,) = events(done.stdout.decode())
    assert (done.returncode, error["cause"]) == (2, "usage")
    assert text in error["text"]
    assert b"Traceback" not in done.stderr


def test_wrong_arguments_of_cat_are_beside_its_data() -> None:
    done = ended("cat", "--json")
    assert (done.returncode, done.stdout) == (2, b"")
    assert '"cause": "usage"' in done.stderr.decode()


@pytest.mark.parametrize("command", ["dial", "perf", "ping"])
def test_output_that_cannot_be_written(command: str) -> None:
    with running("listen", "--json", LOOPBACK) as listener, Path("/dev/full").open("wb") as full:
        address = listener.event("listening")["address"]
        done = subprocess.run(
            [*COMMAND, command, address], stdout=full, stderr=subprocess.PIPE, check=False, timeout=100
        )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[0] == "error: cannot write the results: No space left on device"


def test_bytes_of_cat_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "cat", "--listen", "--yes", LOOPBACK]
        with subprocess.Popen(command, stdout=full, stderr=subprocess.PIPE, text=True) as listener:
            assert listener.stderr is not None
            ended("cat", listener.stderr.readline().strip(), given=b"hello")
            _, told = listener.communicate(timeout=100)
    assert listener.returncode == 1
    assert "error: cannot write what the peer sent: No space left on device" in told
    assert "Traceback" not in told


def test_address_of_another_machine_is_explained() -> None:
    done = ended("listen", "--json", "/ip4/192.0.2.1/udp/0/quic-v1")
    (error,) = events(done.stdout.decode())
    assert (done.returncode, error["cause"]) == (3, "listen")
    assert "this machine has no such address" in error["next_step"]


def test_sender_that_leaves_during_the_question_was_not_declined(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"data")
    with terminal("receive", "--listen", LOOPBACK, tmp_path) as receiver:
        address = receiver.until(r"(?m)^(/ip4/\S+)\n")[1]
        with terminal("send", "--name", "copy", tmp_path / "data", address) as sender:
            receiver.until("Accept")
            sender.press("\x03")
            assert sender.end() == 130
        receiver.until("is gone: connection closed by the peer")
        receiver.press("\x03")
        assert receiver.end() == 130
    assert "declined" not in receiver.screen
    assert "refused" not in receiver.screen


def test_figures_are_left_out_from_the_end() -> None:
    figures = ["up 1.2 Gbit/s", "rtt 3 ms", "lost 0"]
    assert fitting(figures, 31) == "up 1.2 Gbit/s  rtt 3 ms  lost 0"
    assert fitting(figures, 30) == "up 1.2 Gbit/s  rtt 3 ms"
    assert fitting(figures, 12) == ""
    assert shortened("backup.tar", 10) == "backup.tar"
    assert shortened("backup.tar", 9) == "backup.t…"
    # Each of these takes two columns.
    assert shortened("漢字漢字", 5) == "漢字…"
