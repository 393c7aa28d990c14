"""The command `libp2p-quic`: says what to install if a package is missing, and runs `program` otherwise.

This module imports the standard library only, as the package itself has no dependency. The extra
``libp2p-quic[cli]`` has what the command needs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec

from libp2p_quic._command.standard_streams import prepare

# The packages of the extra.
_EXTRA = ("click", "rich", "segno")
_EXIT_USAGE = 2
_EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command with the arguments of the process. Exits the process."""
    prepare()
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        what_to_do = "install the extra libp2p-quic[cli]: pip install '.[cli]' in the checkout"
        print(f"libp2p-quic needs {', '.join(missing)}: {what_to_do}", file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    try:
        program = import_module("libp2p_quic._command.program").program
    except KeyboardInterrupt:
        # `program` has its own way to end.
        sys.exit(_EXIT_INTERRUPTED)
    program(prog_name="libp2p-quic")
