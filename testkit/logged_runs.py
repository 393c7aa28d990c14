"""Runs of the command `libp2p-quic` that leave a qlog, each as a person would make it.

docs/howto/reading-a-qlog.md shows what `trace` prints of their files. A test compares it with the page, and
tools/qlog_page.py renews the page.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testkit.asyncio_ends import LOOPBACK
from testkit.command import ended, events, finished, running
from testkit.failed_dials import FAILURES, without_chance
from testkit.payload import MIB, payload
from testkit.relay import PROGRAM
from testkit.unwilling import black_hole

# Relative, as on the page.
_LOGS = "logs"
_PICTURE = "picture.svg"


def console_blocks(page: str) -> list[str]:
    """The contents of the console blocks of a page."""
    return re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def dialer_files(folder: Path) -> list[Path]:
    """The files of the dialer, one for each attempt, that a run left below ``folder``."""
    return sorted((folder / _LOGS).glob("*_client.sqlog"))


def figures(file: Path) -> dict[str, Any]:
    """What `trace --json` says of a file."""
    (told,) = events(finished("trace", "--json", file))
    return told


@contextmanager
def _relayed(address: str, *options: str) -> Iterator[str]:
    """An address that reaches the listener on loopback through a relay with these options."""
    assert PROGRAM.exists(), "libp2p-quic-relay is not built: run `make build`"
    found = re.fullmatch(r"/ip4/127\.0\.0\.1/udp/(\d+)/quic-v1(/p2p/\w+)", address)
    assert found is not None, address
    command = [str(PROGRAM), "--to", f"127.0.0.1:{found[1]}", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
        assert relay.stdout is not None
        try:
            ip, _, port = json.loads(relay.stdout.readline())["address"].rpartition(":")
            yield f"/ip4/{ip}/udp/{port}/quic-v1{found[2]}"
        finally:
            relay.kill()


def _run(folder: Path, *arguments: str, status: int) -> str:
    """What the command prints with QLOGDIR, below its command line."""
    done = ended(*arguments, cwd=folder, env={"QLOGDIR": _LOGS})
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    line = f"$ QLOGDIR={_LOGS} {shlex.join(['libp2p-quic', *arguments])}\n"
    return f"{line}{done.stdout.decode()}{done.stderr.decode()}"


def _traced(folder: Path, file: Path, *options: str) -> str:
    """What `trace` prints of a file, below its command line."""
    arguments = ["trace", *options, f"{_LOGS}/{file.name}"]
    return f"$ {shlex.join(['libp2p-quic', *arguments])}\n{finished(*arguments, cwd=folder)}"


def lossy_transfer(folder: Path) -> str:
    """A file of 8 MiB, sent over a path with 40 ms and 0.3 % loss. Leaves also the picture."""
    (folder / "data.bin").write_bytes(payload(1, 8 * MIB))
    stored = folder / "stored"
    stored.mkdir()
    with running("receive", "--json", "--yes", "--keep-open", "--listen", LOOPBACK, stored) as receiver:
        address = receiver.event("listening")["address"]
        with _relayed(address, "--delay", "20ms", "--loss", "0.3%", "--seed", "3") as lossy:
            _run(folder, "send", "data.bin", lossy, status=0)
    # An attempt whose first packets were lost may have left a file, too.
    file = max(dialer_files(folder), key=lambda each: each.stat().st_size)
    return _traced(folder, file, "--svg", _PICTURE)


def silent_dial(folder: Path) -> str:
    """A dial that nobody answers."""
    with black_hole() as address:
        printed = _run(folder, "ping", "--timeout", "2", address, status=3)
    kept = [each for each in dialer_files(folder) if "did not answer" in figures(each)["closed"]]
    # On a busy machine the command may end before the ends of its files are written.
    file = max(kept or dialer_files(folder), key=lambda each: int(figures(each)["packets_sent"]))
    return printed + _traced(folder, file)


def wrong_peer(folder: Path) -> str:
    """A dial that reaches another peer."""
    with FAILURES["wrong_peer"]() as arguments:
        _run(folder, "dial", *arguments, status=3)
    (file,) = (each for each in dialer_files(folder) if figures(each)["closed"].startswith("error"))
    return _traced(folder, file)


# What the page calls it -> makes it in an empty folder, and returns its block of the page.
RUNS: dict[str, Callable[[Path], str]] = {
    "lossy transfer": lossy_transfer,
    "silent dial": silent_dial,
    "wrong peer": wrong_peer,
}

_VARYING = (
    (r"\blogs/[0-9a-f]+_client", "logs/ID_client"),
    (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "DATE"),
    # A rate is left out for a connection of less than 10 ms.
    (r"(?m), [\d.]+ [kMG]?bit/s$", ""),
    (r"\b[\d.]+ (?:[KMG]i)?B\b", "SIZE"),
    (r"\b[\d.]+%", "SHARE"),
    (r"\b\d+ (events|packets)\b", r"N \1"),
)


def without_figures(text: str) -> str:
    """The text of a run without its names, times, sizes and counts."""
    for pattern, instead in _VARYING:
        text = re.sub(pattern, instead, text)
    return without_chance(text)
