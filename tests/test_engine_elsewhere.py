"""`make test-musl` and the others of another platform say what is missing, emulate only another processor or
system, end by themselves, and count what ran.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools.wheels import engine_tests
from tools.wheels.engine_tests import command, counted, environment, failures, missing, split, told

_MUSL = "x86_64-unknown-linux-musl"
_ARM = "aarch64-unknown-linux-musl"
_WINDOWS = "x86_64-pc-windows-gnu"
_I686 = "i686-unknown-linux-musl"
_MACOS = "aarch64-apple-darwin"


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


@pytest.mark.usefixtures("rustup_alone")
def test_a_64_bit_machine_runs_32_bit_programs_itself() -> None:
    assert missing(_I686, "x86_64") is None
    assert "CARGO_TARGET_I686_UNKNOWN_LINUX_MUSL_RUNNER" not in environment(_I686, "x86_64")
    assert "qemu-i386 is missing" in (missing(_I686, "aarch64") or "")
    assert command(_I686, [])[-2:] == ["--test", "simulation"]
    assert command(_I686, ["--lib"])[-1] == "--lib"


@pytest.mark.usefixtures("rustup_alone")
def test_macos_is_compiled_without_an_emulator() -> None:
    assert missing(_MACOS, "x86_64") is None
    assert command(_MACOS, [])[:2] == ["cargo-zigbuild", "check"]
    assert not [name for name in environment(_MACOS, "x86_64") if name.endswith("_APPLE_DARWIN_RUNNER")]


def test_windows_can_be_linked_by_mingw(rustup_alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_tests, "_WINE_FOLDERS", (str(rustup_alone),))
    (rustup_alone / "wine64").touch(mode=0o755)
    assert "apt-get install gcc-mingw-w64-x86-64" in (missing(_WINDOWS, "x86_64", with_zig=False) or "")
    assert command(_WINDOWS, [], with_zig=False)[:2] == ["cargo", "test"]


def test_tests_that_wine_cannot_show_are_left_out_beside_the_arguments() -> None:
    skipped = command(_WINDOWS, ["--lib"])
    assert skipped[skipped.index("--lib") + 1 : skipped.index("--lib") + 3] == ["--", "--skip"]
    assert command(_WINDOWS, ["--lib", "--", "name"]).count("--") == 1


def test_arguments_keep_the_separator_of_cargo() -> None:
    assert split(["a", "--minutes", "5", "--", "--lib", "--", "name"]) == (
        ["a", "--minutes", "5"],
        ["--lib", "--", "name"],
    )
    assert split(["a"]) == (["a"], [])


def test_the_results_of_all_programs_are_summed_up() -> None:
    lines = [
        "running 3 tests\n",
        "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.01s\n",
        "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
    ]
    assert counted(lines) == (3, 2, 1, 4)
    assert counted([]) == (0, 0, 0, 0)
    assert told(_MUSL, 101, lines, 61) == "FAILED: 3 passed, 2 failed, 1 ignored, 4 left out in 1 min"
    assert told(_MUSL, None, lines, 61).startswith("NOT COMPLETE: 3 passed")
    assert told(_MACOS, 0, [], 61) == "compiled in 1 min"


def test_a_program_that_does_not_compile_is_no_failed_test() -> None:
    assert told(_MUSL, 101, ["error: linking with `cc` failed\n"], 61) == "FAILED to compile"


def test_failed_tests_are_named() -> None:
    lines = [
        "test receive::reads_on ... ok\n",
        "test transfers::a_ping ... FAILED\n",
        "test crates/engine/src/lib.rs - (line 13) ... FAILED\n",
        "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
    ]
    assert failures(lines) == ["transfers::a_ping", "crates/engine/src/lib.rs"]


def test_a_run_that_does_not_end_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "cross" / "tests.log"
    waits = "import signal; print('begun', flush=True); signal.pause()"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waits!r}])"
    status, _ = engine_tests._run([sys.executable, "-c", inner], dict(os.environ), 1, log)
    assert status is None
    prints = "import sys; print('done', flush=True); print('a warning', file=sys.stderr)"
    status, lines = engine_tests._run([sys.executable, "-c", prints], dict(os.environ), 60, log)
    assert (status, lines) == (0, ["done\n", "a warning\n"])
    assert log.read_text() == "done\na warning\n"
