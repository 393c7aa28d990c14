"""Runs the engine's tests on another C library, processor or system: natively on musl, under qemu-user on
ARM, under Wine for Windows. `make test-musl`, `make test-arm` and `make test-windows` install zig, which
compiles and links.

The programs are linked statically, so that qemu needs no libraries of the other processor.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tools.wheels.building import ROOT, search_path

_QEMU = {"aarch64": "qemu-aarch64", "x86_64": "qemu-x86_64"}
_WINE_FOLDERS = ("/usr/lib/wine",)
"""Where Debian has it, outside PATH."""
_WINE_FILES = ROOT / "target" / "wine"
_PRNG = Path(__file__).resolve().parent / "wine" / "prng.c"
_NOT_UNDER_WINE = {
    # Wine 8 does not tell the destination address of a datagram (IP_PKTINFO).
    "addresses::a_wildcard_of_each_family_shares_a_port",
    "addresses::an_echo_over_both_families",
    # Wine serves each wait for a socket in one process: these wait some 100 000 times.
    "transfers::a_flood_does_not_starve_a_ping",
    "transfers::no_wake_up_is_lost_between_threads",
}
"""Tests of what Wine cannot show."""
TARGETS = ("x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl", "x86_64-pc-windows-gnu")


def is_windows(target: str) -> bool:
    return "-windows-" in target


def wine() -> str | None:
    """The program that runs Windows programs."""
    return shutil.which("wine64", path=os.pathsep.join([os.environ.get("PATH", ""), *_WINE_FOLDERS]))


def missing(target: str, machine: str = platform.machine()) -> str | None:
    """What this machine lacks for the tests of that target, and where to get it; `None` if nothing."""
    processor = target.partition("-")[0]
    if sys.platform != "linux":
        return f"the tests of {target} run on Linux, and this is {sys.platform}"
    if shutil.which("rustup") is None:
        return f"rustup is missing, which installs Rust's library for {target}: https://rustup.rs"
    if is_windows(target):
        if wine() is None:
            return "wine64 is missing, which runs programs of Windows: apt-get install wine64"
    elif processor != machine and shutil.which(_QEMU[processor]) is None:
        return (
            f"{_QEMU[processor]} is missing, which runs programs for {processor}: apt-get install qemu-user"
        )
    return None


def environment(target: str, machine: str = platform.machine()) -> dict[str, str]:
    """Cargo's environment: builds in a folder of their own, and the emulator if one is needed."""
    processor = target.partition("-")[0]
    variables = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "cross")}
    variables["PATH"] = search_path()
    runner = f"CARGO_TARGET_{target.upper().replace('-', '_')}_RUNNER"
    if is_windows(target):
        variables[runner] = wine() or "wine64"
        variables["WINEDEBUG"] = "-all"
        variables["WINEPREFIX"] = str(_WINE_FILES / "prefix")
        # Wine's drive Z is the root of this machine.
        variables["WINEPATH"] = "Z:" + str(_WINE_FILES).replace("/", "\\")
    elif processor != machine:
        variables[runner] = _QEMU[processor]
    return variables


def _make_prng(variables: dict[str, str]) -> None:
    """Compile the library that Rust's programs need and Wine 8 lacks."""
    _WINE_FILES.mkdir(parents=True, exist_ok=True)
    library = _WINE_FILES / "bcryptprimitives.dll"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared"]
    command += ["-o", str(library), str(_PRNG), "-ladvapi32"]
    subprocess.run(command, check=True, cwd=_WINE_FILES, env=variables)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make test-musl, make test-arm, make test-windows", description=__doc__
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("arguments", nargs="*", help="of cargo test, such as --lib (default: all tests)")
    options = parser.parse_args()
    if problem := missing(options.target):
        sys.exit(f"NOT RUN: {problem}")
    subprocess.run(["rustup", "target", "add", options.target], check=True, cwd=ROOT)
    variables = environment(options.target)
    command = ["cargo-zigbuild", "test", "--target", options.target, "--locked"]
    command += ["--package", "libp2p-quic-engine", "--all-features", *options.arguments]
    if is_windows(options.target):
        _make_prng(variables)
        command += [] if "--" in options.arguments else ["--"]
        command += [each for name in sorted(_NOT_UNDER_WINE) for each in ("--skip", name)]
        print(f"Left out, as Wine cannot show them: {', '.join(sorted(_NOT_UNDER_WINE))}", flush=True)
    return subprocess.run(command, cwd=ROOT, env=variables).returncode


if __name__ == "__main__":
    sys.exit(main())
