"""Sphinx configuration of the documentation site. `make docs` builds it, and a warning is an error.

Pages link to each other and to files of the repository by relative paths, which GitHub understands. A link
that leaves docs/ becomes one to GitHub. The pages in `ROOT_PAGES` show files of the repository's root.
"""

import os
import re
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
REPOSITORY = "https://github.com/libp2p/libp2p-quic"

ROOT_PAGES = {
    "changelog": ROOT / "CHANGELOG.md",
    "dev/contributing": ROOT / "CONTRIBUTING.md",
    "dev/design": ROOT / "ARCHITECTURE.md",
    "security": ROOT / "SECURITY.md",
}
"""Page of the site: the file that it shows. The page itself has one comment that says so."""

project = "libp2p-quic"
author = "The libp2p-quic developers"
project_copyright = f"2026, {author}"
release = version_of("libp2p-quic")

extensions = [
    "myst_parser",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

highlight_language = "none"

html_theme = "furo"
html_title = "libp2p-quic"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "docs/",
}

LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")

logger = logging.getLogger(__name__)


def with_links(text: str, origin: Path, docname: str) -> str:
    """The text of the file `origin` with links that hold on the page `docname`."""
    shown = {path: DOCS / f"{page}.md" for page, path in ROOT_PAGES.items()}

    def link(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / match[1]))
        if not target.exists():
            logger.warning("no such file: %s", match[1], location=docname, type="link", subtype="file")
            return match[0]
        target = shown.get(target, target)
        is_part_of_site = target.is_relative_to(DOCS) and target.suffix in {".md", ".svg"}
        if is_part_of_site:
            address = os.path.relpath(target, (DOCS / docname).parent)
        else:
            address = f"{REPOSITORY}/blob/main/{target.relative_to(ROOT).as_posix()}"
        return address + (match[2] or "")

    return LINK.sub(link, text)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    origin = ROOT_PAGES.get(docname)
    if origin is not None:
        app.env.note_dependency(str(origin))
        source[0] = origin.read_text(encoding="utf-8")
    source[0] = with_links(source[0], origin or DOCS / f"{docname}.md", docname)


def setup(app: Sphinx) -> None:
    app.connect("source-read", read)
