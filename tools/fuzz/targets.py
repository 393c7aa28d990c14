"""The targets: how each is built and run, and how its output is parsed.

Rust targets are programs around libFuzzer; Python's are hypothesis state machines. `__main__` runs them
and prints the table.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = ROOT / "tools" / "fuzz"
CORPUS = HERE / "corpus"
FOUND = HERE / "found"

# Crate -> its targets, whose bodies and cases are in the crate's tests/fuzzed.
CRATES = {
    "engine": ("certificate", "client_hello", "configuration", "noise", "attacker", "peer"),
    "webtransport": (
        "h3_settings",
        "h3_fields",
        "h3_capsules",
        "h3_streams",
        "h3_connection",
    ),
}
# Target -> the folder of its cases.
RUST = {
    target: ROOT / "crates" / crate / "tests" / "fuzzed" / "cases" / target
    for crate, targets in CRATES.items()
    for target in targets
} | {"h3_oracle": HERE / "cases" / "h3_oracle"}
PYTHON = ("inputs", "methods")

# libFuzzer needs counters at every edge and the operands of comparisons. `-Cpasses` is a flag
# of the stable compiler; the sanitizers' own switches, and therefore cargo-fuzz, need nightly.
COVERAGE = (
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
)
# Seconds: longer than any input needs, because a target that hangs is a finding.
HANGS = 20


@dataclass(frozen=True)
class Outcome:
    """The result of one target's run."""

    target: str
    seconds: float
    processor: float
    executions: int | None
    edges: int | None
    found: tuple[Path, ...]
    is_good: bool


def host() -> str:
    match = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^host: (.+)$", match, re.MULTILINE)
    assert found, match
    return found[1]


def build() -> Path:
    """Compile the Rust targets; returns their folder."""
    triple = host()
    # With --target, build scripts are compiled without these flags.
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bins", "--target", triple],
        cwd=HERE,
        env=os.environ | {"RUSTFLAGS": " ".join(COVERAGE), "CARGO_TARGET_DIR": str(HERE / "target")},
        check=True,
    )
    return HERE / "target" / triple / "release"


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which libFuzzer needs."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "c++", "g++", "clang++"))


def command(target: str, seconds: float, built: Path | None) -> list[str]:
    """The command that runs a target for ``seconds``."""
    if target in PYTHON:
        return [sys.executable, "-m", "tools.fuzz.python", target, str(seconds)]
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
        str(RUST[target]),
    ]


def finds(target: str) -> set[Path]:
    return {path for path in (FOUND / target).glob("*") if path.is_file()}


def executions(line: str) -> int | None:
    """The number of inputs that a line of output reports."""
    match = re.match(r"(?:#(\d+)\s|Done (\d+) runs|stat::number_of_executed_units:\s*(\d+))", line)
    return next(int(number) for number in match.groups() if number) if match else None


def edges(line: str) -> int | None:
    """The number of covered edges that a line of output reports."""
    match = re.search(r"\bcov: (\d+)", line)
    return int(match[1]) if match else None
