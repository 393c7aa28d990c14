"""Fetches the source distribution of py-libp2p by name, version and hash, and unpacks it once.

Only the tests and their imports besides the package are unpacked. The package itself is not, so that the
tests use the installed py-libp2p, as programs do.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

# The hash is of the source distribution; pip refuses any other file.
VERSION = "0.8.1"
_SHA256 = "3fb1493d215d10205f56095014e21c3d4eec025a9becb3e73a768d1151f27fd0"

_UNPACKED = ("tests/", "examples/", "interop/", "scripts/", "docs/", "pyproject.toml")
_ROOT = Path(__file__).parents[2] / ".conformance"


class SuiteError(Exception):
    """The suite cannot be fetched; the message has the remedy."""


def fetch() -> Path:
    """The directory with the suite, downloaded with pip unless it is there. About 15 s.

    Of several processes, one downloads and the others wait.
    """
    if version("libp2p") != VERSION:
        raise SuiteError(f"py-libp2p {version('libp2p')} is installed; the suite is that of {VERSION}")
    suite = _ROOT / f"libp2p-{VERSION}"
    _ROOT.mkdir(exist_ok=True)
    with (_ROOT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if suite.is_dir():
            return suite
        with tempfile.TemporaryDirectory(dir=_ROOT) as scratch:
            archive = _download(Path(scratch))
            _unpack(archive, Path(scratch))
            # The rename is the last step: a directory of that name is complete.
            (Path(scratch) / suite.name).rename(suite)
    return suite


def _download(into: Path) -> Path:
    requirement = into / "requirement.txt"
    requirement.write_text(f"libp2p=={VERSION} --hash=sha256:{_SHA256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    only = ["--no-deps", "--no-binary", "libp2p", "--require-hashes", "--dest", str(into)]
    try:
        subprocess.run([*pip, *only, "--requirement", str(requirement)], check=True)
    except subprocess.CalledProcessError as error:
        raise SuiteError(f"pip could not fetch the source distribution of libp2p {VERSION}") from error
    return next(into.glob("*.tar.gz"))


def _unpack(archive: Path, into: Path) -> None:
    top = f"libp2p-{VERSION}/"
    with tarfile.open(archive) as tar:
        wanted = [m for m in tar.getmembers() if m.name.removeprefix(top).startswith(_UNPACKED)]
        # Members with paths outside of the directory are refused, if this Python supports it.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        tar.extractall(into, members=wanted)
