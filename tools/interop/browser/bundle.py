"""Bundles a page with js-libp2p into one file for browsers, by npm and esbuild, from pinned packages."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "browser"
"""Where the packages and the bundles are."""
_LIMIT = 300.0


class BundleError(Exception):
    """The page cannot be bundled on this machine. The message is the last output of the tool."""


def bundle(source: Path, name: str) -> Path:
    """Install the packages if others are installed, and bundle ``source`` as ``name``. Raises BundleError."""
    for tool in ("npm", "node"):
        if shutil.which(tool) is None:
            raise BundleError(f"{tool} is not installed")
    BUILD.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json", ".npmrc", "build.mjs"):
        shutil.copy(HERE / file, BUILD)
    if _is_outdated():
        # `npm ci` would also ask for the packages of other platforms, which not every registry mirror has.
        _run(["npm", "install", "--ignore-scripts", "--no-save", "--prefix", str(BUILD)])
        shutil.copy(BUILD / "package-lock.json", BUILD / "node_modules")
    # esbuild looks for packages in the folders above a source.
    copy = BUILD / source.parent.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(source.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    _run(["node", str(BUILD / "build.mjs"), str(copy / source.name), str(BUILD / name)])
    return BUILD / name


def _is_outdated() -> bool:
    installed = BUILD / "node_modules" / "package-lock.json"
    return not installed.exists() or installed.read_bytes() != (BUILD / "package-lock.json").read_bytes()


def _run(command: list[str]) -> None:
    shown = " ".join(command[:2]).replace(str(BUILD), "build")
    print(f"build: {shown}", flush=True)
    log = BUILD / "build.log"
    with log.open("w") as out:
        try:
            done = subprocess.run(
                ["nice", "-n", "10", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BundleError(f"{command[0]} took more than {_LIMIT:.0f} s") from None
    if done.returncode:
        last = " | ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        raise BundleError(f"{shown}: {last}")
