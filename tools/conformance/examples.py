"""Runs py-libp2p's own example programs on our transport: `python -m tools.conformance.examples`.

Each runs unchanged from the source distribution, as a listener and a dialer. Their output shows whether
they work. Exits with 0 if all do.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tools.conformance import suite

_ADDRESS = re.compile(r"(/ip4/127\.0\.0\.1/udp/\d+/quic(?:-v1)?/p2p/\w+)")
# Seconds until a program prints the next expected line.
_PATIENCE = 60.0


class ProgramError(Exception):
    """A program did not print the expected text; the message has its output."""


class _Program:
    """A running program, its input and what it has printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()

    @property
    def output(self) -> str:
        with self._news:
            return "".join(self._lines)

    def end(self) -> None:
        """Kills the process, and returns when all that it printed has been read."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def say(self, line: str) -> None:
        """Raises ProgramError if the program has ended."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise ProgramError(f"it ended before {line!r}:\n{self.output[-3000:]}") from None

    def shows(self, pattern: str | re.Pattern[str], within: float) -> re.Match[str] | None:
        """The first match in its output, or None after ``within`` seconds or at its end."""
        end = time.monotonic() + within
        while True:
            found = re.search(pattern, self.output)
            left = end - time.monotonic()
            if found is not None or left <= 0 or not self._reader.is_alive():
                return found
            with self._news:
                self._news.wait(min(left, 1.0))

    def wait_for(self, pattern: str | re.Pattern[str], within: float = _PATIENCE) -> re.Match[str]:
        found = self.shows(pattern, within)
        # The reader may have ended between the last check and the last line.
        found = found or re.search(pattern, self.output)
        if found is None:
            raise ProgramError(f"no {pattern!r} in:\n{self.output[-3000:]}")
        return found


@contextmanager
def _started(where: Path, *arguments: str, environment: Mapping[str, str] = {}) -> Iterator[_Program]:
    places = os.pathsep.join([str(where), str(Path(__file__).parents[2])])
    process = subprocess.Popen(
        [sys.executable, "-m", "tools.conformance.program", *arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": places, "PYTHONUNBUFFERED": "1", **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    program = _Program(process)
    try:
        yield program
    finally:
        program.end()


def echo(where: Path) -> str:
    with _started(where, "examples/echo/echo_quic.py") as server:
        address = server.wait_for(_ADDRESS)[1]
        with _started(where, "examples/echo/echo_quic.py", "-d", address) as client:
            client.wait_for(r"Got: hi, there!")
            return f"echoed over {_family(address)}"


def ping(where: Path) -> str:
    with _started(where, "examples/ping/ping.py") as server:
        address = server.wait_for(_ADDRESS)[1]
        with _started(where, "examples/ping/ping.py", "-d", address) as client:
            client.wait_for(r"received pong from")
            return f"a pong over {_family(address)}"


def pubsub(where: Path) -> str:
    with _started(where, "examples/pubsub/pubsub.py") as server:
        address = server.wait_for(_ADDRESS)[1]
        with _started(where, "examples/pubsub/pubsub.py", "-d", address) as client:
            client.wait_for(r"Connected to peer")
            for number in range(int(_PATIENCE)):
                # Messages published before the mesh has formed are lost.
                client.say(f"message {number}")
                heard = server.shows(r"Received message: (message \d+)", within=1)
                if heard is not None:
                    return f"received {heard[1]!r} over {_family(address)}"
            raise ProgramError(f"the listener received nothing:\n{server.output[-3000:]}")


def perf_example(where: Path) -> str:
    with _started(where, "examples/perf/perf_example.py") as server:
        address = server.wait_for(_ADDRESS)[1]
        sizes = ("-u", "40000", "-D", "40000")
        with _started(where, "examples/perf/perf_example.py", "-d", address, *sizes) as client:
            moved = client.wait_for(r"Total data: +(\d+) bytes")[1]
            return f"moved {moved} bytes over {_family(address)}"


def perf_program(where: Path, size: int, iterations: int) -> str:
    """The program of the performance benchmark of the libp2p implementations."""
    if not _has_other_address():
        # The program refuses to dial loopback addresses.
        return "left out: this machine has no address but loopback"
    script = "interop/perf/perf_test.py"
    with tempfile.TemporaryDirectory() as scratch:
        common = {
            "TRANSPORT": "quic-v1",
            "TEST_KEY": "conformance",
            "LISTENER_IP": "0.0.0.0",
            "PERF_LOCAL_ADDR_FILE": str(Path(scratch) / "address"),
            "TEST_TIMEOUT_SECS": "300",
        }
        sizes = {
            "UPLOAD_BYTES": str(size),
            "DOWNLOAD_BYTES": str(size),
            "UPLOAD_ITERATIONS": str(iterations),
            "DOWNLOAD_ITERATIONS": str(iterations),
            "LATENCY_ITERATIONS": "10",
        }
        with (
            _started(where, script, environment={**common, "IS_DIALER": "false"}),
            _started(where, script, environment={**common, **sizes, "IS_DIALER": "true"}) as dialer,
        ):
            dialer.wait_for(r"latency:(.|\n)*unit: ms", within=300)
            medians = re.findall(r"^  median: (\S+)$", dialer.output, re.MULTILINE)
            up, down, latency = medians[:3]
            return f"{iterations} x {size >> 20} MiB: up {up}, down {down} Gbit/s; 1 byte in {latency} ms"


def _family(address: str) -> str:
    return "/" + "/".join(address.split("/")[3:6:2])


def _has_other_address() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: connect() only chooses the source address.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return False
        return not str(probe.getsockname()[0]).startswith("127.")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.conformance.examples", description=__doc__)
    parser.add_argument(
        "--size", type=int, default=1024, help="MiB per transfer of perf (default: 1024, the program's own)"
    )
    parser.add_argument("--iterations", type=int, default=2, help="transfers each way (default: 2)")
    parser.add_argument("--only", help="run the programs whose name contains this")
    options = parser.parse_args()

    try:
        where = suite.fetch()
    except suite.SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    programs: dict[str, Callable[[Path], str]] = {
        "examples/echo/echo_quic.py": echo,
        "examples/ping/ping.py": ping,
        "examples/pubsub/pubsub.py": pubsub,
        "examples/perf/perf_example.py": perf_example,
        "interop/perf/perf_test.py": lambda where: perf_program(
            where, options.size << 20, options.iterations
        ),
    }
    chosen = {name: program for name, program in programs.items() if (options.only or "") in name}
    if not chosen:
        parser.error(f"no program's name contains {options.only!r}: there are {', '.join(programs)}")
    failed = False
    for name, program in chosen.items():
        began = time.monotonic()
        try:
            verdict, what = "ok  ", program(where)
        except ProgramError as error:
            verdict, what, failed = "FAIL", str(error), True
        print(f"{verdict}  {name:30}  {time.monotonic() - began:5.1f} s  {what}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
