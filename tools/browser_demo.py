"""`make browser-demo`: bundles the page of examples/browser_chat and runs the example. Opens no browser."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tools.interop.browser.bundle import BundleError, bundle

CHAT = Path(__file__).parents[1] / "examples" / "browser_chat"


def main() -> None:
    try:
        script = bundle(CHAT / "chat.mjs", "chat.js")
    except BundleError as error:
        sys.exit(f"The page was not built: {error}")
    # Ctrl-C reaches the example, too, which ends by it.
    with suppress(KeyboardInterrupt):
        sys.exit(subprocess.run([sys.executable, str(CHAT / "chat.py"), str(script)], check=False).returncode)


if __name__ == "__main__":
    main()
