"""A process that keeps one processor busy beside the two of a contender: `python -m tools.bench.load`.

It prints a line once it has computed, and ends when its standard input is closed, so that it does not
outlast a bench that was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

_PROOF = 0.02
"""Seconds of processor time before the line."""


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    threading.Thread(target=_end_with_input, daemon=True).start()
    while time.process_time() < _PROOF:
        pass
    print(json.dumps({"computing": time.process_time()}), flush=True)
    while True:
        pass


if __name__ == "__main__":
    main()
