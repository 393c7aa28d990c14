"""Runs the Python tests on every CPython of this machine, each in a virtual environment of its own with the
wheel. `make test-pythons` builds the wheel first.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
_VENVS = ROOT / ".venvs"
_REQUIREMENTS = ROOT / "requirements-dev.txt"
_OLDEST = (3, 10)
_ASK = """\
import json, platform, sys, sysconfig
is_free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([platform.python_implementation(), sys.version_info[:3], is_free]))
"""


@dataclass(frozen=True, order=True)
class Interpreter:
    version: tuple[int, ...]
    is_free_threaded: bool
    path: Path

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version[:2])) + ("t" if self.is_free_threaded else "")


@dataclass(frozen=True)
class Outcome:
    interpreter: Interpreter
    result: str
    detail: str


def interpreters() -> list[Interpreter]:
    """The newest CPython of each version from 3.10, from the search path and from pyenv."""
    folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]
    folders += sorted((Path.home() / ".pyenv" / "versions").glob("*/bin"))
    candidates = {Path(sys.executable).resolve()}
    for folder in folders:
        candidates |= {
            each.resolve()
            for each in folder.glob("python3*")
            if re.fullmatch(r"python3(\.\d+t?)?", each.name)
        }
    found: dict[str, Interpreter] = {}
    for each in sorted(filter(None, map(_asked, candidates))):
        found[each.name] = each
    return sorted(found.values())


def _asked(path: Path) -> Interpreter | None:
    """The interpreter at that path, unless it is too old, is not CPython, or does not start."""
    try:
        told = subprocess.run(
            [path, "-I", "-c", _ASK], capture_output=True, text=True, check=True, timeout=60, cwd="/"
        )
        implementation, version, is_free_threaded = json.loads(told.stdout)
    except (OSError, subprocess.SubprocessError, json.JSONDecodeError):
        return None
    if implementation != "CPython" or tuple(version) < _OLDEST:
        return None
    return Interpreter(tuple(version), is_free_threaded, path)


def prepared(interpreter: Interpreter, wheel: Path) -> Path:
    """The Python of a virtual environment with the requirements and the wheel."""
    venv = _VENVS / interpreter.name
    python = venv / "bin" / "python"
    stamp = venv / "requirements"
    wanted = f"{interpreter.version} {hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()}"
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([interpreter.path, "-m", "venv", venv], check=True)
        subprocess.run([*install, "--requirement", _REQUIREMENTS], check=True)
        stamp.write_text(wanted)
    subprocess.run([*install, "--force-reinstall", "--no-deps", wheel], check=True)
    return python


def tested(interpreter: Interpreter, wheel: Path, arguments: list[str]) -> Outcome:
    print(f"\n==> Python {interpreter.name} ({interpreter.path})", file=sys.stderr, flush=True)
    try:
        python = prepared(interpreter, wheel)
    except subprocess.CalledProcessError as error:
        # py-libp2p's own requirements do not install everywhere.
        return Outcome(interpreter, "NOT RUN", f"{' '.join(map(str, error.cmd[1:4]))} failed: see above")
    report = _VENVS / interpreter.name / "tests.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    run = subprocess.run([python, "-m", "pytest", f"--junitxml={report}", *arguments], cwd=ROOT)
    detail = f"{counted(report)} in {(time.monotonic() - began) / 60:.0f} min"
    return Outcome(interpreter, "FAILED" if run.returncode else "passed", detail)


def counted(report: Path) -> str:
    """How many tests passed, failed and were skipped, of pytest's JUnit report."""
    if not report.exists():
        return "no test"
    try:
        suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    except ElementTree.ParseError as error:
        return f"a broken report ({error})"
    tests, failed, errors, skipped = (
        sum(int(each.get(name, 0)) for each in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    return f"{tests - failed - errors - skipped} passed, {failed + errors} failed, {skipped} skipped"


def kept(outcome: Outcome) -> None:
    """Put an outcome of all tests into the table of docs/platforms.md."""
    # Not in the source distribution, which has this program.
    from tools.wheels import page

    interpreter = outcome.interpreter
    version = ".".join(map(str, interpreter.version))
    name = f"CPython {version}{' without the GIL' if interpreter.is_free_threaded else ''}"
    result = outcome.detail if outcome.result == "passed" else f"{outcome.result}: {outcome.detail}"
    today = datetime.date.today().isoformat()
    try:
        page.keep_tests(page.RunResult(name, "the Python tests, with the wheel", "natively", result, today))
    except ValueError as error:
        print(f"the table is not written: {error}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make test-pythons",
        description=__doc__,
        epilog="example: make test-pythons PYTHONS='--only 3.12,3.13 -- -k asyncio'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--wheel", type=Path, required=True, help="the folder of the wheel")
    parser.add_argument("--only", default="", help="versions, separated by commas (default: all)")
    parser.add_argument("arguments", nargs="*", help="of pytest (default: all tests, in parallel)")
    options = parser.parse_args()
    wheels = sorted(options.wheel.glob("libp2p_quic-*.whl"), key=lambda each: each.stat().st_mtime)
    if not wheels:
        parser.error(f"no wheel in {options.wheel}: make wheel")
    only = set(filter(None, options.only.split(",")))
    chosen = [each for each in interpreters() if not only or each.name in only]
    if missing := only - {each.name for each in chosen}:
        parser.error(f"not on this machine: {', '.join(sorted(missing))}")
    arguments = options.arguments or [f"--numprocesses={2 * (os.cpu_count() or 1) + 1}", "--maxschedchunk=1"]
    outcomes: list[Outcome] = []
    is_interrupted = False
    try:
        for interpreter in chosen:
            outcomes.append(tested(interpreter, wheels[-1], arguments))
            if not options.arguments:
                kept(outcomes[-1])
    except KeyboardInterrupt:
        is_interrupted = True
        print(f"interrupted after {len(outcomes)} of {len(chosen)} interpreters", file=sys.stderr)
    for each in outcomes:
        print(f"{each.result:<8} {each.interpreter.name:<6} {each.detail}")
    return 130 if is_interrupted else any(each.result != "passed" for each in outcomes)


if __name__ == "__main__":
    sys.exit(main())
