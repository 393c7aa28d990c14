"""`libp2p-quic` in terminals that are narrow, without color or without control sequences. What each command
shows is in the other test_command files.
"""

from __future__ import annotations

import re

import pytest

from libp2p_quic._command.live import fitting, shortened
from testkit.asyncio_ends import LOOPBACK
from testkit.command import ended, running, terminal
from testkit.screen import Screen

COMMANDS = ["cat", "dial", "identity", "listen", "perf", "ping", "receive", "send", "trace"]
# What a live display leaves free for the echo of Ctrl-C.
ROOM = 3


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
    assert [line for line in screen[head:] if line.startswith("1 connection so far.")]
    assert any("█" in line for line in screen[:head]) == (columns > 40), "the QR code"


@pytest.mark.parametrize("columns", [40, 80])
def test_bar_shows_whole_figures_only(columns: int) -> None:
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        with terminal("perf", "--seconds", 30, address, columns=columns) as shown:
            shown.until(r"1\.\d s")
            shown.press("\x03")
            assert shown.end() == 0
    drawn = [line for line in re.split(r"[\r\n]+", shown.screen) if re.match(r"\d+\.\d s ", line)]
    assert len(drawn) > 3
    for line in drawn:
        # The terminal echoes Ctrl-C.
        assert len(line.removesuffix("^C")) <= columns - ROOM
        assert "…" not in line
        assert ("━" in line) == (columns == 80)
    assert re.match(r"\d\.\d s \S* *up [\d.]+ .bit/s  rtt [\d.]+ .?s", drawn[-1])
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


def test_figures_are_left_out_from_the_end() -> None:
    figures = ["up 1.2 Gbit/s", "rtt 3 ms", "lost 0"]
    assert fitting(figures, 31) == "up 1.2 Gbit/s  rtt 3 ms  lost 0"
    assert fitting(figures, 30) == "up 1.2 Gbit/s  rtt 3 ms"
    assert fitting(figures, 12) == ""
    assert shortened("backup.tar", 10) == "backup.tar"
    assert shortened("backup.tar", 9) == "backup.t…"
    # Each of these takes two columns.
    assert shortened("漢字漢字", 5) == "漢字…"
