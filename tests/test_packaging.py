"""The package without py-libp2p: what it imports, what it says of what is missing, and its wheel.

Programs in processes of their own, as imports leave traces.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import libp2p_quic

ROOT = Path(__file__).parent.parent
ALONE = {
    "ConnectionStatistics",
    "Distribution",
    "EndpointStatistics",
    "Identity",
    "PeerId",
    "ProcessStatistics",
    "TLSParameters",
    "__version__",
    "causes",
    "explain",
    "process_statistics",
}
# What the asyncio part may import beyond what asyncio itself does, so that its import stays quick.
IMPORTS = {"copy", "dataclasses", "difflib", "hashlib", "ipaddress", "json", "libp2p_quic"}


def output(program: str, python: str = sys.executable) -> str:
    finished = subprocess.run(
        [python, "-c", program],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_asyncio_part_brings_neither_trio_nor_py_libp2p() -> None:
    brought = output(
        "import sys, libp2p_quic.asyncio\n"
        "print({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    found = set(re.findall(r"'(\w+)'", brought))
    # Files of the virtual environment itself may import something at the start of Python.
    assert found & {"trio", "libp2p", "multiaddr", "base58", "cryptography"} == set()
    assert "libp2p_quic" in found


def test_asyncio_part_imports_few_modules() -> None:
    brought = output(
        "import asyncio, sys\nbefore = set(sys.modules)\nimport libp2p_quic.asyncio\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    found = {name for name in brought.split() if not name.startswith("_")}
    assert "libp2p_quic" in found
    assert found <= IMPORTS


@pytest.mark.parametrize("missing", ["libp2p", "trio", "multiaddr"])
def test_one_sentence_says_what_to_install(missing: str) -> None:
    told = output(
        f"import sys, libp2p_quic\nsys.modules[{missing!r}] = None\n"
        "for name in libp2p_quic.__all__:\n"
        "    try:\n        getattr(libp2p_quic, name)\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    needy = sorted(set(libp2p_quic.__all__) - ALONE)
    extra = "install the extra libp2p-quic[py-libp2p]"
    what_to_do = f"needs py-libp2p: {extra}: pip install '.[py-libp2p]' in the checkout"
    expected = [f"libp2p_quic.{name} {what_to_do}" for name in needy]
    if missing == "libp2p":
        assert told.splitlines() == expected
    else:
        assert expected[needy.index("QUICTransport")] in told


def test_metrics_say_what_to_install() -> None:
    told = output(
        "import sys\nsys.modules['prometheus_client'] = None\n"
        "try:\n    import libp2p_quic.metrics\nexcept ImportError as error:\n    print(error)\n"
    )
    extra = "install the extra libp2p-quic[metrics]: pip install '.[metrics]' in the checkout"
    assert told == f"libp2p_quic.metrics needs prometheus-client: {extra}"


def test_other_names_are_missing_as_in_every_module() -> None:
    told = output("import libp2p_quic\nprint(hasattr(libp2p_quic, 'Quic'), 'install' in dir(libp2p_quic))")
    assert told == "False True"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    maturin = Path(sys.executable).with_name("maturin")
    command = [str(maturin), "build", "--release", "--locked", "--out", str(folder)]
    # maturin moves the library through one folder of the checkout; another process may build, too.
    with (ROOT / "target" / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (built,) = folder.glob("*.whl")
    return built


@contextmanager
def listening(python: Path, example: str) -> Iterator[str]:
    program = [str(python), str(ROOT / "examples" / example)]
    with subprocess.Popen(program, cwd="/", stdout=subprocess.PIPE, text=True, env={}) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def environment(folder: Path, wheel: Path) -> Path:
    """The Python of an empty environment with the wheel alone: no index, no compiler, no PATH."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True, timeout=100)
    return python


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_alone_runs_the_asyncio_example(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", wheel)
    with listening(python, "asyncio_ping.py") as address:
        command = [str(python), str(ROOT / "examples" / "asyncio_ping.py"), address]
        told = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"(\d+ µs\n){5}", told.stdout), told.stderr
    why = output(
        "try:\n    from libp2p_quic import QUICTransport\nexcept ImportError as error:\n    print(error)",
        str(python),
    )
    assert "libp2p-quic[py-libp2p]" in why
    command = [str(python.with_name("libp2p-quic")), "--version"]
    refused = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "install the extra libp2p-quic[cli]" in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_with_what_its_extra_names_runs_the_py_libp2p_example(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        (name,) = (each for each in files.namelist() if each.endswith(".dist-info/METADATA"))
        metadata = files.read(name).decode()
    needed = re.findall(r"^Requires-Dist: (\S+?)[<>=]\S* ; extra == 'py-libp2p'$", metadata, re.MULTILINE)
    assert sorted(needed) == ["libp2p", "multiaddr", "trio"]
    of_command = re.findall(r"^Requires-Dist: (\S+?)[<>=]\S* ; extra == 'cli'$", metadata, re.MULTILINE)
    assert sorted(of_command) == ["click", "rich", "segno"]
    of_metrics = re.findall(r"^Requires-Dist: (\S+?)[<>=]\S* ; extra == 'metrics'$", metadata, re.MULTILINE)
    assert of_metrics == ["prometheus-client"]
    assert metadata.count("Requires-Dist") == 7
    python = environment(tmp_path / "venv", wheel)
    # What pip would install is in this environment already, beside an editable libp2p_quic.
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "installed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert output("import libp2p_quic; print(libp2p_quic.__file__)", str(python)).startswith(str(site))
    with listening(python, "echo.py") as address:
        command = [str(python), str(ROOT / "examples" / "echo.py"), address, "hello"]
        told = subprocess.run(command, cwd="/", env={}, capture_output=True, text=True, check=False)
    assert told.stdout == "hello\n", told.stderr
