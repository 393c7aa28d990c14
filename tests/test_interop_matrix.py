"""The interoperability matrix itself: verdicts, builds, page and picture.

The peers of the matrix themselves are run by `make interop` and `make interop-ci`, not here.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio

from testkit.census import PATIENCE
from tools.interop import matrix, peer
from tools.interop.__main__ import build_all, chosen
from tools.interop.case import CASES, Case, Failed, is_code, read
from tools.interop.defects import Defect, known, stale, verdict
from tools.interop.matrix import Direction, Result
from tools.interop.peer import BuildError, MissingToolError, Peer, load
from tools.interop.picture import svg
from tools.interop.report import Report

RED = Result("go", "we dial", "echo", "red", 1.0, "said: 7 of 9 bytes")
EXCUSE = Defect(("go",), ("echo",), ("we dial",), ("7 of 9",), "a reason", "a place")


def test_an_entry_covers_only_failures_that_it_describes() -> None:
    assert verdict(RED, [EXCUSE]) == ("known", EXCUSE)
    assert verdict(replace(RED, evidence="took more than 30 s"), [EXCUSE]) == ("red", None)


@pytest.mark.parametrize("other", [{"peer": "js"}, {"case": "ping"}, {"direction": "they dial"}])
def test_an_entry_covers_no_other_cell(other: dict[str, str]) -> None:
    assert verdict(replace(RED, **other), [EXCUSE]) == ("red", None)  # type: ignore[arg-type]


def test_an_entry_whose_cells_are_green_is_reported() -> None:
    assert stale([replace(RED, outcome="green")], [EXCUSE]) == [EXCUSE]
    assert stale([RED], [EXCUSE]) == []
    assert stale([], [EXCUSE]) == []
    assert stale([replace(RED, outcome="green")], [replace(EXCUSE, is_intermittent=True)]) == []


def test_the_list_has_only_existing_peers_and_cases() -> None:
    peers, cases = {each.row for each in load()}, {case.name for case in CASES}
    for entry in known():
        assert set(entry.peers) <= peers
        assert set(entry.cases) <= cases
        assert set(entry.directions) <= set(matrix.DIRECTIONS)
        assert all(entry.shows)
        assert entry.reason
        assert entry.evidence


@pytest.fixture
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(peer, "BUILD", tmp_path)
    monkeypatch.setattr(peer, "HERE", tmp_path)
    return tmp_path


def made(folder: Path, *steps: list[str]) -> Peer:
    """A peer that describes itself and supports no case."""
    (folder / "fake").mkdir(exist_ok=True)
    about = '{"program": "fake 1", "stack": "none 2", "keys": ["ed25519"], "can": []}'
    return Peer("fake", list(steps), [sys.executable, "-c", f"print('{about}')"], build_limit=60)


async def arrived(*peers: Peer) -> AsyncIterator[Peer]:
    """All of them, as if they had just been built."""
    for each in peers:
        yield each


async def test_the_description_of_a_peer_is_kept(build_folder: Path) -> None:
    fake = made(build_folder, ["true"])
    assert await build_all([fake], math.inf) == ([fake], {})
    assert (fake.label, fake.keys, fake.can) == ("fake 1, none 2", ("ed25519",), ())


async def test_a_program_with_two_transports_is_built_once_and_asked_about_each(build_folder: Path) -> None:
    fake = made(build_folder, ["sh", "-c", "echo built >> built.txt"])
    told = '{"program": "fake", "stack": "none", "keys": [], "can": sys.argv[2:]}'
    fake.command = [sys.executable, "-c", f"import json, sys; print(json.dumps({told}))"]
    rows = [fake, replace(fake, transport="webtransport")]
    assert [each.row for each in rows] == ["fake", "fake-webtransport"]
    assert await build_all(rows, math.inf) == (rows, {})
    assert (build_folder / "fake" / "built.txt").read_text() == "built\n"
    assert [each.can for each in rows] == [(), ("--transport", "webtransport")]
    broken = replace(fake, steps=[["false"]])
    built, failures = await build_all([broken, replace(rows[1], steps=[["false"]])], math.inf)
    assert (built, list(failures)) == ([], ["fake", "fake-webtransport"])


def test_a_row_of_webtransport_is_run_with_ours_of_it() -> None:
    def rows(*arguments: object) -> list[str]:
        return [each.row for each in load(*arguments)]  # type: ignore[arg-type]

    assert rows(["go-webtransport"]) == ["ours-webtransport", "go-webtransport"]
    assert rows(["go"]) == ["ours", "go"]
    assert rows(["go", "go-webtransport"]) == ["ours", "ours-webtransport", "go", "go-webtransport"]
    assert rows(["ours"], "asyncio") == rows(["asyncio"], "asyncio") == ["ours"]
    assert {"ours-webtransport", "go-webtransport", "stock-webtransport"} <= set(rows())
    assert not {"asyncio", "asyncio-webtransport"} & set(rows())
    with pytest.raises(KeyError, match="go-tcp"):
        rows(["go-tcp"])


async def test_both_programs_of_a_row_listen_by_its_transport_and_cases_of_quic_are_absent(
    build_folder: Path,
) -> None:
    """The addresses of the fake listeners are their arguments."""
    listening = 'print(json.dumps({"peer": "", "addrs": [" ".join(sys.argv[1:])]}), flush=True)'
    command = [sys.executable, "-c", f"import json, sys; {listening}; sys.stdin.read()"]
    addresses: list[tuple[str, str]] = []

    async def listened(stage: matrix.Stage) -> None:
        addresses.append((stage.listener.row, (await stage.listening()).address))

    quic = [replace(made(build_folder), name=name, command=command) for name in ("ours", "fake")]
    peers = [*quic, *(replace(each, transport="webtransport") for each in quic)]
    cases = [
        Case("a group", "listened", "a title", listened),
        Case("a group", "quic", "a title", listened, quic_only="a reason"),
    ]
    results = await matrix.run(arrived(*peers), cases, 1, math.inf, lambda _: None)
    listen = "listen --key ed25519 --ip 4"
    over = "listen --transport webtransport --key ed25519 --ip 4"
    assert set(addresses) == {
        ("ours", listen),
        ("fake", listen),
        ("ours-webtransport", over),
        ("fake-webtransport", over),
    }
    absent = [each for each in results if each.outcome == "absent"]
    assert {each.peer for each in absent} == {"ours-webtransport", "fake-webtransport"}
    assert {(each.case, each.evidence) for each in absent} == {("quic", "over QUIC only: a reason")}
    assert len(results) - len(absent) == sum(each.outcome == "green" for each in results) == 9


async def test_the_longest_builds_begin_first_and_downloads_at_once(
    build_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two longest end only after the download has begun."""
    os.mkfifo(build_folder / "one")
    os.mkfifo(build_folder / "two")
    builds = {
        "short": (1, "true"),
        "long": (2, "read line < ../one"),
        "longer": (3, "read line < ../two"),
        "download": (0, "echo > ../one; echo > ../two"),
    }
    peers: list[Peer] = []
    for name, (seconds, script) in builds.items():
        (build_folder / name).mkdir()
        peers.append(replace(made(build_folder, ["sh", "-c", script]), name=name, build_seconds=seconds))
    told: list[str] = []
    with trio.fail_after(PATIENCE):
        assert await build_all(peers, math.inf, lambda each: told.append(each.name)) == (peers, {})
    begun = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("build ")]
    assert [name for name in begun if name != "download"] == ["longer", "long", "short"]
    assert sorted(told) == sorted(builds)


