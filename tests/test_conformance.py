"""The conformance run compares results rightly. Its fast part runs here: py-libp2p's own QUIC tests and
example programs. `make conformance` runs all of it.

The fast part runs in separate processes, because it replaces py-libp2p's transport. Needs network access
once, for the suite.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tools.conformance import page, runs, suite
from tools.conformance.exclusions import DIFFERENCES, Exclusion, read_exclusions
from tools.conformance.parts import PUNCHING, QUIC, WIDE, Part
from tools.conformance.report import Comparison, text
from tools.conformance.runs import Result, skipped
from tools.conformance.trials import Trial

ROOT = Path(__file__).parent.parent


def judged(part: Part, ours: Trial, stock: Trial | None) -> Comparison:
    """One test that failed on ours in the parallel run, and the results of its single runs."""
    return Comparison(
        part, {"t": Result("t", "failed")}, None, {"t": ours}, {"t": stock} if stock else {}, {}
    )


@pytest.mark.parametrize(
    ("part", "ours", "stock", "is_red"),
    [
        # It fails only in the parallel run, as on any loaded machine.
        (WIDE, (10, 10), None, False),
        (QUIC, (10, 10), None, False),
        # It always fails on both.
        (WIDE, (0, 3), (0, 3), False),
        # It always fails on ours, and sometimes on the stock transport.
        (WIDE, (0, 3), (1, 10), True),
        # As often as on the stock transport, within the precision of ten runs.
        (WIDE, (7, 10), (10, 10), False),
        (WIDE, (6, 10), (10, 10), True),
        (WIDE, (3, 10), (0, 3), False),
        # Nothing to compare with.
        (WIDE, (9, 10), None, True),
        # A test about QUIC must pass, even if it fails on the stock transport.
        (QUIC, (9, 10), (9, 10), True),
        (QUIC, (0, 3), (0, 3), True),
    ],
)
def test_red_means_that_a_test_clearly_fails_more_often_on_ours(
    part: Part, ours: tuple[int, int], stock: tuple[int, int] | None, is_red: bool
) -> None:
    assert bool(judged(part, Trial(*ours), Trial(*stock) if stock else None).regressions()) is is_red


def test_the_counts_of_both_are_shown() -> None:
    shown = text(judged(Part("wide", "", True, {"row": ("t",)}), Trial(7, 10, "E  Error: x"), Trial(10, 10)))
    assert "passes 7 of 10 on ours, 10 of 10 on stock; Error: x" in shown


def test_a_failure_that_passes_alone_is_reported_as_such() -> None:
    shown = text(judged(Part("wide", "", True, {"row": ("t",)}), Trial(10, 10), None))
    assert "never alone:\n  t\n      passes 10 of 10 alone" in shown


SWARM = "tests/core/network/test_swarm.py::test_dial"


def in_the_page(test: str, ours: Trial, stock: Trial) -> str:
    comparison = Comparison(
        WIDE,
        {test: Result(test, "failed", over_quic=True)},
        {test: Result(test, "passed")},
        {test: ours},
        {test: stock},
    )
    return page.section(comparison, page.Run("versions", 90.0))


def test_the_page_has_the_counts_and_their_explanation() -> None:
    red = in_the_page(SWARM, Trial(6, 10, "E  Error: <a> | *b*"), Trial(10, 10))
    assert red.startswith("## wide: ")
    assert "**red**, " in red
    assert "| swarm, connections, net_stream | 1 | 1 | 0 | 1 | 1 | 0 | 0 | 0 |" in red
    assert f"What FAILED on ours:\n\n- `{SWARM}`: passes 6 of 10 on ours, 10 of 10 on stock" in red
    assert r"Error: \<a\> \| \*b\*" in red
    green = in_the_page(SWARM, Trial(7, 10), Trial(10, 10))
    assert "**green**, " in green
    assert "equally on the stock transport" in green


def test_a_part_that_is_run_again_replaces_only_its_section() -> None:
    first = page.with_section("", "## wide: a\n\nold", "wide")
    both = page.with_section(first, "## quic: b\n\nfirst in the page", "quic")
    again = page.with_section(both, "## wide: a\n\nnew", "wide")
    assert again == both.replace("old", "new")
    assert again.startswith("# py-libp2p's own tests")
    assert again.index("## quic: b") < again.index("## wide: a")
    assert again.endswith("\n\nnew\n")


def test_excluded_tests_are_counted_by_reason() -> None:
    patterns = {each.pattern: each.reason for each in read_exclusions()}
    pattern, reason = next(iter(patterns.items()))
    test = "tests/core/transport/quic/test_connection.py::test"
    shown = page.section(Comparison(QUIC, {test: Result(test, "excluded", pattern)}, None), page.Run("", 1))
    assert f"| 1 | {reason} |" in shown


def test_a_test_that_was_run_only_on_stock_is_red() -> None:
    assert Comparison(WIDE, {}, {"t": Result("t", "passed")}).regressions()


def test_an_exclusion_that_matches_nothing_is_noticed() -> None:
    first, *rest = read_exclusions()
    excluded = {str(i): Result(str(i), "excluded", e.pattern) for i, e in enumerate(rest)}
    assert Comparison(QUIC, excluded, None).stale_exclusions() == [first.pattern]


def test_a_test_that_skips_itself_is_run_alone() -> None:
    others = [Result("u", "excluded", "skipped"), Result("v", "failed"), Result("w", "passed")]
    assert skipped([Result("t", "skipped", "Skipped"), *others]) == ["t"]


def test_only_a_star_is_special_in_an_exclusion() -> None:
    assert Exclusion("a.py::t*", "why").matches("a.py::test[1-x]")
    assert not Exclusion("a.py::t*", "why").matches("a_py::test")
    assert not Exclusion("a.py::t[12]", "why").matches("a.py::t1")


DIFFERENT = [each.pattern for each in read_exclusions(DIFFERENCES)]


def with_hole_punching(*failed: str) -> Comparison:
    """These tests failed on ours with hole punching, and pass on the stock transport."""
    return Comparison(
        PUNCHING,
        {test: Result(test, "failed", punching=True) for test in failed},
        {test: Result(test, "passed") for test in failed},
        {test: Trial(0, 3, "E  Error: x") for test in failed},
        {test: Trial(3, 3) for test in failed},
    )


def test_a_test_that_asserts_a_repaired_defect_must_fail_with_hole_punching() -> None:
    comparison = with_hole_punching(*DIFFERENT)
    assert not comparison.regressions()
    assert not comparison.stale_differences()
    shown = page.section(comparison, page.Run("", 1))
    assert "**green**, " in shown
    assert "What failed with hole punching, as it must:" in shown
    # Without hole punching it must not.
    assert len(replace(comparison, part=WIDE).regressions()) == len(DIFFERENT)
    assert not replace(comparison, part=WIDE).stale_differences()
    first, *rest = DIFFERENT
    stale = with_hole_punching(*rest)
    assert stale.stale_differences() == [first]
    shown = page.section(stale, page.Run("", 1))
    assert "**red**, " in shown
    assert f"DID NOT FAIL:\n\n- `{first}`: " in shown


def test_any_other_failure_with_hole_punching_is_red() -> None:
    other = "tests/core/host/test_autonat.py::test_another"
    comparison = with_hole_punching(*DIFFERENT, other)
    assert [each.test for each in comparison.regressions()] == [other]
    # Nor may a test be left out that must fail.
    left_out = Comparison(PUNCHING, {}, {test: Result(test, "passed") for test in DIFFERENT})
    assert len(left_out.regressions()) == len(DIFFERENT)


def test_the_page_counts_the_tests_whose_hosts_punch_holes() -> None:
    shown = page.section(with_hole_punching(*DIFFERENT), page.Run("", 1))
    count = len(DIFFERENT)
    assert "| tests | over QUIC | punching | passed |" in shown
    assert f"| together | {count} | 0 | {count} | 0 | {count} | {count} | 0 | 0 | 0 |" in shown


HOSTS = """
from libp2p import new_host, new_swarm
from libp2p.host.basic_host import BasicHost
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

