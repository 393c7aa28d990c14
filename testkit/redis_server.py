"""A real redis-server for the tests: the installed one, or Debian's, unpacked below interop/build.

That needs no root, and network access once. What cannot be had is an error and never a skip.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BUILD = Path(__file__).parent.parent / "interop" / "build"
_UNPACKED = _BUILD / "redis-server"


class RedisServerError(Exception):
    """There is no redis-server, or it does not start. The message says what to do."""


@contextmanager
def running_redis_server(folder: Path) -> Iterator[str]:
    """``host:port`` of an empty one on loopback, which keeps its files in ``folder``."""
    program, environment = _program()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    # No file of its own, so that nothing of one run is there in the next.
    arguments = [
        "--bind",
        "127.0.0.1",
        "--port",
        port,
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    with subprocess.Popen(
        [program, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                raise RedisServerError(f"{program} ended before it was ready:\n{''.join(said)}")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _program() -> tuple[str, dict[str, str]]:
    """The executable, and what its environment needs."""
    installed = shutil.which("redis-server")
    if installed is not None:
        return installed, {}
    _BUILD.mkdir(exist_ok=True)
    # Of several processes that need it at once, one fetches it and the others wait.
    with (_BUILD / "redis-server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _UNPACKED.is_dir():
            _unpack()
    libraries = _UNPACKED.glob("usr/lib/*-linux-gnu*")
    return str(_UNPACKED / "usr/bin/redis-server"), {"LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}


def _unpack() -> None:
    """Fetch Debian's package and what of its dependencies is not installed; apt checks signatures."""
    with tempfile.TemporaryDirectory(dir=_BUILD) as scratch:
        folder = Path(scratch)
        for each in ("lists/partial", "cache/archives/partial", "root"):
            (folder / each).mkdir(parents=True)
        # Lists of its own: those of the machine may be stale or missing, and are root's to renew.
        apt = [
            "apt-get",
            "-qq",
            "-o",
            f"Dir::State::Lists={folder}/lists",
            "-o",
            f"Dir::Cache={folder}/cache",
        ]
        apt += ["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"]
        _run([*apt, "update"], folder)
        wanted = _run([*apt, "--simulate", "--no-install-recommends", "install", "redis-server"], folder)
        # Inst redis-tools (5:7.0.15 Debian:12 [amd64])
        packages = [line.split()[1] for line in wanted.splitlines() if line.startswith("Inst ")]
        _run([*apt, "download", *packages], folder)
        for archive in folder.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(archive), str(folder / "root")], folder)
        # The rename is the last step: a directory of that name is complete.
        (folder / "root").rename(_UNPACKED)


def _run(command: list[str], folder: Path) -> str:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or error
        raise RedisServerError(
            f"no redis-server is installed, and Debian's cannot be fetched: {said}\n"
            "Install it, for example with: apt-get install redis-server"
        ) from error
