"""Which source file belongs to which package, and how much of a package the tests must run.

The folder decides, so that every new file belongs to a package.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Percent of each package's lines.
FLOOR = 90.0

# Folder -> package. The longest match decides.
_FOLDERS = {
    "python/libp2p_quic": "adapter",
    "python/libp2p_quic/_driver": "driver",
    "crates/binding/src": "binding",
    "crates/engine/src": "engine",
    # Separate, because only tests run it, which would raise the engine's coverage.
    "crates/engine/src/simulation": "simulation",
}
# Tests that are modules of the tested module. Their lines are always run, so they do not count.
_TESTS = ("crates/engine/src/tls/handshake_tests/",)


def package_of(path: str) -> str | None:
    """The package of a source file, named from the root; None for a file that is not part of the product."""
    if path.startswith(_TESTS) or not path.endswith((".py", ".rs")):
        return None
    folders = [folder for folder in _FOLDERS if path.startswith(folder + "/")]
    return _FOLDERS[max(folders, key=len)] if folders else None


def sources() -> list[str]:
    """The files of all packages."""
    tops = sorted({folder.split("/")[0] for folder in _FOLDERS})
    found = (str(path.relative_to(ROOT)) for top in tops for path in (ROOT / top).rglob("*"))
    return sorted(path for path in found if package_of(path))


def counted(path: str) -> list[str]:
    """The lines of a source file that count: those before its own tests, if it has any."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".rs"):
        text = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", text, maxsplit=1, flags=re.MULTILINE)[0]
    return text.splitlines()


def has_code(path: str) -> bool:
    """Whether a test could run any line of it: a list of modules or a trait has no executable line."""
    text = "\n".join(re.sub(r"//.*", "", line) for line in counted(path))
    return path.endswith(".py") or re.search(r"\bfn\b[^;{]*\{", text) is not None
