"""Runs the engine's tests on another C library, processor or system: natively on musl, also with 32 bits,
under qemu-user on ARM, under Wine for Windows. For macOS it only checks that engine and binding compile.
`make test-musl`, `test-i686`, `test-arm`, `test-windows` and `check-macos` install zig, which compiles and
links.

The programs are linked statically, so that qemu needs no libraries of the other processor. What a run of all
tests of a target shows goes into the table of tests in docs/platforms.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from tools.wheels import page, running
from tools.wheels.building import MACOS, ROOT, search_path
from tools.wheels.platforms import MINGW

_QEMU = {"aarch64": "qemu-aarch64", "i686": "qemu-i386", "x86_64": "qemu-x86_64"}
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
PLATFORMS = {
    "x86_64-unknown-linux-musl": "Linux, x86-64, musl",
    "i686-unknown-linux-musl": "Linux, 32-bit x86, musl",
    "aarch64-unknown-linux-musl": "Linux, aarch64, musl",
    "x86_64-pc-windows-gnu": "Windows, x86-64",
    "aarch64-apple-darwin": "macOS, arm64",
}
_PARTS = {"i686-unknown-linux-musl": ["--test", "simulation"]}
"""What runs of a target's tests if no arguments say so; all tests of a target that is not listed."""
_RESULT = re.compile(
    r"test result: .* (\d+) passed; (\d+) failed; (\d+) ignored; \d+ measured; (\d+) filtered out"
)
_FAILED = re.compile(r"test (\S+).* \.\.\. FAILED\s*")


def is_windows(target: str) -> bool:
    return "-windows-" in target


def is_macos(target: str) -> bool:
    return "-apple-" in target


def wine() -> str | None:
    """The program that runs Windows programs."""
    return shutil.which("wine64", path=os.pathsep.join([os.environ.get("PATH", ""), *_WINE_FOLDERS]))


def emulator(target: str, machine: str) -> str | None:
    """The program that runs those of the target on a machine with that processor; `None` for none."""
    processor = target.partition("-")[0]
    # Linux on x86-64 runs programs for 32-bit x86.
    if processor == machine or (processor, machine) == ("i686", "x86_64"):
        return None
    return _QEMU[processor]


def missing(target: str, machine: str = platform.machine(), with_zig: bool = True) -> str | None:
    """What this machine lacks for the tests of that target, and where to get it; `None` if nothing."""
    if sys.platform != "linux":
        return f"the tests of {target} run on Linux, and this is {sys.platform}"
    if shutil.which("rustup") is None:
        return f"rustup is missing, which installs Rust's library for {target}: https://rustup.rs"
    if is_macos(target):
        return None
    if is_windows(target):
        if wine() is None:
            return "wine64 is missing, which runs programs of Windows: apt-get install wine64"
        if not with_zig and shutil.which(MINGW) is None:
            return f"{MINGW} is missing: apt-get install gcc-mingw-w64-x86-64"
        return None
    qemu = emulator(target, machine)
    if qemu is not None and shutil.which(qemu) is None:
        processor = target.partition("-")[0]
        return f"{qemu} is missing, which runs programs for {processor}: apt-get install qemu-user"
    return None


def environment(target: str, machine: str = platform.machine()) -> dict[str, str]:
    """Cargo's environment: builds in a folder of their own, and the emulator if one is needed."""
    variables = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target" / "cross")}
    variables["PATH"] = search_path()
    runner = f"CARGO_TARGET_{target.upper().replace('-', '_')}_RUNNER"
    if is_windows(target):
        variables[runner] = wine() or "wine64"
        variables["WINEDEBUG"] = "-all"
        variables["WINEPREFIX"] = str(_WINE_FILES / "prefix")
        # The first start makes the prefix. It would look for Mono and Gecko, to install them in a window.
        variables["WINEDLLOVERRIDES"] = "mscoree,mshtml="
        # Wine's drive Z is the root of this machine.
        variables["WINEPATH"] = "Z:" + str(_WINE_FILES).replace("/", "\\")
    elif is_macos(target):
        variables["MACOSX_DEPLOYMENT_TARGET"] = MACOS
    elif (qemu := emulator(target, machine)) is not None:
        variables[runner] = qemu
    return variables


def how(target: str, machine: str = platform.machine()) -> str:
    """How the tests of a target run on a machine with that processor."""
    if is_macos(target):
        return "compiled only"
    if is_windows(target):
        return "emulated (Wine)"
    return "natively" if emulator(target, machine) is None else "emulated (qemu-user)"


def command(target: str, arguments: list[str], with_zig: bool = True) -> list[str]:
    """Cargo's command line; `arguments` are those of `cargo test`."""
    program = "cargo-zigbuild" if with_zig else "cargo"
    common = ["--target", target, "--locked", "--package", "libp2p-quic-engine", "--all-features"]
    if is_macos(target):
        return [program, "check", *common, "--package", "libp2p-quic-binding", *arguments]
    found = [program, "test", *common, *(arguments or _PARTS.get(target, []))]
    # One failed program must not hide the results of those after it.
    found.insert(2, "--no-fail-fast")
    if is_windows(target):
        found += [] if "--" in found else ["--"]
        found += [each for name in sorted(_NOT_UNDER_WINE) for each in ("--skip", name)]
    return found


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What is before the first `--`, and all after it, which may have another."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def counted(lines: Iterable[str]) -> tuple[int, int, int, int]:
    """Tests that passed, failed, were ignored and were left out, of all programs in cargo's output."""
    found = [tuple(map(int, match.groups())) for match in map(_RESULT.search, lines) if match]
    passed, failed, ignored, left_out = (sum(counts) for counts in zip((0, 0, 0, 0), *found, strict=True))
    return passed, failed, ignored, left_out


