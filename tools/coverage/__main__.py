"""The command line: `python -m tools.coverage`, or `make coverage`.

Exits with 0 if all tests pass and run enough lines of every package, with 2 if that cannot be measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import date
from pathlib import Path

from tools.coverage import instrumented, measured
from tools.coverage.packages import FLOOR, ROOT, package_of

_DESCRIPTION = f"""\
Runs the tests of both languages with counters, and reports how many lines of each package they ran. Fails
under {FLOOR:.0f} %. On two processors it takes
15 minutes, and 5 more the first time, to compile. Pages with every line: coverage/.
A whole run, or --only report after all its steps, writes docs/reports/coverage.md."""
_REPORT = ROOT / "coverage"
_PAGE = ROOT / "docs" / "reports" / "coverage.md"


def _step(what: str) -> None:
    print(f"\n==> {what}", file=sys.stderr, flush=True)


def _table(lines: dict[str, measured.Lines]) -> str:
    """Every file, under its package."""
    rows: list[tuple[str, ...]] = [("file", "lines", "run", "%")]
    for package, together in measured.by_package(lines).items():
        rows += [_row(path, file) for path, file in lines.items() if package_of(path) == package]
        rows.append(_row(f"**{package}**", together))
    return _markdown(rows)


def _page(lines: dict[str, measured.Lines]) -> str:
    """The page of a run: the packages, and the files below the floor."""
    packages = [_row(f"**{package}**", each) for package, each in measured.by_package(lines).items()]
    short = [_row(path, file) for path, file in lines.items() if file.percent < FLOOR]
    machine = f"a shared {os.cpu_count()}-core {platform.machine()} {platform.system()} machine"
    return f"""\
# Lines that the tests run

Made by `make coverage` on {date.today()}, on {machine}. Do not edit: run it again.

Counted for the tests of Rust and Python together: a line of the engine also counts when a Python test
runs it. Tests themselves are not counted. `make coverage` fails where a package is under {FLOOR:.0f} %.

{_markdown([("package", "lines", "run", "%"), *packages])}

Files under {FLOOR:.0f} %:

{_markdown([("file", "lines", "run", "%"), *short]) if short else "none."}
"""


def _markdown(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table that is aligned in a terminal, too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    cells = [
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])


def _row(name: str, lines: measured.Lines) -> tuple[str, ...]:
    return name, str(lines.all), str(lines.run), f"{lines.percent:.1f}"


def _report(objects: list[Path], is_whole: bool) -> int:
    _REPORT.mkdir(exist_ok=True)
    python = instrumented.write_python_report(_REPORT / "python")
    rust = instrumented.write_rust_report(objects, _REPORT / "rust")
    lines = measured.with_unloaded_files({**measured.python_lines(python), **measured.rust_lines(rust)})
    table = _table(lines)
    (_REPORT / "README.md").write_text(f"# Lines that the tests run\n\n{table}\n", encoding="utf-8")
    if is_whole:
        _PAGE.write_text(_page(lines), encoding="utf-8")
    print(f"\n{table}\n\nLine by line: coverage/python/index.html, coverage/rust/index.html")
    low = {package: each for package, each in measured.by_package(lines).items() if each.percent < FLOOR}
    for package, each in low.items():
        print(f"{package}: {each.percent:.1f} % of the lines are run, the floor is {FLOOR:.0f} %")
    return 1 if low else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.coverage",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        choices=["build", "rust", "python", "report"],
        help="one step, after earlier runs of the others: compile, the tests of one language, the table",
    )
    parser.add_argument("tests", nargs="*", help="for pytest: which Python tests (default: all)")
    options = parser.parse_args()

    def is_wanted(step: str) -> bool:
        return options.only in (None, step)

    try:
        instrumented.llvm("llvm-cov")
        _step("compiling with counters, into target/coverage")
        objects = instrumented.build()
        if is_wanted("rust"):
            _step("tests of the engine")
            instrumented.run_rust_tests()
        if is_wanted("python"):
            _step("tests of the package, on the engine with counters")
            instrumented.run_python_tests(options.tests)
        return _report(objects, is_whole=not options.tests) if is_wanted("report") else 0
    except instrumented.CoverageError as error:
        print(f"coverage: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
