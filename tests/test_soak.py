"""The soak run: a short one passes, and each kind of leak that is made on purpose is detected."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import trio

from libp2p_quic.asyncio import Endpoint
from testkit.loops import LOOPS
from testkit.near import IP4, near_host
from tools.soak import page, verdict
from tools.soak.__main__ import folder, parsed
from tools.soak.asyncio_program import CLOSED, WAYS, AsyncioProgram
from tools.soak.leaks import KINDS
from tools.soak.run import Plan, Record, Sample, soak
from tools.soak.scenarios import CONFIG, Scenarios

ROOM = 32 << 20
"""Bytes of memory that a run of a few seconds may use: it does everything for the first time."""


def no_progress(clock: float, record: Record) -> None:
    """A progress callback that prints nothing."""


async def short(leak: str = "", has_children: bool = False) -> Record:
    plan = Plan(2.0, has_children=has_children, growth=ROOM, leak=leak, patience=6.0)
    return await soak(plan, no_progress)


async def test_a_short_soak_leaves_nothing() -> None:
    record = await short()
    assert verdict.is_good(record), verdict.table(record)
    assert {"stayed_whole", "canceled", "was_reset", "vanished", "was_dialed"} <= {*record.done}
    assert {"on_asyncio", "on_uvloop"} <= {*record.done}
    assert record.done["garbage"] > 0
    assert all(sample.usages["home"]["connections"] == 0 for sample in record.samples)


@pytest.mark.slow
async def test_a_short_soak_with_other_processes_leaves_nothing() -> None:
    record = await short(has_children=True)
    assert verdict.is_good(record), verdict.table(record)
    assert {"visited", "child_left", "child_killed"} <= {*record.done}
    assert {*record.samples[0].usages} == {"home", "away"}


async def test_a_leak_is_detected_and_named() -> None:
    record = await short(leak="tasks")
    assert not verdict.is_good(record)
    assert "tasks of home" in verdict.sentence(record)
    assert "sleep_forever" in verdict.table(record)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"tasks"}))
async def test_every_kind_of_leak_is_detected(kind: str) -> None:
    record = await short(leak=kind)
    assert f"{kind} of home" in verdict.sentence(record)


async def ran(program: type[AsyncioProgram], loop: str, way: str, seed: int) -> Counter[str]:
    """Run one program beside a host, whose stream handlers are those of a soak run."""
    async with near_host(IP4, config=CONFIG) as home:
        scenarios = Scenarios(home, None, seed)
        one = program(str(home.get_addrs()[0]), bytes([7]) * 32, seed, way)
        try:
            return await trio.to_thread.run_sync(one.run, loop)
        except AssertionError as error:
            # The end of the host would put it into a group.
            failure = error
        finally:
            scenarios.close()
    raise failure


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loop", LOOPS)
async def test_asyncio_programs_leave_no_task_and_no_wait(loop: str, way: str) -> None:
    done = Counter[str]()
    for seed in range(3):
        done += await ran(AsyncioProgram, loop, way, seed)
    if way == CLOSED:
        assert {"exchanges", "exchanges canceled", "lines", "resets"} <= {*done}, done
        assert done["bytes"] > 0


class LeavesTask(AsyncioProgram):
    patience = 0.2

    async def _work(self, near: Endpoint, address: str) -> None:
        self.left = asyncio.ensure_future(asyncio.Event().wait())


class FailsUnseen(AsyncioProgram):
    async def _work(self, near: Endpoint, address: str) -> None:
        asyncio.get_running_loop().call_soon([].pop)


class GetsOtherBytes(AsyncioProgram):
    async def _work(self, near: Endpoint, address: str) -> None:
        raise AssertionError("other bytes came back")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (LeavesTask, "a task is left: .*wait"),
        (FailsUnseen, "pop from empty list"),
        (GetsOtherBytes, "other bytes came back"),
    ],
)
async def test_a_fault_of_an_asyncio_program_is_a_failure(program: type[AsyncioProgram], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        await ran(program, "asyncio", CLOSED, 0)


def measured(*memory: int, tasks: int = 5) -> Record:
    record = Record(Plan(60.0, growth=100), done=Counter(bytes=7, garbage=3, vanished=2))
    for number, bytes_ in enumerate(memory):
        usage = {
            "allocated": bytes_,
            "resident": 20 * bytes_,
            "descriptors": 8,
            "threads": 2,
            "tasks": tasks,
        }
        record.samples.append(Sample(float(number), number > 0, {"home": usage}))
    return record


def test_one_outlier_is_no_growth_and_a_steady_slope_is() -> None:
    assert verdict.is_good(measured(0, 1000, 1010, 9000, 1020, 1010))
    assert not verdict.is_good(measured(0, 1000, 1060, 1120, 1180, 1100)), "of 40 a step"
    assert not verdict.is_good(measured(0, 1000, 1000, 1000, 1000, 1101)), "in the end"
    assert verdict.is_good(measured(999_999, 1000, 1000)), "the warm-up does not count"


def test_resident_memory_may_rise_slowly_within_a_limit() -> None:
    record = measured(0, 1000, 1015, 1030, 1038)
    assert verdict.is_good(record), "20 times 15 a step, where a slope may come to 400 in all"
    record.samples[-1].usages["home"]["resident"] = 20_801
    assert "resident of home" in verdict.sentence(record)


def test_a_failure_fails_the_run() -> None:
    record = measured(0, 1, 1)
    record.failures.append("other bytes came back")
    assert not verdict.is_good(record)
    assert "FAILED  other bytes came back" in verdict.table(record)


def test_the_page_the_picture_and_the_figures_are_written(tmp_path: Path) -> None:
    text = page.write(measured(0, 1000, 1001), tmp_path).read_text()
    assert "Nothing grew" in text
    assert "| vanished | 2 |" in text
    assert "<svg" in (tmp_path / "soak.svg").read_text()
    assert json.loads((tmp_path / "soak.json").read_text())["done"]["vanished"] == 2


def test_only_a_whole_run_writes_the_page_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert folder(parsed([])) == page.PAGES
    for arguments in (["--minutes", "9"], ["--no-children"], ["--leak", "tasks"]):
        assert folder(parsed(arguments)) != page.PAGES
    assert folder(parsed(["--out", "somewhere"])) == Path("somewhere")


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "soon"])
def test_a_duration_of_zero_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit):
        parsed(["--minutes", wrong])