async def test_cases_begin_as_soon_as_a_peer_and_ours_are_built(build_folder: Path) -> None:
    async def passes(_: matrix.Stage) -> None:
        pass

    cases = [Case("a group", "passes", "a title", passes)]
    ours, early, late = (replace(made(build_folder), name=name) for name in ("ours", "early", "late"))
    build, built = trio.open_memory_channel[Peer](0)
    tell, told = trio.open_memory_channel[Result](math.inf)
    with trio.fail_after(PATIENCE), built, tell, told:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(matrix.run, built, cases, 1, math.inf, tell.send_nowait)
            with build:
                await build.send(early)
                await build.send(ours)
                assert sorted([(await told.receive()).peer for _ in range(3)]) == ["early", "early", "ours"]
                await build.send(late)
            assert [(await told.receive()).peer for _ in range(2)] == ["late", "late"]


async def test_without_ours_no_case_is_run(build_folder: Path) -> None:
    fake = made(build_folder)
    assert await matrix.run(arrived(fake), chosen(["ping"]), 1, math.inf, lambda _: None) == []


def test_every_cell_of_a_peer_that_could_not_be_built_has_the_reason() -> None:
    cells = matrix.not_run({"go": "no network"}, chosen(["ping", "echo"]))
    assert {(each.case, each.direction) for each in cells} == {
        (case, direction) for case in ("ping", "echo") for direction in matrix.DIRECTIONS
    }
    assert {(each.peer, each.outcome, each.evidence) for each in cells} == {("go", "unbuilt", "no network")}


