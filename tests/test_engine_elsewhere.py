"""`make test-musl`, `make test-arm` and `make test-windows` say what is missing, and emulate only another
processor or system.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.wheels import engine_tests
from tools.wheels.engine_tests import environment, missing

_MUSL = "x86_64-unknown-linux-musl"
_ARM = "aarch64-unknown-linux-musl"
_WINDOWS = "x86_64-pc-windows-gnu"


@pytest.fixture
def rustup_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search path with rustup only."""
    program = tmp_path / "rustup"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_a_missing_emulator_is_named_with_its_package(rustup_alone: Path) -> None:
    problem = missing(_ARM, "x86_64")
    assert problem is not None
    assert problem.startswith("qemu-aarch64 is missing")
    assert "apt-get install qemu-user" in problem
    (rustup_alone / "qemu-aarch64").touch(mode=0o755)
    assert missing(_ARM, "x86_64") is None


def test_the_own_processor_needs_no_emulator(rustup_alone: Path) -> None:
    assert missing(_MUSL, "x86_64") is None
    assert missing(_ARM, "aarch64") is None
    (rustup_alone / "rustup").unlink()
    assert "rustup is missing" in (missing(_MUSL, "x86_64") or "")


def test_cargo_runs_programs_of_another_processor_under_qemu() -> None:
    runner = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER"
    assert environment(_ARM, "x86_64")[runner] == "qemu-aarch64"
    assert runner not in environment(_ARM, "aarch64")


def test_windows_programs_run_under_wine(rustup_alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_tests, "_WINE_FOLDERS", (str(rustup_alone),))
    problem = missing(_WINDOWS, "x86_64")
    assert problem is not None
    assert problem.startswith("wine64 is missing")
    assert "apt-get install wine64" in problem
    (rustup_alone / "wine64").touch(mode=0o755)
    assert missing(_WINDOWS, "x86_64") is None
    variables = environment(_WINDOWS, "x86_64")
    assert variables["CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER"] == str(rustup_alone / "wine64")
    assert variables["WINEPATH"].startswith("Z:\\")
    assert "/" not in variables["WINEPATH"]
