"""Runs one of py-libp2p's programs, unchanged, on a host whose transport is ours.

`python -m tools.conformance.program SCRIPT ARGUMENT...`. The command line that `examples` starts.
"""

from __future__ import annotations

import runpy
import sys
from types import ModuleType

import libp2p_quic
from tools.conformance.substitution import put_into_every_swarm


def main() -> None:
    libp2p_quic.install()
    put_into_every_swarm(libp2p_quic.QUICTransport)
    # The perf program always imports it, and uses it only without a local file.
    sys.modules.setdefault("redis", ModuleType("redis"))
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