async def test_a_build_that_fails_reports_its_last_output(build_folder: Path) -> None:
    built, failures = await build_all([made(build_folder, ["sh", "-c", "echo no header; exit 3"])], math.inf)
    assert built == []
    assert "no header" in str(failures["fake"])
    assert not isinstance(failures["fake"], MissingToolError)


async def test_a_missing_tool_is_distinguished_from_a_failure(build_folder: Path) -> None:
    _, failures = await build_all([made(build_folder, ["no-such-compiler"])], math.inf)
    assert isinstance(failures["fake"], MissingToolError)
    assert str(failures["fake"]) == "no-such-compiler is not installed"


async def test_a_build_ends_at_its_time_limit(build_folder: Path) -> None:
    with pytest.raises(BuildError, match="took more than"):
        await made(build_folder, ["sleep", "60"]).build(lambda _: None, trio.current_time())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peers", "subject", "cells"),
    [(["asyncio"], "ours", 3), (["ours"], "asyncio", 1), (["asyncio-webtransport"], "ours", 3)],
)
async def test_asyncio_programs_pass_cases_with_hosts_and_with_each_other(
    peers: list[str], subject: str, cells: int
) -> None:
    """Their other cases, and other projects: `python -m tools.interop --subject asyncio`."""
    built, failures = await build_all(load(peers, subject), math.inf)
    assert failures == {}
    cases = chosen(["ed25519", "ping", "echo", "streams", "reset", "close", "restart"])
    reported: list[Result] = []
    results = await matrix.run(arrived(*built), cases, 2, math.inf, reported.append)
    assert [each for each in results if each.outcome != "green"] == []
    assert len(results) == cells * len(cases)


async def test_a_case_that_is_too_late_is_red_and_not_left_out(build_folder: Path) -> None:
    ours = replace(made(build_folder), name="ours")
    reported: list[Result] = []
    results = await matrix.run(arrived(ours), chosen(["ping", "idle"]), 1, -math.inf, reported.append)
    assert sorted(each.case for each in results) == ["idle", "ping"]
    assert {each.outcome for each in results} == {"red"}
    assert reported == results


async def test_a_listener_without_an_address_fails_its_cases_only(build_folder: Path) -> None:
    listening = 'print(json.dumps({"peer": "", "addrs": []}), flush=True)'
    ours = replace(made(build_folder), name="ours")
    ours.command = [sys.executable, "-c", f"import json, sys; {listening}; sys.stdin.read()"]
    results = await matrix.run(arrived(ours), chosen(["ping", "echo"]), 1, math.inf, lambda _: None)
    assert {each.evidence for each in results} == {"the listener has no address"}
    assert [each.outcome for each in results] == ["red", "red"]


async def test_a_case_without_the_expected_evidence_is_red(build_folder: Path, nursery: trio.Nursery) -> None:
    async def sees_nothing(_: matrix.Stage) -> str:
        return ""

    fake = made(build_folder)
    stage = matrix.Stage(fake, fake, fake, matrix.Listeners(nursery))
    case = Case("a group", "blind", "a title", sees_nothing, shows=True)
    result = await matrix.cell(stage, case, "we dial")
    assert (result.outcome, result.evidence) == ("red", "nothing was seen")
    result = await matrix.cell(stage, replace(case, shows=False), "we dial")
    assert result.outcome == "green"


async def test_a_tap_that_could_not_read_the_hellos_fails_its_case() -> None:
    with pytest.raises(Failed, match="hello of the dialer and of the listener"):
        async with read("/ip4/127.0.0.1/udp/9/quic-v1"):
            pass
    with pytest.raises(Failed, match=r"the hello of the listener$"):
        async with read("/ip4/127.0.0.1/udp/9/quic-v1") as tap:
            tap.offered = ["X25519"]


