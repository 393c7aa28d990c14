"""Installs a wheel as a person does, in an empty environment, and runs `journey.py` there: with pip, with
uv, with py-libp2p, and for ARM with Debian's Python under qemu-user.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.wheels import arm_python
from tools.wheels.building import ROOT
from tools.wheels.platforms import Platform, runs_here

_HERE = Path(__file__).resolve().parent
_LONGEST = 1200.0
"""Seconds that one command of a trial may take: qemu-user needs minutes for the journey."""


class NotRun(Exception):
    """What this machine lacks for a trial."""


@dataclass(frozen=True)
class Trial:
    """One way to install a wheel and to use it. `run` returns what was seen."""

    name: str
    how: str
    """natively or emulated"""
    run: Callable[[Path, Path], str]
    """Takes the wheel and an empty folder."""


def trials(platform: Platform) -> list[Trial]:
    """The trials of a platform's wheel on this machine; none for a wheel that it cannot load."""
    if runs_here(platform):
        return [
            Trial("pip", "natively", _with_pip),
            Trial("uv", "natively", _with_uv),
            Trial("pip, py-libp2p", "natively", _with_py_libp2p),
        ]
    if platform.system == "linux" and platform.processor == "aarch64" and not platform.is_musl:
        return [Trial("unpacked, Debian's Python under qemu-user", "emulated", _on_arm)]
    return []


def _with_pip(wheel: Path, folder: Path) -> str:
    _said(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _said(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return _journey(python, folder)


def _with_uv(wheel: Path, folder: Path) -> str:
    uv = Path(sys.executable).parent / "uv"
    _said(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _said(uv, "pip", "install", "--quiet", "--python", python, wheel)
    return _journey(python, folder)


def _with_py_libp2p(wheel: Path, folder: Path) -> str:
    """The extra, and an echo between two hosts in two processes."""
    _said(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    _said(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[py-libp2p]")
    program = shutil.copy(ROOT / "examples" / "echo.py", folder)
    with subprocess.Popen([python, program], cwd=folder, stdout=subprocess.PIPE, text=True) as listener:
        # Ends the read of a line that does not come.
        limit = threading.Timer(60, listener.kill)
        limit.start()
        try:
            assert listener.stdout is not None
            address = listener.stdout.readline().strip()
            limit.cancel()
            if not address:
                raise subprocess.SubprocessError("examples/echo.py printed no address within 60 s")
            answer = _said(python, program, address, "hello", cwd=folder)
        finally:
            limit.cancel()
            listener.kill()
    if answer != "hello":
        raise subprocess.SubprocessError(f"examples/echo.py printed {answer!r} instead of hello")
    return "echo between two py-libp2p hosts"


def _on_arm(wheel: Path, folder: Path) -> str:
    if problem := arm_python.missing():
        raise NotRun(problem)
    try:
        root = arm_python.prepared(ROOT / "target" / "wheels" / "arm-python")
    except subprocess.CalledProcessError as error:
        told = f"{error.cmd[0]} ended with {error.returncode}"
        raise NotRun(f"Debian's Python for ARM is unavailable: {told}") from error
    shutil.unpack_archive(wheel, folder / "site", "zip")
    variables = {**os.environ, "PYTHONPATH": str(folder / "site")}
    program = shutil.copy(_HERE / "journey.py", folder)
    return _said(*arm_python.command(root), program, cwd=folder, env=variables)


def _journey(python: Path, folder: Path) -> str:
    # Away from the checkout, whose sources must not be what is imported.
    program = shutil.copy(_HERE / "journey.py", folder)
    return _said(python, program, cwd=folder, env={**os.environ, "PYTHONPATH": ""})


def _said(
    *command: str | os.PathLike[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> str:
    """What a command printed; `subprocess.SubprocessError` with its errors if it fails."""
    run = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=_LONGEST)
    if run.returncode:
        text = " ".join(map(str, command))
        raise subprocess.SubprocessError(f"{text} ended with {run.returncode}:\n{run.stderr[-2000:]}")
    return run.stdout.strip()
