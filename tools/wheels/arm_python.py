"""Debian's CPython for ARM, unpacked into a folder, to run under qemu-user. apt downloads it from the
machine's own sources; nothing is installed on the machine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_EMULATOR = "qemu-aarch64"
_LOADER = "lib/ld-linux-aarch64.so.1"
# The package python3.11 and what its modules ssl, asyncio and hashlib load.
_PACKAGES = (
    "libc6",
    "libcrypt1",
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libuuid1",
    "python3.11-minimal",
    "zlib1g",
)


def missing() -> str | None:
    """What this machine lacks, and where to get it; `None` if nothing."""
    if shutil.which("apt-get") is None:
        return "no apt-get, which downloads Debian's Python for ARM"
    if shutil.which(_EMULATOR) is None:
        return f"{_EMULATOR} is missing, which runs programs for ARM: apt-get install qemu-user"
    return None


def command(root: Path) -> list[str]:
    """How to run the Python of `prepared`."""
    return [_EMULATOR, "-L", str(root), str(root / "usr" / "bin" / "python3.11")]


def prepared(folder: Path) -> Path:
    """The folder with the Python, after downloading it once. `subprocess.CalledProcessError` if Debian's
    packages are unavailable, for instance on another release than Debian 12.
    """
    root = folder / "root"
    complete = folder / "complete"
    if complete.exists():
        return root
    shutil.rmtree(folder, ignore_errors=True)
    for each in ("lists/partial", "cache/archives/partial", "packages"):
        (folder / each).mkdir(parents=True)
    (folder / "status").touch()
    settings = folder / "apt.conf"
    settings.write_text(
        'APT::Architecture "arm64";\n'
        'APT::Architectures { "arm64"; };\n'
        f'Dir::State "{folder}";\n'
        f'Dir::State::status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
        # The user _apt, which root's apt downloads as, may have no access to the folder.
        'APT::Sandbox::User "root";\n'
    )
    variables = {**os.environ, "APT_CONFIG": str(settings)}
    # A source beside Debian's may be unavailable: the download fails if Debian's is.
    subprocess.run(["apt-get", "--quiet", "--quiet", "update"], env=variables, check=False)
    subprocess.run(
        ["apt-get", "--quiet", "--quiet", "download", *_PACKAGES],
        env=variables,
        check=True,
        cwd=folder / "packages",
    )
    for package in sorted((folder / "packages").glob("*.deb")):
        subprocess.run(["dpkg", "--extract", package, root], check=True)
    if not (root / _LOADER).exists():
        raise subprocess.CalledProcessError(1, ["dpkg"])
    complete.touch()
    return root
