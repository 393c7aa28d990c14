"""`libp2p-quic trace`: figures and picture of real qlog files, also of another implementation."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicLogger

from libp2p_quic._command import qlog_file
from testkit.command import ended, events, finished, running, terminal

LOOPBACK = "/ip4/127.0.0.1/udp/0/quic-v1"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dialer's file of a transfer in both directions."""
    folder = tmp_path_factory.mktemp("qlog")
    with running("listen", "--json", LOOPBACK) as listener:
        address = listener.event("listening")["address"]
        # A second of a fast machine does not fit in the file.
        arguments = ("perf", "--direction", "both", "--seconds", 0.1, "--json", address)
        done = ended(*arguments, env={"QLOGDIR": str(folder)})
        assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*_client.sqlog")
    return path


def test_figures_of_a_transfer(file: Path) -> None:
    (told,) = events(finished("trace", "--json", file))
    assert told["event"] == "trace"
    assert told["role"] == "client"
    assert 0 < told["handshake"] < told["duration"]
    assert told["stream_bytes_sent"] > 50_000
    assert told["stream_bytes_received"] > 50_000
    assert told["bytes_sent"] > told["stream_bytes_sent"]
    assert 0 < told["rtt_min"] <= told["rtt_median"] <= told["rtt_max"]
    assert 0 < told["window_min"] <= told["window_max"]
    assert told["sent_rate"] > 0
    assert told["closed"].startswith("application, by this side")
    assert told["unreadable"] == 0


def test_rows_for_a_reader(file: Path) -> None:
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in finished("trace", file).splitlines())
    assert list(rows)[:4] == ["side", "began", "lasted", "handshake"]
    assert {"sent", "received", "lost", "round trip", "window", "ended"} <= rows.keys()
    assert re.fullmatch(r"[\d.]+ (µs|ms|s)", rows["handshake"]), rows
    assert "bit/s" in rows["sent"]


def test_in_a_terminal_it_also_says_where_the_picture_is(file: Path, tmp_path: Path) -> None:
    with terminal("trace", "--svg", "picture.svg", file, cwd=tmp_path) as shown:
        assert shown.end() == 0
    assert "handshake " in shown.screen
    assert shown.screen.splitlines()[-1] == "wrote picture.svg"
    assert (tmp_path / "picture.svg").exists()