def failures(lines: Iterable[str]) -> list[str]:
    """The names of the tests that failed, in cargo's output."""
    return [match[1] for match in map(_FAILED.fullmatch, lines) if match]


def _make_prng(variables: dict[str, str], with_zig: bool) -> None:
    """Compile the library that Rust's programs need and Wine 8 lacks."""
    _WINE_FILES.mkdir(parents=True, exist_ok=True)
    library = _WINE_FILES / "bcryptprimitives.dll"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu"]
    compiler = [*(zig if with_zig else [MINGW]), "-O2", "-shared", "-o", str(library), str(_PRNG)]
    subprocess.run([*compiler, "-ladvapi32"], check=True, cwd=_WINE_FILES, env=variables)


def _end_wine(variables: dict[str, str]) -> None:
    """End Wine's server and the programs of the tests' prefix: they are in no group of processes of ours."""
    program = Path(wine() or "wine64").with_name("wineserver")
    if program.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([program, "--kill"], env=variables, timeout=60)


def _copied(source: IO[str], lines: list[str], log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as written:
        for line in source:
            print(line, end="", flush=True)
            lines.append(line)
            written.write(line)
            written.flush()


def _run(
    line: list[str], variables: dict[str, str], seconds: float, log: Path
) -> tuple[int | None, list[str]]:
    """Run a command for that long at most; returns its status, `None` if it was ended, and its output and
    errors, which are also written into `log` as they come.
    """
    process = subprocess.Popen(
        line,
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A group of its own, so that all of its descendants can be ended.
        start_new_session=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    # A thread, as a process that Wine leaves behind may hold the pipe open after cargo's end.
    copying = threading.Thread(target=_copied, args=(process.stdout, lines, log), daemon=True)
    copying.start()
    status: int | None = None
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"ended after {seconds / 60:.0f} minutes: --minutes allows more", file=sys.stderr, flush=True)
    finally:
        running.end(process)
    copying.join(10)
    if not copying.is_alive():
        process.stdout.close()
    return status, lines


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make test-musl, test-i686, test-arm, test-windows, check-macos",
        description=__doc__,
        epilog="after --, arguments of cargo test: make test-arm ENGINE='--minutes 30 -- --test simulation'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", choices=PLATFORMS)
    parser.add_argument("--minutes", type=float, default=240, help="ends the run after them (default: 240)")
    parser.add_argument("--without-zig", action="store_true", help="link with mingw, for Windows only")
    ours, arguments = split(sys.argv[1:])
    options = parser.parse_args(ours)
    target, with_zig = options.target, not options.without_zig
    if not (with_zig or is_windows(target)):
        parser.error("--without-zig is for x86_64-pc-windows-gnu")
    if problem := missing(target, with_zig=with_zig):
        sys.exit(f"NOT RUN: {problem}")
    variables = environment(target)
    try:
        subprocess.run(["rustup", "target", "add", target], check=True, cwd=ROOT)
        if is_windows(target):
            _make_prng(variables, with_zig)
            print(f"Left out, as Wine cannot show them: {', '.join(sorted(_NOT_UNDER_WINE))}", flush=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"NOT RUN: {' '.join(error.cmd)} ended with {error.returncode}: see above")
    began = time.monotonic()
    log = ROOT / "target" / "cross" / f"{target}.log"
    running.interrupt_when_ended()
    try:
        status, lines = _run(command(target, arguments, with_zig), variables, options.minutes * 60, log)
    except KeyboardInterrupt:
        print(f"interrupted, and ended; log: {log.relative_to(ROOT)}", file=sys.stderr, flush=True)
        return 130
    finally:
        if is_windows(target):
            _end_wine(variables)
    result = told(target, status, lines, time.monotonic() - began)
    for name in failures(lines):
        print(f"failed: {name}")
    print(f"{PLATFORMS[target]}, {how(target)}: {result}; log: {log.relative_to(ROOT)}", flush=True)
    if not arguments:
        part = " ".join(_PARTS.get(target, []))
        what = "engine and binding" if is_macos(target) else f"the engine's tests{part and f' ({part})'}"
        today = datetime.date.today().isoformat()
        try:
            page.keep_tests(page.RunResult(PLATFORMS[target], what, how(target), result, today))
        except ValueError as error:
            print(f"the table is not written: {error}", file=sys.stderr)
    return 1 if status is None else status


def told(target: str, status: int | None, lines: list[str], seconds: float) -> str:
    """The result of a run, for the table."""
    minutes = f"in {seconds / 60:.0f} min"
    if is_macos(target):
        return f"compiled {minutes}" if status == 0 else "FAILED to compile"
    if status and not any(map(_RESULT.search, lines)):
        has_started = any("could not execute process" in line for line in lines)
        return "FAILED: the tests could not be started" if has_started else "FAILED to compile"
    passed, failed, ignored, left_out = counted(lines)
    counts = f"{passed} passed, {failed} failed, {ignored} ignored, {left_out} left out {minutes}"
    if status is None:
        return f"NOT COMPLETE: {counts}"
    return counts if status == 0 else f"FAILED: {counts}"


if __name__ == "__main__":
    sys.exit(main())
