"""Renews the figures and the picture of the page "Read a qlog", from real runs.

``python -m tools.qlog_page`` makes each connection of the page, and puts what `trace` prints of it in place
of what the page has. What the page says about the figures in its own sentences is left to a person.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from testkit.logged_runs import RUNS, console_blocks, without_figures

HOWTO = Path(__file__).parent.parent / "docs" / "howto"
PAGE = HOWTO / "reading-a-qlog.md"
PICTURE = HOWTO / "qlog.svg"


def renewed(page: str, printed: str) -> str:
    """``page`` with ``printed`` in place of the block that differs from it in figures only.

    Raises ValueError if there is none: the command prints something else now, and a person has to look.
    """
    for block in console_blocks(page):
        if without_figures(block) == without_figures(printed):
            return page.replace(block, printed)
    raise ValueError(f"no block of the page is like this one:\n{printed}")


def main() -> None:
    page = PAGE.read_text()
    for name, run in RUNS.items():
        with TemporaryDirectory() as folder:
            page = renewed(page, run(Path(folder)))
            picture = Path(folder) / "picture.svg"
            if picture.exists():
                shutil.copyfile(picture, PICTURE)
        print(name)
    PAGE.write_text(page)
    print(PAGE)


if __name__ == "__main__":
    main()
