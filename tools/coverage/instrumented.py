"""Builds with counters, and runs the tests of both languages on that build.

All files are in `target/coverage`: cargo's, a virtual environment with the instrumented engine, and the
counters.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tools.coverage.packages import ROOT

PLACE = ROOT / "target" / "coverage"
# The models compile the engine's sources a second time and run few of their lines.
_CARGO = ["--workspace", "--exclude", "libp2p-quic-models", "--all-features", "--locked"]
_RUSTC = str(Path(__file__).parent / "rustc")
_PACKAGE = ROOT / "python" / "libp2p_quic"
# Seconds for one test, because counters make everything slower.
_TEST_TIMEOUT = 180


class CoverageError(Exception):
    """The run failed; the message has the remedy."""


def llvm(tool: str) -> str:
    """The path of ``tool`` of the LLVM that rustc was built with; other versions cannot read its
    counters."""
    where = _output("rustc", "--print", "target-libdir").strip()
    found = Path(where).parent / "bin" / tool
    if not found.exists():
        raise CoverageError(f"rustc's toolchain has no {tool}: run `rustup component add llvm-tools`")
    return str(found)


def build() -> list[Path]:
    """Compile engine, tests and binding. The compiled files, which name their source lines."""
    environment = _environment("builds", RUSTC_WORKSPACE_WRAPPER=_RUSTC)
    objects: list[Path] = []
    tests = ["cargo", "test", *_CARGO, "--no-run"]
    # The binding is no test program, so it is built separately, as by maturin.
    binding = ["cargo", "build", "--package", "libp2p-quic-binding", "--locked"]
    for command in (tests, binding):
        messages = _output(*command, "--message-format=json-render-diagnostics", environment=environment)
        for message in map(json.loads, messages.splitlines()):
            if message.get("package_id", "").startswith(f"path+file://{ROOT}/"):
                program = message.get("executable")
                libraries = [file for file in message.get("filenames", ()) if file.endswith(".so")]
                objects += map(Path, [program] if program else libraries)
    _make_environment(next(file for file in objects if file.suffix == ".so"))
    return sorted(set(objects))


def _make_environment(engine: Path) -> None:
    """A virtual environment like `.venv`, where the package has ``engine`` and counts its lines.

    Every process that a test starts uses it, too, with any PYTHONPATH.
    """
    packages = PLACE / "python"
    shutil.rmtree(packages, ignore_errors=True)
    ours = packages / _PACKAGE.name
    ours.mkdir(parents=True)
    for source in _PACKAGE.iterdir():
        if source.name != "__pycache__" and source.suffix != ".so":
            # A link, so that lines are counted for its target.
            (ours / source.name).symlink_to(source)
    shutil.copy(engine, ours / "_engine.abi3.so")
    venv.create(PLACE / "venv", clear=True)
    executables = PLACE / "venv" / "bin"
    for program in Path(sys.executable).parent.iterdir():
        if not (executables / program.name).exists():
            (executables / program.name).symlink_to(program)
    (site,) = (PLACE / "venv" / "lib").glob("python*/site-packages")
    begin = "import coverage; coverage.process_startup()"
    everything_else = sysconfig.get_path("purelib")
    (site / "counted.pth").write_text(f"{packages}\n{everything_else}\n{begin}\n", encoding="utf-8")


def run_rust_tests() -> None:
    _forget("rust")
    _run("rust", "cargo", "test", *_CARGO, RUSTC_WORKSPACE_WRAPPER=_RUSTC)


def run_python_tests(arguments: list[str]) -> None:
    _forget("python")
    python = str(PLACE / "venv" / "bin" / "python")
    _run(
        "python",
        *(python, "-m", "pytest", "-q", f"--timeout={_TEST_TIMEOUT}", *arguments),
        COVERAGE_PROCESS_START=str(ROOT / "pyproject.toml"),
    )


def _forget(tests: str) -> None:
    """Remove the counters of an earlier run of these tests."""
    counters = PLACE / "counters" / tests
    shutil.rmtree(counters, ignore_errors=True)
    counters.mkdir(parents=True)


def write_python_report(html: Path) -> Path:
    report = PLACE / "python.json"
    _coverage("combine", "--keep", "--quiet")
    _coverage("json", "--quiet", "-o", str(report))
    _coverage("html", "--quiet", "--directory", str(html))
    return report


def _coverage(*arguments: str) -> None:
    _run("python", sys.executable, "-m", "coverage", *arguments)


def write_rust_report(objects: list[Path], html: Path) -> Path:
    report, merged = PLACE / "rust.lcov", PLACE / "rust.profdata"
    counters = [str(path) for path in (PLACE / "counters").glob("*/*.profraw")]
    listed = PLACE / "profraws"
    listed.write_text("\n".join(counters), encoding="utf-8")
    # A process that a test killed may leave an incomplete file.
    _run(
        "report",
        *(llvm("llvm-profdata"), "merge", "--sparse", "--failure-mode=all", "--input-files", str(listed)),
        *("--output", str(merged)),
    )
    files = [str(objects[0]), *(f"--object={path}" for path in objects[1:])]
    common = [f"--instr-profile={merged}", *files, "--ignore-filename-regex=/(registry|rustc|tests)/"]
    shown = _output(llvm("llvm-cov"), "export", "--format=lcov", *common)
    report.write_text(shown, encoding="utf-8")
    _run("report", llvm("llvm-cov"), "show", "--format=html", f"--output-dir={html}", *common)
    return report


def _environment(tests: str, **more: str) -> dict[str, str]:
    counters = PLACE / "counters" / tests
    return {
        **os.environ,
        "CARGO_TARGET_DIR": str(PLACE),
        # As maturin sets it: Python brings its own symbols.
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        # A file for each process, because some are killed.
        "LLVM_PROFILE_FILE": str(counters / "%p-%m.profraw"),
        "COVERAGE_FILE": str(counters / "python"),
        **more,
    }


def _run(tests: str, *command: str, **environment: str) -> None:
    finished = subprocess.run(command, cwd=ROOT, env=_environment(tests, **environment), check=False)
    if finished.returncode:
        raise CoverageError(f"status {finished.returncode}: {' '.join(command)[:200]}")


def _output(*command: str, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, stdout=subprocess.PIPE, text=True
    )
    if finished.returncode:
        raise CoverageError(f"status {finished.returncode}: {' '.join(command)[:200]}")
    return finished.stdout