def test_picture_has_all_series(file: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    finished("trace", "--svg", picture, file)
    root = ElementTree.parse(picture).getroot()
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    for text in ("Data", "Congestion window", "Round-trip time", "sent", "acknowledged", "received"):
        assert text in texts
    assert f"{file.name}: client" in "".join(filter(None, texts))
    paths = [each.get("d", "") for each in root.iter("{http://www.w3.org/2000/svg}path")]
    assert sum(len(path) > 200 for path in paths) >= 5
    assert picture.stat().st_size < 500_000


def test_pipe_is_read_once(file: Path) -> None:
    (told,) = events(finished("trace", "--json", file))
    (piped,) = events(finished("trace", "--json", "/dev/stdin", given=file.read_bytes()))
    assert piped == {**told, "file": "/dev/stdin"}


def test_json_from_a_pipe_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(qlog_file, "_LONGEST_FILE", 1000)
    os.mkfifo(tmp_path / "pipe")
    whole = json.dumps({"traces": [{"events": [{"name": "x", "time": 0, "data": {}}]}], "title": "x" * 1000})
    with (
        subprocess.Popen(["bash", "-c", 'echo -n "$1" > pipe', "-", whole], cwd=tmp_path),
        pytest.raises(qlog_file.NotQlogError, match="more than 1 GiB"),
    ):
        qlog_file.read(tmp_path / "pipe")


def test_with_json_it_also_says_where_the_picture_is(file: Path, tmp_path: Path) -> None:
    told = events(finished("trace", "--json", "--svg", "picture.svg", file, cwd=tmp_path))
    assert [each["event"] for each in told] == ["trace", "picture"]
    assert told[1]["file"] == "picture.svg"


def test_picture_of_a_file_whose_name_is_not_utf_8(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / os.fsdecode(b"\xff.sqlog")
    copy.write_bytes(file.read_bytes())
    finished("trace", "--svg", "picture.svg", copy, cwd=tmp_path)
    ElementTree.parse(tmp_path / "picture.svg")


def test_file_that_was_cut_off_is_read_to_its_end(file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.sqlog"
    whole = file.read_bytes()
    # Within a record.
    cut.write_bytes(whole[: whole.index(b"\n", 20_000) - 1])
    done = ended("trace", "--json", cut)
    assert done.returncode == 0
    (told,) = events(done.stdout.decode())
    assert told["unreadable"] == 1
    assert told["closed"] == ""
    assert b"1 records cannot be read" in done.stderr


def test_file_of_another_implementation_is_read(tmp_path: Path) -> None:
    logger = QuicLogger()
    client = QuicConnection(configuration=QuicConfiguration(is_client=True, quic_logger=logger))
    client.connect(("192.0.2.1", 4001), now=1.0)
    client.datagrams_to_send(now=1.0)
    client.handle_timer(now=9.0)
    client.datagrams_to_send(now=9.0)
    client.close()
    path = tmp_path / "aioquic.qlog"
    path.write_text(json.dumps(logger.to_dict()))
    (told,) = events(finished("trace", "--json", path))
    assert told["role"] == "client"
    assert told["packets_sent"] >= 1
    lengths = [
        event["data"]["raw"]["length"]
        for event in logger.to_dict()["traces"][0]["events"]
        if event["name"] == "transport:packet_sent"
    ]
    assert told["bytes_sent"] == sum(lengths) > 0
    assert told["handshake"] is None


SENT = '{"name": "quic:packet_sent", "time": 5, "data": {"raw": {"length": 1200}}}'


@pytest.mark.parametrize(
    "record",
    [
        '{"trace": 1}',
        '{"name": "quic:packet_sent", "time": 1e999, "data": {}}',
        '{"name": "quic:packet_sent", "time": NaN, "data": {}}',
        '{"name": "quic:packet_sent", "time": ' + "9" * 400 + ', "data": {}}',
        '{"name": "quic:packet_sent", "time": 1, "data": 5}',
        '{"name": "quic:packet_sent", "time": 1, "data": ' + "[" * 100_000,
    ],
    ids=lambda each: each[:60],
)
def test_record_of_another_form_is_counted(record: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"\x1e{record}\n\x1e{SENT}\n")
    done = ended("trace", "--json", "--svg", "picture", "file", cwd=tmp_path)
    told, _ = events(done.stdout.decode())
    assert (done.returncode, told["unreadable"]) == (0, 1)
    assert (told["packets_sent"], told["bytes_sent"]) == (1, 1200)
    assert done.stderr.startswith(b"warning: 1 records cannot be read")


@pytest.mark.parametrize("ranges", ["[5]", "[[]]", '[["a"]]', "5", '[{"a": 1}]', "[[1e999]]"])
def test_acknowledgment_of_another_form_does_not_hide_the_packet(ranges: str, tmp_path: Path) -> None:
    frames = f'[{{"frame_type": "ack", "acked_ranges": {ranges}}}]'
    record = f'{{"name": "quic:packet_received", "time": 6, "data": {{"frames": {frames}}}}}'
    (tmp_path / "file").write_text(f"\x1e{SENT}\n\x1e{record}\n")
    done = ended("trace", "--json", "file", cwd=tmp_path)
    (told,) = events(done.stdout.decode())
    assert (done.returncode, told["packets_received"]) == (0, 1)


@pytest.mark.parametrize(
    "data",
    [
        '{"latest_rtt": 1e999, "congestion_window": NaN, "min_rtt": "x"}',
        '{"congestion_window": ' + "9" * 400 + "}",
        '{"raw": {"length": 1e999}, "header": 5, "frames": {"a": 1}}',
        '{"frames": [5, {"frame_type": "stream", "raw": 5, "length": 1e999}]}',
        '{"new": 1e999, "trigger": 5, "error_code": [1], "message": {}}',
    ],
    ids=lambda each: each[:40],
)
def test_figure_that_is_no_number_is_left_out(data: str, tmp_path: Path) -> None:
    names = ("recovery_metrics_updated", "packet_sent", "packet_received", "mtu_updated", "connection_closed")
    lines = [f'\x1e{{"name": "quic:{name}", "time": 6, "data": {data}}}' for name in (*names, "warning")]
    (tmp_path / "file").write_text("\n".join([f"\x1e{SENT}", *lines]))
    (told,) = events(finished("trace", "--json", "file", cwd=tmp_path))
    assert (told["rtt_max"], told["mtu"], told["packets_sent"], told["bytes_sent"]) == (None, None, 2, 1200)
    assert "ended" in finished("trace", "--svg", "picture", "file", cwd=tmp_path)


def test_reason_of_a_peer_does_not_move_the_cursor(tmp_path: Path) -> None:
    record = {"name": "quic:connection_closed", "time": 1, "data": {"reason": "a\x1b[2Jb"}}
    (tmp_path / "file").write_text(f"\x1e{json.dumps(record)}\n")
    assert "\x1b" not in finished("trace", "file", cwd=tmp_path)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"hello", "begins neither with a record separator"),
        (b"", "begins neither with a record separator"),
        (b'{"a": 1}', "not of qlog"),
        (b'{"traces": [5]}', "not of qlog"),
        (b'{"traces": [{"events": 5}]}', "not of qlog"),
        (b'{"traces": ' + b"[" * 100_000, "not of qlog"),
        (b'\x1e{"trace": {}}\n', "has no events"),
    ],
)
def test_file_of_another_kind_is_a_wrong_argument(contents: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(contents)
    done = ended("trace", "--json", path)
    assert done.returncode == 2
    (error,) = events(done.stdout.decode())
    assert error["cause"] == "file"
    assert said in error["text"]


def test_missing_file_and_unwritable_picture_are_wrong_arguments(file: Path, tmp_path: Path) -> None:
    assert b"cannot read" in ended("trace", tmp_path / "none").stderr
    done = ended("trace", "--svg", tmp_path / "no" / "picture.svg", file)
    assert done.returncode == 2
    assert b"cannot write" in done.stderr
