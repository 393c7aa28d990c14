"""The soak: a short one ends well, and each kind of leak that is planted in it is noticed."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from soak import page, verdict
from soak.__main__ import folder, parsed
from soak.plant import KINDS
from soak.run import Plan, Record, Sample, soak

ROOM = 32 << 20
"""Bytes of memory that a few seconds may cost: everything is done for the first time in them."""


def nobody_looks_on(clock: float, record: Record) -> None:
    """The progress line of no terminal."""


async def short(leak: str = "", has_children: bool = False) -> Record:
    plan = Plan(2.0, has_children=has_children, growth=ROOM, leak=leak, patience=6.0)
    return await soak(plan, nobody_looks_on)


async def test_a_short_soak_leaves_nothing() -> None:
    record = await short()
    assert verdict.is_good(record), verdict.table(record)
    assert {"stayed_whole", "cancelled", "was_reset", "vanished", "was_dialed"} <= {*record.done}
    assert record.done["garbage"] > 0
    assert all(sample.weights["home"]["connections"] == 0 for sample in record.samples)


@pytest.mark.slow
async def test_a_short_soak_with_other_processes_leaves_nothing() -> None:
    record = await short(has_children=True)
    assert verdict.is_good(record), verdict.table(record)
    assert {"visited", "child_left", "child_killed"} <= {*record.done}
    assert {*record.samples[0].weights} == {"home", "away"}


async def test_a_planted_leak_is_noticed_and_named() -> None:
    record = await short(leak="tasks")
    assert not verdict.is_good(record)
    assert "tasks of home" in verdict.sentence(record)
    assert "sleep_forever" in verdict.table(record)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({*KINDS} - {"tasks"}))
async def test_every_kind_of_leak_is_noticed(kind: str) -> None:
    record = await short(leak=kind)
    assert f"{kind} of home" in verdict.sentence(record)


def weighed(*memory: int, tasks: int = 5) -> Record:
    record = Record(Plan(60.0, growth=100), done=Counter(bytes=7, garbage=3, vanished=2))
    for number, bytes_ in enumerate(memory):
        weight = {
            "allocated": bytes_,
            "resident": 20 * bytes_,
            "descriptors": 8,
            "threads": 2,
            "tasks": tasks,
        }
        record.samples.append(Sample(float(number), number > 0, {"home": weight}))
    return record


def test_one_bad_moment_is_no_growth_and_a_steady_slope_is() -> None:
    assert verdict.is_good(weighed(0, 1000, 1010, 9000, 1020, 1010))
    assert not verdict.is_good(weighed(0, 1000, 1060, 1120, 1180, 1100)), "of 40 a step"
    assert not verdict.is_good(weighed(0, 1000, 1000, 1000, 1000, 1101)), "in the end"
    assert verdict.is_good(weighed(999_999, 1000, 1000)), "the warm-up does not count"


def test_what_is_resident_may_rise_slowly_and_not_by_much() -> None:
    record = weighed(0, 1000, 1015, 1030, 1038)
    assert verdict.is_good(record), "20 times 15 a step, where a slope may come to 400 in all"
    record.samples[-1].weights["home"]["resident"] = 20_801
    assert "resident of home" in verdict.sentence(record)


def test_a_failure_is_no_good_end() -> None:
    record = weighed(0, 1, 1)
    record.failures.append("other bytes came back")
    assert not verdict.is_good(record)
    assert "FAILED  other bytes came back" in verdict.table(record)


def test_page_picture_and_figures_are_written(tmp_path: Path) -> None:
    text = page.write(weighed(0, 1000, 1001), tmp_path).read_text()
    assert "Nothing grew" in text
    assert "| vanished | 2 |" in text
    assert "<svg" in (tmp_path / "soak.svg").read_text()
    assert json.loads((tmp_path / "soak.json").read_text())["done"]["vanished"] == 2


def test_only_a_whole_run_writes_the_page_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert folder(parsed([])) == page.PAGES
    for words in (["--minutes", "9"], ["--no-children"], ["--plant", "tasks"]):
        assert folder(parsed(words)) != page.PAGES
    assert folder(parsed(["--out", "somewhere"])) == Path("somewhere")


@pytest.mark.parametrize("wrong", ["0", "-1", "nan", "soon"])
def test_no_time_is_refused(wrong: str) -> None:
    with pytest.raises(SystemExit):
        parsed(["--minutes", wrong])
