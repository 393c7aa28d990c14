"""SSLKEYLOGFILE: the keys are written only on request, which is logged, and tshark decrypts with them.

The capture comes from a relay of the test itself. Without tshark (Debian: `apt-get install tshark`) one test
is skipped.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from testkit.capture import captured
from testkit.census import eventually
from testkit.linked import linked, listening
from testkit.near import near_transport
from testkit.payload import payload

TSHARK = shutil.which("tshark")
SIZE = 40_000


def key_log_lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if "SSLKEYLOGFILE" in each.getMessage()]


async def test_without_the_variable_there_is_no_key_log_and_no_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSLKEYLOGFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    async with linked():
        pass
    assert key_log_lines(caplog) == []
    assert os.listdir(tmp_path) == []


async def test_a_key_log_is_a_warning_that_names_the_file(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.txt"))
    async with linked():
        assert await eventually(lambda: bool(key_log_lines(caplog)))
    line = key_log_lines(caplog)[0]
    assert line.levelno == logging.WARNING
    assert str(tmp_path / "keys.txt") in line.getMessage()
    secrets = (tmp_path / "keys.txt").read_text()
    assert "CLIENT_TRAFFIC_SECRET_0" in secrets
    assert "SERVER_TRAFFIC_SECRET_0" in secrets


@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed: apt-get install tshark")
async def test_tshark_decrypts_a_capture_down_to_the_bytes_of_a_stream(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys, packets = tmp_path / "keys.txt", tmp_path / "packets.pcap"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    data = payload(23, SIZE)
    async with (
        listening() as (listener, connections),
        captured(listener.get_addrs()[0]) as capture,
    ):
        dialer = near_transport()
        dialed = await dialer.dial(capture.address)
        accepted = await connections.receive()
        ours = await dialed.open_stream()
        await ours.write(data)
        await ours.close_write()
        theirs = await accepted.accept_stream()
        got = b""
        while len(got) < SIZE:
            got += await theirs.read(SIZE)
        await dialer.close()
        capture.write(packets)
    assert got == data
    assert decrypted(packets, keys) == data
    # Without the keys it is as unreadable as it should be.
    assert decrypted(packets, tmp_path / "none.txt") == b""


def decrypted(packets: Path, keys: Path) -> bytes:
    """The data of stream 0 as tshark reads it, in the order of its offsets."""
    assert TSHARK is not None
    options = ["-o", f"tls.keylog_file:{keys}", "-Y", "quic.stream.stream_id == 0"]
    command = [TSHARK, "-r", str(packets), *options, "-T", "fields"]
    for field in ("quic.stream.stream_id", "quic.stream.offset", "quic.stream_data"):
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    pieces: dict[int, bytes] = {}
    for line in done.stdout.splitlines():
        _, offsets, contents = line.split("\t")
        parts = contents.split(",")
        starts = offsets.split(",") if offsets else []
        # The frame at the beginning of the stream has no offset, and comes first.
        starts = ["0"] * (len(parts) - len(starts)) + starts
        for offset, part in zip(starts, parts, strict=True):
            pieces[int(offset or 0)] = bytes.fromhex(part.replace(":", ""))
    whole = b""
    for start in sorted(pieces):
        whole = whole[:start] + pieces[start]
    return whole
