"""`make interop-browsers`: browsers that dial nodes of this project; arguments, build, progress and output.

Exits with 0 only if every case is green in every browser; 1 if one is red or was not run, or a browser or
npm is not installed; 2 for wrong arguments. The cases are in tools/interop/browser.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import trio

from testkit.browser import PROGRAMS, Browser, found
from testkit.page import PageError
from testkit.program import ProgramError
from tools.interop.browser.bundle import BUILD, BundleError, bundle
from tools.interop.browser.cases import CASES, Case
from tools.interop.browser.node import NODES
from tools.interop.browser.report import SIGNS, BrowserReport, BrowserResult, packages
from tools.interop.browser.stage import set_up
from tools.interop.case import Failed

PAGE = Path(__file__).parent / "browser" / "page" / "page.mjs"
PAGES = Path(__file__).parents[2] / "docs" / "reports" / "interop"
SETUP_LIMIT = 60.0
"""Seconds for the start of a node and a browser, and for their end, beside the limit of the case."""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tools.interop.browsers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--browsers", default="", help="names, separated by commas; default: all")
    parser.add_argument("--nodes", default="", help="host, asyncio; default: both")
    parser.add_argument("--cases", default="", help="names, separated by commas; default: all")
    parser.add_argument(
        "--limit", type=float, default=1200, help="seconds for all cases (default: %(default)s)"
    )
    arguments = parser.parse_args()
    try:
        browsers = chosen(arguments.browsers, list(PROGRAMS), "browser")
        nodes = chosen(arguments.nodes, list(NODES), "node")
        names = chosen(arguments.cases, [case.name for case in CASES], "case")
    except KeyError as error:
        parser.error(str(error.args[0]))
    try:
        page = bundle(PAGE, "page.js")
    except BundleError as error:
        sys.exit(f"The page was not built: {error}")
    cases = [case for case in CASES if case.name in names]
    report = trio.run(whole, browsers, nodes, cases, page, arguments.limit)
    is_whole = not (arguments.browsers or arguments.nodes or arguments.cases)
    print(f"\n{report.table()}\n")
    BUILD.joinpath("browsers.json").write_text(report.json())
    if is_whole:
        PAGES.mkdir(parents=True, exist_ok=True)
        PAGES.joinpath("browsers.json").write_text(report.json())
        PAGES.joinpath("browsers.md").write_text(report.page())
    for name in report.missing:
        print(f"{name} is not installed: looked for {', '.join(PROGRAMS[name])}")
    print(f"{report.counted}, in {report.seconds:.0f} s")
    sys.exit(0 if report.is_green else 1)


def chosen(text: str, known: list[str], what: str) -> list[str]:
    """The names in ``text``, or all. Raises KeyError for an unknown one."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            raise KeyError(f"no {what} {name!r}: there are {', '.join(known)}")
    return [name for name in known if not names or name in names]


async def whole(
    names: list[str], nodes: list[str], cases: list[Case], page: Path, limit: float
) -> BrowserReport:
    began = time.monotonic()
    deadline = trio.current_time() + limit
    browsers = {name: found(name) for name in names}
    results: list[BrowserResult] = []
    for name, browser in browsers.items():
        if browser is None:
            print(f"{name} is not installed", flush=True)
            continue
        for node in nodes:
            for case in cases:
                result = await cell(name, browser, node, case, page, deadline)
                results.append(result)
                sign = SIGNS[result.outcome]
                where = f"{sign} {name:9} {node:8} {case.name:17}"
                print(f"{where} {result.seconds:5.1f} s  {result.evidence[:200]}", flush=True)
    versions = {name: browser.version for name, browser in browsers.items() if browser is not None}
    return BrowserReport(
        versions=versions,
        missing=[name for name, browser in browsers.items() if browser is None],
        nodes=nodes,
        cases=cases,
        results=results,
        packages=packages(BUILD / "package.json"),
        seconds=time.monotonic() - began,
    )


async def cell(
    name: str, browser: Browser, node: str, case: Case, page: Path, deadline: float
) -> BrowserResult:
    """One case with one browser and one node, of which nothing is left afterwards."""
    if case.needs_host and node != "host":
        return BrowserResult(name, node, case.name, "absent", 0, "a protocol of hosts")
    if trio.current_time() > deadline:
        return BrowserResult(name, node, case.name, "red", 0, "not run: the time limit was reached")
    began = trio.current_time()
    outcome, evidence = "red", f"no result within {case.limit + SETUP_LIMIT:.0f} s"
    with trio.move_on_after(case.limit + SETUP_LIMIT):
        try:
            async with set_up(node, case.ip, browser, page) as stage:
                evidence = f"no result within {case.limit:.0f} s"
                with trio.move_on_after(case.limit) as scope:
                    evidence = await case.run(stage)
                outcome = "red" if scope.cancelled_caught else "green"
        except (Failed, PageError, ProgramError) as error:
            outcome, evidence = "red", f"{type(error).__name__}: {error}"
    return BrowserResult(name, node, case.name, outcome, trio.current_time() - began, evidence)


if __name__ == "__main__":
    main()
