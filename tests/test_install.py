"""`install()` warns if a module has already imported py-libp2p's transport by name.

Programs in separate processes, because imports leave traces.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LINE = "from libp2p.transport.quic.transport import QUICTransport"


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(text)
    finished = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.mark.parametrize(
    ("line", "held"),
    [
        (LINE, "service.QUICTransport"),
        (f"{LINE} as Quic", "service.Quic"),
        ("from libp2p import QUICTransport", "service.QUICTransport"),
        ("from libp2p.transport.quic.listener import QUICListener as Listener", "service.Listener"),
    ],
)
def test_a_module_that_imported_the_stock_class_before_is_named(tmp_path: Path, line: str, held: str) -> None:
    (tmp_path / "service.py").write_text(f"{line}\n")
    output = run(tmp_path, "import service, libp2p_quic\nlibp2p_quic.install()\n").stderr
    assert f"StockTransportWarning: py-libp2p's own QUIC transport stays in use as {held}," in output
    # It is attributed to the call.
    assert "program.py:2" in output


@pytest.mark.parametrize(
    "text",
    [
        "import libp2p_quic\nlibp2p_quic.install()\nimport service\n",
        "import libp2p.transport.quic.transport, libp2p_quic\nlibp2p_quic.install()\nlibp2p_quic.install()\n",
    ],
)
def test_without_such_an_import_there_is_no_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "service.py").write_text(f"{LINE}\nprint(QUICTransport.__module__)\n")
    finished = run(tmp_path, text)
    assert finished.stderr == ""
    if "service" in text:
        assert finished.stdout == "libp2p_quic._transport\n"
