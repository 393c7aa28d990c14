"""Builds the wheels of all platforms on this Linux machine into `dist/wheels`, checks each, and tries
those that the machine can load. Prints a table, and writes it into docs/platforms.md.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

from tools.wheels import inspection, page, running
from tools.wheels.building import ROOT, built
from tools.wheels.page import Row
from tools.wheels.platforms import PLATFORMS, Platform, chosen, missing, runs_wherever
from tools.wheels.trials import NotRun, trials

_WORK = ROOT / "target" / "wheels"
_OUT = ROOT / "dist" / "wheels"
_BEGAN = time.monotonic()
# What a wheel of an unexpected form, or another version of a tool, brings: it fails that wheel alone.
_UNEXPECTED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    StopIteration,
    struct.error,
    zipfile.BadZipFile,
    inspection.Unfit,
)


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", flush=True)


def made(platform: Platform, compare: bool) -> Row:
    """Build, check and try the wheel of one platform."""
    row = Row(platform.name, tag=platform.tag, on=datetime.date.today().isoformat())
    log = _WORK / "logs" / f"{platform.name}.log"
    say(f"{platform.name}: building; what the tools print is in {log.relative_to(ROOT)}")

    def tell(text: str) -> None:
        say(f"{platform.name}:   {text[:100]}")

    # A wheel of an earlier run must not be taken for this one if this one fails.
    for old in _OUT.glob(f"*-{platform.tag}.*"):
        old.unlink()
    try:
        wheel, debug_file = built(platform, _WORK / "first", log, tell)
        row.size = inspection.size(wheel)
        checked(wheel, platform)
        if compare:
            log = log.with_suffix(".again.log")
            say(f"{platform.name}: building again, in another folder; log: {log.relative_to(ROOT)}")
            elsewhere = _WORK / "second" / "elsewhere"
            again, debug_again = built(platform, elsewhere, log, tell)
            are_symbols_equal = debug_file.read_bytes() == debug_again.read_bytes()
            row.reproducible = "different"
            inspection.equal(wheel, again)
            row.reproducible = "equal" if are_symbols_equal else "equal; their debug files differ"
        _OUT.mkdir(parents=True, exist_ok=True)
        for each in (wheel, debug_file):
            shutil.copy2(each, _OUT)
        row.state = "built"
    except subprocess.SubprocessError as error:
        row.state, row.why = "FAILED", reason(log) or one_line(error)
    except _UNEXPECTED as error:
        row.state, row.why = "FAILED", one_line(error)
        if log.exists():
            with log.open("a") as output:
                traceback.print_exc(file=output)
    if row.state != "built":
        say(f"{platform.name}: FAILED: {row.why}")
        return row
    for trial in trials(platform):
        say(f"{platform.name}: trying it: {trial.name}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                seen = trial.run(wheel, Path(folder))
                row.tested.append(f"{trial.how} ({trial.name}): {seen}")
            except NotRun as error:
                row.tested.append(f"{trial.name}: NOT RUN: {error}")
                say(f"{platform.name}: {row.tested[-1]}")
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                row.state = "FAILED"
                row.why = f"{trial.name}: {one_line(error)}"
                say(f"{platform.name}: FAILED: {error}")
            else:
                say(f"{platform.name}: {row.tested[-1]}")
    return row


def checked(wheel: Path, platform: Platform) -> None:
    """All checks that need no run of the wheel; `inspection.Unfit` if one fails."""
    inspection.tags(wheel, platform)
    inspection.contents(wheel)
    libraries = inspection.libraries(wheel, platform)
    exported = inspection.entry(wheel, platform)
    inspection.no_symbols(wheel, platform)
    inspection.signature(wheel, platform)
    packages = inspection.sbom(wheel)
    glibc = inspection.newest_glibc(wheel, platform)
    says = f"{platform.name}: {wheel.name}: {wheel.stat().st_size:,} bytes; loads {', '.join(libraries)}; "
    says += f"exports {exported} functions"
    say(f"{says}; {f'needs glibc {glibc}; ' if glibc else ''}{packages} packages in its bill of materials")
    # For musl, auditwheel takes the policy of the libc of the machine that it runs on, which has glibc here,
    # and allows another name of libc than zig's. `inspection.libraries` allows musl alone.
    if platform.system == "linux" and not platform.is_musl:
        audited(wheel, platform)


def audited(wheel: Path, platform: Platform) -> None:
    """Have auditwheel say that the wheel runs where its tag says."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    printed = " ".join(run.stdout.split())
    found = re.search(r'following platform tag: "(\w+)"', printed)
    if run.returncode or found is None or not runs_wherever(platform, found[1]):
        raise inspection.Unfit(f"auditwheel says about {wheel.name}: {printed or run.stderr.strip()[-300:]}")


def one_line(error: Exception) -> str:
    """The first line of an error's text, for a cell of the table."""
    return without_root(next(iter(str(error).strip().splitlines()), type(error).__name__))


def without_root(text: str) -> str:
    """A text for the table, without the folder of this checkout."""
    return text.replace(f"{ROOT}/", "")


def reason(log: Path) -> str:
    """The line of a log that says what went wrong: the first error, or maturin's last cause."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    lines = [line.strip() for line in lines]
    causes = [line for line in lines if line.startswith("Caused by:")]
    return without_root(next((line for line in lines if line.startswith("error")), (causes or [""])[-1]))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make wheels",
        description=__doc__,
        epilog="example: make wheels WHEELS='--only manylinux-x86_64'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = ", ".join(each.name for each in PLATFORMS)
    parser.add_argument("--only", default="", help=f"platforms, separated by commas (default: all): {names}")
    parser.add_argument("--once", action="store_true", help="do not build again to compare")
    parser.add_argument("--no-page", action="store_true", help="leave docs/platforms.md as it is")
    options = parser.parse_args()
    try:
        platforms = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    if problem := missing(platforms):
        sys.exit(f"NOT RUN: {problem}")
    running.interrupt_when_ended()
    rows: list[Row] = []
    is_interrupted = False
    try:
        for index, each in enumerate(platforms, 1):
            say(f"{each.name}: wheel {index} of {len(platforms)}")
            rows.append(made(each, compare=not options.once))
            if not options.no_page:
                page.keep(rows)
    except KeyboardInterrupt:
        is_interrupted = True
        say(f"interrupted: {len(rows)} of {len(platforms)} wheels are done, and kept in the table")
    print(f"\n{page.printed(rows)}\n\nwheels and debug files: {_OUT.relative_to(ROOT)}")
    return 130 if is_interrupted else any(each.state != "built" for each in rows)


if __name__ == "__main__":
    sys.exit(main())
