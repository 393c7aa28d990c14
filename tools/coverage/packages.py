"""Which source file belongs to which room, and how much of a room the tests must run.

Decided by the folder, so that a new file is in a room the moment it exists.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Of each room's lines, in percent.
FLOOR = 90.0

# Folder -> room. The longest folder that a file lies in decides.
_FOLDERS = {
    "python/libp2p_quic": "adapter",
    "python/libp2p_quic/_driver": "driver",
    "crates/binding/src": "binding",
    "crates/engine/src": "engine",
    # Its own, as it is run by tests only and would make the engine look better than it is.
    "crates/engine/src/simulation": "simulation",
}
# Tests that are modules of what they test. As lines that are all run, they would count twice.
_TESTS = ("crates/engine/src/tls/handshake_tests/",)


def room_of(path: str) -> str | None:
    """The room of a source file, named from the root; None for what is no part of the product."""
    if path.startswith(_TESTS) or not path.endswith((".py", ".rs")):
        return None
    folders = [folder for folder in _FOLDERS if path.startswith(folder + "/")]
    return _FOLDERS[max(folders, key=len)] if folders else None


def sources() -> list[str]:
    """Every file of every room."""
    tops = sorted({folder.split("/")[0] for folder in _FOLDERS})
    found = (str(path.relative_to(ROOT)) for top in tops for path in (ROOT / top).rglob("*"))
    return sorted(path for path in found if room_of(path))


def counted(path: str) -> list[str]:
    """The lines of a source file that count: those before its own tests, if it has any."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".rs"):
        text = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.MULTILINE)[0]
    return text.splitlines()


def has_code(path: str) -> bool:
    """Whether a test could run any line of it: a list of modules or a trait has none to run."""
    text = "\n".join(re.sub(r"//.*", "", line) for line in counted(path))
    return path.endswith(".py") or re.search(r"\bfn\b[^;{]*\{", text) is not None
