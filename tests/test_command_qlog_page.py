"""The page about reading a qlog shows what the command prints now, of connections that are made on purpose.

What is in a file is in test_qlog.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from testkit.failed_dials import OTHER_PEER
from testkit.logged_runs import RUNS, console_blocks, dialer_files, figures, without_figures
from testkit.payload import MIB
from tools.qlog_page import PAGE, renewed

JQ = shutil.which("jq")


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the transfer on a lossy path, and its block of the page."""
    folder = tmp_path_factory.mktemp("lossy")
    return folder, RUNS["lossy transfer"](folder)


def lossy_file(folder: Path) -> Path:
    return max(dialer_files(folder), key=lambda each: each.stat().st_size)


def is_shown(printed: str) -> bool:
    return without_figures(printed) in [without_figures(each) for each in console_blocks(PAGE.read_text())]


def test_page_shows_the_transfer_on_a_lossy_path(lossy: tuple[Path, str]) -> None:
    folder, printed = lossy
    assert is_shown(printed), printed
    assert "lost packets: " in (folder / "picture.svg").read_text()


def test_figures_of_the_lossy_path_are_those_that_the_page_explains(lossy: tuple[Path, str]) -> None:
    told = figures(lossy_file(lossy[0]))
    assert told["packets_lost"] > 0
    # What was lost is sent again, and a loss lowers the window.
    assert told["stream_bytes_sent"] > 8 * MIB
    assert told["window_min"] < told["window_max"]
    assert told["rtt_min"] >= 0.04
    assert told["closed"] == "application, by this side, code 0x0"


def test_page_shows_a_dial_that_nobody_answers(tmp_path: Path) -> None:
    # Two more attempts begin 0.8 s and 1.6 s after the first one, and the dial ends after 2 s. A busy machine
    # may delay an attempt beyond that, and the end of a file beyond that of the command: one dial of five has
    # to be as on the page.
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        printed = RUNS["silent dial"](folder)
        attempts = [figures(each) for each in dialer_files(folder)]
        if len(attempts) == 3 and all(told["closed"] and told["packets_sent"] for told in attempts):
            break
    assert is_shown(printed), printed
    assert len(attempts) == 3
    for told in attempts:
        assert (told["packets_received"], told["handshake"]) == (0, None)
        assert told["packets_sent"] > 0
        ends = ("the peer did not answer within", "another attempt of the dial is kept")
        assert any(each in told["closed"] for each in ends), told["closed"]


def test_page_shows_a_dial_that_reaches_another_peer(tmp_path: Path) -> None:
    printed = RUNS["wrong peer"](tmp_path)
    assert is_shown(printed), printed
    ends = {figures(each)["closed"]: each for each in dialer_files(tmp_path)}
    (file,) = (each for end, each in ends.items() if f"expected {OTHER_PEER}, got 12D3KooW" in end)
    # As the page says: the answer is in the file.
    assert '"frame_type":"connection_close"' in file.read_text()


def test_each_trace_on_the_page_is_of_a_run() -> None:
    traces = [each for each in console_blocks(PAGE.read_text()) if "$ libp2p-quic trace" in each]
    assert len(traces) == len(RUNS)


@pytest.mark.skipif(JQ is None, reason="jq is not installed: apt-get install jq")
def test_command_that_reads_the_events_finds_each_loss(lossy: tuple[Path, str]) -> None:
    (command,) = re.findall(r"^\$ (tr .+ \| jq .+)$", PAGE.read_text(), re.MULTILINE)
    file = lossy_file(lossy[0])
    done = subprocess.run(
        ["bash", "-c", command.replace("FILE", '"$1"'), "-", str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == figures(file)["packets_lost"]


def test_renewed_page_has_the_figures_of_the_new_run() -> None:
    page = "before\n\n```console\n$ libp2p-quic trace logs/aa_client.sqlog\nMTU  1452 B\n```\n\nafter\n"
    printed = "$ libp2p-quic trace logs/0b_client.sqlog\nMTU  1200 B\n"
    assert renewed(page, printed) == f"before\n\n```console\n{printed}```\n\nafter\n"
    with pytest.raises(ValueError, match="no block"):
        renewed(page, "$ libp2p-quic trace logs/0b_client.sqlog\nMTU  1200 B\nended  not in this file\n")
