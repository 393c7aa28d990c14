"""Takes the symbols out of a compiled module, into a debug file beside the wheel. Rust's toolchain has
the program for it, LLVM's objcopy, which knows the formats of all systems.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tools.wheels import identity, linkedit
from tools.wheels.platforms import Platform


def sysroot() -> Path:
    """The folder of the Rust toolchain."""
    told = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip())


def objcopy() -> Path:
    """LLVM's objcopy of the Rust toolchain; OSError if it has none."""
    host = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    triple = next(line.removeprefix("host: ") for line in host.splitlines() if line.startswith("host: "))
    program = sysroot() / "lib" / "rustlib" / triple / "bin" / "rust-objcopy"
    if not program.exists():
        raise OSError(f"{program} is missing: install Rust 1.88 or newer with rustup")
    return program


def separated(module: bytes, platform: Platform, debug_file: Path) -> bytes:
    """The module without symbols. They are in `debug_file`, on Linux and Windows with line numbers. What the
    linker wrote about its own run is replaced. OSError if objcopy refuses the module.

    On macOS the debug file is the module as it was linked: it names functions, but lines would need Apple's
    dsymutil.
    """
    program = objcopy()
    folder = debug_file.parent
    folder.mkdir(parents=True, exist_ok=True)
    whole, stripped = folder / "_engine.whole", folder / "_engine.stripped"
    whole.write_bytes(module)
    try:
        if platform.system == "macos":
            # What Python calls, and what the module calls, stays: local symbols alone are dropped.
            options = ["--strip-debug", "--discard-all"]
            # The linker's UUID depends on the times and names of its temporary files. Debuggers find the
            # debug file by it, so that both get the same new one; objcopy signs what it writes.
            whole.write_bytes(identity.with_uuid(module, bytes(16)))
            _run(program, *options, whole, stripped)
            module = identity.with_uuid(module, identity.uuid_of_contents(stripped.read_bytes()))
            whole.write_bytes(module)
            debug_file.write_bytes(module)
        else:
            _run(program, "--only-keep-debug", whole, debug_file)
            options = ["--strip-all"]
            if platform.system == "windows":
                debug_file.write_bytes(identity.without_times(debug_file.read_bytes()))
            else:
                # gdb finds the file by this name, in a folder that it is told.
                options.append(f"--add-gnu-debuglink={debug_file}")
        _run(program, *options, whole, stripped)
        found = stripped.read_bytes()
        if platform.system == "macos":
            return linkedit.aligned(found)
        return identity.without_times(found) if platform.system == "windows" else found
    finally:
        whole.unlink()
        stripped.unlink(missing_ok=True)


def _run(program: Path, *arguments: str | os.PathLike[str]) -> None:
    # It loads LLVM from the toolchain's lib, which rustc's own start adds for it.
    variables = {**os.environ, "LD_LIBRARY_PATH": str(program.parents[3])}
    run = subprocess.run([program, *arguments], capture_output=True, text=True, env=variables)
    if run.returncode:
        raise OSError(f"{program.name} ended with {run.returncode}: {run.stderr.strip()[-500:]}")
