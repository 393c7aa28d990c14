"""Sphinx configuration of the documentation site: `make docs` builds it, and a warning is an error."""

from importlib.metadata import version as version_of

project = "libp2p-quic"
author = "The libp2p-quic developers"
project_copyright = f"2026, {author}"
release = version_of("libp2p-quic")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
nitpicky = True
# The classes of other projects whose own sites cannot be asked without a network.
nitpick_ignore_regex = [
    ("py:.*", r"(libp2p|multiaddr|trio|typing|collections|ipaddress|asyncio)\..*"),
    ("py:.*", r"(?!libp2p_quic).*"),
]

myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "libp2p-quic"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "source_repository": "https://github.com/libp2p/libp2p-quic/",
    "source_branch": "main",
    "source_directory": "docs/",
}
