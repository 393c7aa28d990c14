"""The programs of the README run: the examples and the demonstration, as real processes.

They are started as a reader would start them; none of their modules is imported.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testkit.reset_stream import reset_by_a_peer

ROOT = Path(__file__).parent.parent


@contextmanager
def listening(*arguments: str) -> Iterator[str]:
    """Start a program as the listener; yields the line of its address."""
    program = [sys.executable, *arguments]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *arguments]
    finished = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == status, finished.stdout + finished.stderr
    return finished


def test_echo_with_the_transport_passed_to_new_host() -> None:
    with listening("examples/echo.py") as address:
        assert re.fullmatch(r"/ip4/127\.0\.0\.1/udp/[1-9]\d*/quic-v1/p2p/12D3KooW\w+", address)
        assert run("examples/echo.py", address, "grüß dich").stdout == "grüß dich\n"


def test_echo_serves_on_after_a_stream_that_breaks() -> None:
    with listening("examples/echo.py") as address:
        # Before the handler has read anything.
        reset_by_a_peer(address, "/example/echo/1.0.0", data=b"")
        assert run("examples/echo.py", address, "two").stdout == "two\n"


def test_ping_with_install() -> None:
    with listening("examples/ping.py") as address:
        assert re.fullmatch(r"(\d+ µs\n){5}", run("examples/ping.py", address).stdout)


def test_readme_programs_run() -> None:
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    handed, installed, without_py_libp2p = programs
    assert "transports=[QUICTransport(key_pair.private_key)]" in handed
    # Port 0, so that no other test is disturbed.
    with listening("-c", handed.replace("/udp/4001/", "/udp/0/")) as address:
        assert re.match(r"/ip4/\S+/udp/[1-9]\d*/quic-v1/p2p/12D3KooW", address)
    report = "import libp2p\nprint(libp2p.QUICTransport is libp2p_quic.QUICTransport)\n"
    assert run("-c", f"{installed}{report}").stdout == "True\n"
    report = "import sys\nprint({'libp2p', 'multiaddr', 'trio'} & set(sys.modules))\n"
    shown = run("-c", f"{without_py_libp2p}{report}").stdout
    assert shown == "b'0123456789abcdef0123456789abcdef'\nset()\n"


@pytest.mark.slow
def test_demo_passes_every_step_and_compares() -> None:
    shown = run("-m", "tools.demo", "--size", "32MiB", "--stock-size", "256KiB", "--pings", "10").stdout
    assert shown.count("equal at both ends") == 2
    assert re.search(r"goodput, one stream +\d+\.\d+ Gbit/s +\d+\.\d+ Gbit/s +\d+\.\d x quicker", shown)
    # Never a factor below one, which reads as the opposite.
    assert re.search(r"dial +\d+\.\d+ ms +\d+\.\d+ ms +[1-9]\d*\.\d x (quicker|slower)", shown)
    assert shown.endswith("Every step held.\n")
    assert "\r" not in shown
    assert "\x1b" not in shown


def test_demo_fails_when_a_step_does_not_hold() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        failed = run("-m", "tools.demo", "--transport", "libp2p-quic", "--port", port, status=1)
    assert "Failed: the listener ended with status 1" in failed.stderr
    assert "Every step held" not in failed.stdout


def test_demo_ends_both_processes_on_interrupt() -> None:
    program = [sys.executable, "-m", "tools.demo", "--transport", "libp2p-quic", "--size", "2GiB"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            if "transfer" in line:
                demo.send_signal(signal.SIGINT)
                break
        assert "Interrupted; both processes were ended." in demo.stderr.read()
    assert demo.returncode == 130
