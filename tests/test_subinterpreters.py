"""Subinterpreters refuse the package, as the engine's classes and its thread serve the main interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

# The module behind `concurrent.interpreters` (3.14), under its earlier names.
_PROGRAM = """\
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
{first}
try:
    failure = interpreters.run_string(interpreters.create(), {code!r})
except Exception as error:
    failure = error
print(failure)
import libp2p_quic
"""


@pytest.mark.parametrize("first", ["", "import libp2p_quic"], ids=["alone", "after the main one"])
def test_a_subinterpreter_refuses_and_the_main_one_goes_on(first: str) -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}; import libp2p_quic"
    program = _PROGRAM.format(first=first, code=code)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    assert "ImportError" in run.stdout
    assert "subinterpreters" in run.stdout
