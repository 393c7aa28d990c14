"""Goes the way of a newcomer: the wheel in an empty virtual environment, and three commands to a measured
transfer between two terminals. `make newcomer` builds the wheel, and this writes docs/reports/newcomer.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testkit import origin
from testkit.command import terminal

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reports" / "newcomer.md"

_BEGINNING = """\
# The way of a newcomer

Made by `make newcomer` on {moment}, at {commit}. {machine}. Do not edit: run it again.

The environment is empty: no Rust compiler and no py-libp2p. pip has no cache, and loads the wheel from a
folder and what the command `libp2p-quic` needs from the package index. Each terminal is a pseudo-terminal.
A command is timed until it shows what the next one needs.

"""


@dataclass(frozen=True)
class Step:
    """One command that the newcomer types."""

    terminal: int
    command: str
    seconds: float
    shown: str
    """The line for which it was waited."""


def transfer(program: Sequence[str], folder: Path, *options: object) -> list[Step]:
    """The second and the third command, in two terminals. ``options`` are further ones of the third."""
    began = time.monotonic()
    # Not in the checkout, whose package must not be the one that runs.
    with terminal("perf", "--listen", program=program, cwd=folder) as listener:
        address = listener.until(r"(?m)^(/ip4/127\.0\.0\.1/\S+)\n")[1]
        listening = Step(1, "libp2p-quic perf --listen", time.monotonic() - began, address)
        began = time.monotonic()
        with terminal("perf", *options, address, program=program, cwd=folder) as dialer:
            status = dialer.end()
            measured = re.search(r"up +\S+ \S+  \S+ \S+ in .*", dialer.screen)
            if status or measured is None:
                raise SystemExit(f"perf failed:\n{dialer.screen}")
    return [listening, Step(2, "libp2p-quic perf ADDR", time.monotonic() - began, measured[0])]


def installed(wheel: Path, folder: Path) -> Step:
    """The first command. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip: list[str | Path] = [folder / "venv" / "bin" / "python", "-m", "pip", "install", "--no-cache-dir"]
    began = time.monotonic()
    run = subprocess.run([*pip, f"{wheel}[cli]"], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.monotonic() - began
    shown = next(line for line in run.stdout.splitlines() if line.startswith("Successfully installed"))
    return Step(1, f"pip install '{wheel.name}[cli]'", seconds, shown)


def table(steps: Sequence[Step]) -> str:
    """The steps in Markdown, and their sum."""
    rows = [
        f"| {number} | {step.terminal} | `{step.command}` | {step.seconds:.1f} s | `{_short(step.shown)}` |"
        for number, step in enumerate(steps, 1)
    ]
    total = sum(step.seconds for step in steps)
    head = ["| step | terminal | command | time | what it shows |", "|---|---|---|---|---|"]
    end = f"{len(steps)} commands and {total:.0f} s; `perf` itself measures for 10 s of them."
    return "\n".join([*head, *rows, "", end]) + "\n"


def _short(line: str) -> str:
    return re.sub(r"12D3KooW\w+", "12D3KooW…", line.strip())


def main() -> None:
    parser = argparse.ArgumentParser(prog="make newcomer", description=__doc__)
    parser.add_argument("--wheel", type=Path, required=True, help="the folder of the wheel")
    folder: Path = parser.parse_args().wheel.resolve()
    wheels = sorted(folder.glob("libp2p_quic-*.whl"), key=lambda each: each.stat().st_mtime)
    if not wheels:
        parser.error(f"no wheel in {folder}: make wheel")
    with tempfile.TemporaryDirectory() as made:
        steps = [installed(wheels[-1], Path(made))]
        steps += transfer([str(Path(made) / "venv" / "bin" / "libp2p-quic")], Path(made))
    made_at = {"moment": origin.moment(), "commit": origin.commit(), "machine": origin.machine()}
    PAGE.write_text(_BEGINNING.format(**made_at) + table(steps))
    print(table(steps))


if __name__ == "__main__":
    main()
