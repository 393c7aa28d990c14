"""The targets: what each is built from, how it is run, and what its output says.

Rust targets are programs around libFuzzer; Python's are hypothesis machines. Only commands
and their words are known here; the order, the table and the exit are `__main__`'s.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
HERE = ROOT / "fuzz"
CASES = ROOT / "crates" / "engine" / "tests" / "fuzzed" / "cases"
CORPUS = HERE / "corpus"
FOUND = HERE / "found"

RUST = ("certificate", "configuration", "strangers", "peer")
PYTHON = ("words", "verbs")

# libFuzzer wants counters at every edge and the operands of comparisons. `-Cpasses` is a flag
# of the stable compiler; the sanitizers' own switches, and cargo-fuzz with them, want nightly.
COVERAGE = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)
# Longer than any input needs: a target that hangs is a find.
HANGS = 20


@dataclass(frozen=True)
class Outcome:
    """What one target's run came to."""

    target: str
    seconds: float
    processor: float
    executions: int | None
    edges: int | None
    found: tuple[Path, ...]
    is_good: bool


def host() -> str:
    told = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^host: (.+)$", told, re.MULTILINE)
    assert found, told
    return found[1]


def build() -> Path:
    """Compile the Rust targets; where they are."""
    triple = host()
    # With a target named, build scripts are compiled without these flags.
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bins", "--target", triple],
        cwd=HERE,
        env=os.environ | {"RUSTFLAGS": " ".join(COVERAGE), "CARGO_TARGET_DIR": str(HERE / "target")},
        check=True,
    )
    return HERE / "target" / triple / "release"


def has_compiler() -> bool:
    """libFuzzer itself is C++."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))


def command(target: str, seconds: float, built: Path | None) -> list[str]:
    """What runs a target for so long."""
    if target in PYTHON:
        return [sys.executable, "-m", "fuzz.python", target, str(seconds)]
    assert built is not None
    for folder in (CORPUS / target, FOUND / target):
        folder.mkdir(parents=True, exist_ok=True)
    return [
        str(built / target),
        f"-max_total_time={max(1, round(seconds))}",
        "-max_len=4096",
        f"-timeout={HANGS}",
        "-print_final_stats=1",
        f"-artifact_prefix={FOUND / target}/",
        str(CORPUS / target),
        str(CASES / target),
    ]


def finds(target: str) -> set[Path]:
    return {path for path in (FOUND / target).glob("*") if path.is_file()}


def executions(line: str) -> int | None:
    """How many inputs a line of output says were tried."""
    told = re.match(r"(?:#(\d+)\s|Done (\d+) runs|stat::number_of_executed_units:\s*(\d+))", line)
    return next(int(number) for number in told.groups() if number) if told else None


def edges(line: str) -> int | None:
    """How many places in the program a line of output says were reached."""
    told = re.search(r"\bcov: (\d+)", line)
    return int(told[1]) if told else None
