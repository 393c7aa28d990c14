"""Runs the engine's tests on another C library or processor: natively on musl, under qemu-user on ARM.
`make test-musl` and `make test-arm` install zig, which compiles and links.

The programs are linked statically, so that qemu needs no libraries of the other processor.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys

from tools.wheels.building import ROOT, search_path

_QEMU = {"aarch64": "qemu-aarch64", "x86_64": "qemu-x86_64"}


def missing(target: str, machine: str = platform.machine()) -> str | None:
    """What this machine lacks for the tests of that target, and where to get it; `None` if nothing."""
    processor = target.partition("-")[0]
    if sys.platform != "linux":
        return f"the tests of {target} run on Linux, and this is {sys.platform}"
    if shutil.which("rustup") is None:
        return f"rustup is missing, which installs Rust's library for {target}: https://rustup.rs"
    if processor != machine and shutil.which(_QEMU[processor]) is None:
        return (
            f"{_QEMU[processor]} is missing, which runs programs for {processor}: apt-get install qemu-user"
        )
    return None


def environment(target: str, machine: str = platform.machine()) -> dict[str, str]:
    """Cargo's environment: builds in a folder of their own, and the emulator if one is needed."""
    processor = target.partition("-")[0]
    variables = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "cross")}
    variables["PATH"] = search_path()
    if processor != machine:
        name = target.upper().replace("-", "_")
        variables[f"CARGO_TARGET_{name}_RUNNER"] = _QEMU[processor]
    return variables


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-musl, make test-arm", description=__doc__)
    parser.add_argument("target", choices=["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"])
    parser.add_argument("arguments", nargs="*", help="of cargo test, such as --lib (default: all tests)")
    options = parser.parse_args()
    if problem := missing(options.target):
        sys.exit(f"NOT RUN: {problem}")
    subprocess.run(["rustup", "target", "add", options.target], check=True, cwd=ROOT)
    command = ["cargo-zigbuild", "test", "--target", options.target, "--locked"]
    command += ["--package", "libp2p-quic-engine", "--all-features", *options.arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(options.target)).returncode


if __name__ == "__main__":
    sys.exit(main())
