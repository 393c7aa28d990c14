"""What GitHub runs, and the images for unified-testing. Neither is run here: what they call is looked up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.wheels.platforms import PLATFORMS

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
IMAGES = sorted((ROOT / "tools" / "interop" / "unified").glob("Dockerfile.*"))
# GitHub no longer has them: a job on one waits until it is given up.
RETIRED = {"macos-12", "macos-13", "macos-14", "ubuntu-20.04", "windows-2019"}


def commands(path: Path) -> list[str]:
    """The commands of a workflow, each as it is written."""
    return re.findall(r"^\s*(?:- )?run: (.+)$", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda each: each.stem)
def test_a_workflow_calls_what_there_is(path: Path) -> None:
    made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    # Those of a matrix are called as `make ${{ matrix.command }}`.
    listed = re.findall(r"\bcommand: ([\w-]+)", path.read_text())
    assert set(listed) <= set(made)
    for command in commands(path):
        for target in re.findall(r"\bmake ([\w-]+)", command):
            assert target in made, command
        for file in re.findall(r"(?<![\w./])((?:\.ci|tests|tools)/[\w./-]+)", command):
            assert (ROOT / file).exists(), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda each: each.stem)
def test_a_workflow_runs_on_machines_that_there_are(path: Path) -> None:
    runners = set(re.findall(r"(?:runs-on|runner): ([\w.-]+)", path.read_text()))
    assert runners
    assert not runners & RETIRED


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda each: each.stem)
def test_the_actions_of_a_workflow_are_pinned(path: Path) -> None:
    for action in re.findall(r"uses: (.+)$", path.read_text(), re.MULTILINE):
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action


def test_every_wheel_is_built_each_week_and_a_release_has_all_but_that_of_windows() -> None:
    wheels = [each.name for each in PLATFORMS]
    for name, expected in (
        ("platforms", wheels),
        ("release", [each for each in wheels if each != "windows-x86_64"]),
    ):
        text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
        assert re.findall(r"^          - ([\w-]+)$", text, re.MULTILINE) == expected, name


@pytest.mark.parametrize("path", IMAGES, ids=lambda each: each.suffix[1:])
def test_an_image_installs_py_libp2p_and_starts_a_program(path: Path) -> None:
    """The package itself needs no other: py-libp2p is an extra."""
    text = path.read_text()
    assert "pip install --no-cache-dir '.[py-libp2p]' redis" in text
    (module,) = re.findall(r'"-m", "([\w.]+)"\]', text)
    assert (ROOT / Path(*module.split("."))).with_suffix(".py").exists()