def test_an_error_code_that_was_not_seen_is_missing_evidence(build_folder: Path) -> None:
    fake = made(build_folder)
    chooses, ours = replace(fake, can=("close code",)), replace(fake, name="ours")
    assert is_code(42, chooses, ours, "close code", 42)
    assert not is_code(None, chooses, ours, "close code", 42)
    assert not is_code(43, chooses, fake, "close code", 42)
    # Another project may not report a code, or not allow choosing one.
    assert is_code(None, chooses, fake, "close code", 42)
    assert is_code(None, fake, ours, "close code", 42)


def report(*results: Result, unbuilt: dict[str, str] | None = None) -> Report:
    peers = load(["go"])
    for each in peers:
        each.program, each.stack = f"{each.name} 1", "stack 2"
    return Report(peers, unbuilt or {}, chosen(["echo", "ping"]), list(results), [EXCUSE], 1.0)


def test_a_known_cell_links_to_its_note() -> None:
    page = report(RED).page("matrix.svg")
    assert "| ●1 |" in page
    assert "\n1. **go**, we dial, echo: a reason *a place*" in page
    assert "0 green, 1 known, 0 absent, 0 red, 0 not built" in page


def test_a_red_cell_is_on_the_page_with_its_evidence() -> None:
    page = report(replace(RED, evidence="nothing | came", themselves="green")).page("matrix.svg")
    assert "- **go**, we dial, echo: nothing / came (two instances of it: green)" in page


def test_a_peer_that_was_not_built_is_on_the_page_with_the_reason() -> None:
    cells = [
        Result("msquic", way, "echo", "unbuilt", 0, "cmake is not installed") for way in matrix.DIRECTIONS
    ]
    made_report = report(*cells, unbuilt={"msquic": "cmake is not installed"})
    assert "| msquic | not built: cmake is not installed |" in made_report.page("matrix.svg")
    assert svg(made_report).count("cmake is not installed") == 2


def test_a_run_can_be_evaluated_again_and_keeps_its_results() -> None:
    run = report(RED, replace(RED, case="ping", evidence="nothing came"))
    again = Report.of(run.data(), run.cases, run.defects)
    assert again.data() == {**run.data(), "date": run.moment.isoformat(timespec="seconds")}
    assert (again.count("known"), again.count("red")) == (1, 1)
    without = Report.of(run.data(), run.cases, [])
    assert (without.count("known"), without.count("red")) == (0, 2)


def test_rows_of_webtransport_are_apart_from_those_of_quic() -> None:
    run = report(RED)
    run.peers = load(["go", "go-webtransport"])
    for each in run.peers:
        each.program, each.stack = f"{each.name} 1", "stack 2"
    ways: tuple[Direction, ...] = matrix.DIRECTIONS
    run.results += [Result("go-webtransport", way, "echo", "green", 1.0) for way in ways]
    run.results += [Result("ours-webtransport", "we dial", "echo", "green", 1.0)]
    page = run.page("matrix.svg")
    assert "| ours 1, WebTransport on stack 2 | with itself |   | ✓ |" in page
    assert "| go 1, WebTransport on stack 2 | they dial |   | ✓ |" in page
    assert "| go 1, stack 2 | we dial |   | ●1 |" in page
    assert "| go-webtransport | go 1 | stack 2 | webtransport |" in page
    assert svg(run).count("with itself") == 2
    again = Report.of(run.data(), run.cases, run.defects)
    assert again.page("matrix.svg") == page


def test_a_run_from_before_webtransport_can_be_evaluated() -> None:
    run = report(RED)
    data = run.data()
    for each in data["peers"].values():
        del each["transport"]
    assert Report.of(data, run.cases, run.defects).page("matrix.svg") == run.page("matrix.svg")


def test_the_picture_has_every_cell_and_is_valid_svg() -> None:
    ways: tuple[Direction, ...] = matrix.DIRECTIONS
    cells = [Result("go", way, case, "green", 1.0) for way in ways for case in ("echo", "ping")]
    cells[0] = replace(RED, evidence='<&"> 7 of 9')
    root = ElementTree.fromstring(svg(report(*cells)))
    groups = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == len(cells)
    signs = [group.findtext("{http://www.w3.org/2000/svg}text") for group in groups]
    assert sorted(signs, key=str) == ["1", "✓", "✓", "✓"]


def test_a_page_has_no_path_of_the_machine() -> None:
    tools = Path(matrix.__file__).parents[1]
    text = f'File "{tools}/interop/x.py", "{tools.parent}/.venv/lib/y.py", "{Path.home()}/z"'
    assert matrix.placeless(text) == 'File "interop/x.py", ".venv/lib/y.py", "~/z"'
