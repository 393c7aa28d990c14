"""A real redis-server for the tests: the installed one, or Debian's, unpacked below tools/interop/build.

That needs no root, and network access once. A failed download is an error and never a skip.
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

from testkit.names import free_port

_BUILD = Path(__file__).parent.parent / "tools" / "interop" / "build"
_UNPACKED = _BUILD / "redis-server"


class RedisServerError(Exception):
    """There is no redis-server, or it does not start. The message has the remedy."""


@contextmanager
def running_redis_server(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """``host:port`` of an empty server on that address, which keeps its files in ``folder``."""
    executable, environment = program()
    port = str(free_port(socket.SOCK_STREAM))
    # No snapshot file, so that every run starts empty.
    arguments = [
        "--bind",
        host,
        # Otherwise it serves loopback only, as it has no password.
        "--protected-mode",
        "no",
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
        [executable, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            output = []
            for line in process.stdout:
                output.append(line)
                if "Ready to accept connections" in line:
                    break
            else:
                raise RedisServerError(f"{executable} ended before it was ready:\n{''.join(output)}")
            yield f"{host}:{port}"
        finally:
            process.terminate()


def program() -> tuple[str, dict[str, str]]:
    """The executable, fetched if there is none, and the variables that it needs."""
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
    """Fetch Debian's package and its dependencies that are not installed; apt checks signatures."""
    with tempfile.TemporaryDirectory(dir=_BUILD) as scratch:
        folder = Path(scratch)
        for each in ("lists/partial", "cache/archives/partial", "root"):
            (folder / each).mkdir(parents=True)
        # Separate package lists: the machine's may be stale or missing, and only root can renew them.
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
        output = getattr(error, "stderr", None) or error
        raise RedisServerError(
            f"no redis-server is installed, and Debian's cannot be fetched: {output}\n"
            "Install it, for example with: apt-get install redis-server"
        ) from error
