"""Builds one wheel from a copy of the sources, with maturin, and zig as the compiler and linker, for
Windows mingw. The folder of the build leaves no trace: paths are remapped, and times are the last commit's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tools.wheels import archive, bom, running, symbols
from tools.wheels.platforms import Platform

ROOT = Path(__file__).resolve().parent.parent.parent
MACOS = "11.0"
_LONGEST = 3600.0
"""Seconds that maturin may take for one wheel; two processors need some 6 minutes."""


def copied(folder: Path) -> Path:
    """A copy of the files of the checkout as they are now, new ones too, in `folder`/sources. What git
    ignores is left out.
    """
    sources = folder / "sources"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    names = set(filter(None, listed.decode().split("\0")))
    if sources.exists():
        for old in sorted(sources.rglob("*"), reverse=True):
            if old.is_file() and str(old.relative_to(sources)) not in names:
                old.unlink()
    for name in sorted(names):
        source, copy = ROOT / name, sources / name
        if source.is_file() and (not copy.exists() or copy.read_bytes() != source.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            # With its time: cargo compiles again what is newer than its result.
            shutil.copy2(source, copy)
    return sources


def last_commit() -> int:
    """When the last commit was made, in seconds since 1970."""
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(told.stdout)


def search_path() -> str:
    """PATH with the virtual environment first, which has maturin, cargo-zigbuild and zig."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def environment(folder: Path, sources: Path, at: int) -> dict[str, str]:
    """Cargo's environment for a build in `folder`."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    target = folder / "target"
    remapped = {target: "/target", sources: "/libp2p-quic", home: "/cargo", symbols.sysroot(): "/rust"}
    rust = [f"--remap-path-prefix={path}={name}" for path, name in remapped.items()]
    c = " ".join(f"-ffile-prefix-map={path}={name}" for path, name in remapped.items())
    return {
        **os.environ,
        "PATH": search_path(),
        "CARGO_TARGET_DIR": str(target),
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(rust),
        "CARGO_INCREMENTAL": "0",
        "CARGO_TERM_PROGRESS_WHEN": "never",
        "CFLAGS": c,
        "CXXFLAGS": c,
        "MACOSX_DEPLOYMENT_TARGET": MACOS,
        "SOURCE_DATE_EPOCH": str(at),
        # Not in the wheel: the interpreter of the build is not the wheel's.
        "PYO3_PYTHON": sys.executable,
        "AWS_LC_SYS_NO_JITTER_ENTROPY": "1",
    }


def built(platform: Platform, folder: Path, log: Path, tell: Callable[[str], None]) -> tuple[Path, Path]:
    """Build the wheel of a platform in `folder`, and its debug file. What the tools print goes into `log`;
    its last line is told every minute.

    subprocess.SubprocessError if the build fails or does not end.
    """
    sources, at = copied(folder), last_commit()
    out, raw = folder / "wheels", folder / "raw" / platform.name
    shutil.rmtree(raw, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["maturin", "build", "--release", "--locked", "--strip", "false"]
    command += ["--zig"] if platform.has_zig else []
    command += ["--target", platform.target, "--out", str(raw)]
    if platform.compatibility is not None:
        command += ["--compatibility", platform.compatibility, "--auditwheel", "check"]
    if platform.python is not None:
        command += ["--interpreter", f"python{platform.python}"]
    log.write_bytes(b"")
    running.run_logged(["rustup", "target", "add", platform.target], log, _LONGEST, tell, sources)
    running.run_logged(command, log, _LONGEST, tell, sources, environment(folder, sources, at))
    (linked,) = raw.glob("*.whl")
    files = archive.read(linked)
    for each in filter(bom.is_bom, files):
        files[each] = bom.reproducible(files[each], sources, at)
    name = archive.module_name(files)
    wheel = out / linked.name
    debug_file = out / f"{wheel.stem}.debug"
    files[name] = symbols.separated(files[name], platform, debug_file)
    archive.write(wheel, files, at)
    return wheel, debug_file