ADDRESS = Multiaddr("/ip4/127.0.0.1/tcp/0")

def is_punching(host):
    return "/libp2p/dcutr" in host.get_mux().handlers

async def test_a_host_that_is_run():
    host = new_host()
    async with host.run([ADDRESS]):
        assert is_punching(host)

async def test_a_host_for_a_swarm_that_runs():
    swarm = new_swarm()
    async with background_trio_service(swarm):
        await swarm.listen(ADDRESS)
        assert is_punching(BasicHost(swarm))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "outcome"), [("ours", "passed"), ("stock", "failed")])
def test_every_host_on_ours_punches_holes(transport: str, outcome: str, tmp_path: Path) -> None:
    """The suite makes most of its hosts when their swarms run, where `install` does not find them."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    (tmp_path / "test_hosts.py").write_text(HOSTS)
    results = runs.run_alone(PUNCHING, transport, tmp_path, ["test_hosts.py"])
    assert len(results) == 2
    for each in results.values():
        assert (each.outcome, each.over_quic) == (outcome, True), each.why
        assert each.punching is (transport == "ours")


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=580
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_public_quic_test_of_py_libp2p_passes_on_ours() -> None:
    result = run("tools.conformance", "--part", "quic", "--ours-only")
    assert result.returncode == 0, result.stdout + result.stderr
    # Passed because no test failed, not because none was run.
    counts = next(line.split() for line in result.stdout.splitlines() if line.startswith("together"))
    tests, over_quic, passed, failed = map(int, counts[1:5])
    assert tests > 200
    assert over_quic >= 19
    assert passed > 100
    assert failed == 0
    # None of them is skipped.
    assert int(counts[-1]) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tests_of_py_libp2p_about_the_repairs_pass_with_hole_punching() -> None:
    """`make conformance` runs the other rows, which take minutes."""
    rows = ("hole punching (DCUtR)", "AutoNAT", "identify")
    part = replace(PUNCHING, rows={row: PUNCHING.rows[row] for row in rows})
    results = runs.run(part, "ours", suite.fetch(), 2, lambda _: None)
    comparison = Comparison(part, results, None)
    assert comparison.regressions() == []
    assert comparison.stale_differences() == []
    # They passed with hole punching, and not because no test was run.
    assert sum(each.punching for each in results.values()) > 20


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["echo", "ping", "pubsub", "perf"])
def test_example_programs_of_py_libp2p_run_on_ours(program: str) -> None:
    result = run("tools.conformance.examples", "--only", program, "--size", "8", "--iterations", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("ok")
