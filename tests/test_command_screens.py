"""The pictures of the command's screens: what draws them, and that pages and pictures agree."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from testkit.screen import Screen
from tools.screens import FOLDER, SCENES, picture

PAGES = Path(__file__).parent.parent / "docs" / "howto"


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        ("one\r\ntwo\r\n", ["one", "two", ""]),
        ("10 %\r\x1b[2K100 %", ["100 %"]),
        ("bar\r\nbar\x1b[1A\r\x1b[2Kdone\x1b[1B", ["done", "bar"]),
        ("abc\x1b[3D\x1b[K", ["abc"]),
        ("abc\rx\x1b[K", ["x"]),
        ("\x1b[?25l\x1b[1;31mred\x1b[0m plain", ["red plain"]),
        ("ab\bc", ["ac"]),
    ],
)
def test_screen_applies_what_rich_writes(raw: str, lines: list[str]) -> None:
    screen = Screen()
    screen.feed(raw)
    assert screen.lines() == lines


def test_picture_keeps_colors_and_loads_nothing() -> None:
    made = picture("libp2p-quic ping ADDR", "\x1b[1;31merror:\x1b[0m <no> answer\r\n")
    root = ElementTree.fromstring(made)
    texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "error:" in texts
    assert any("<no>\xa0answer" in (text or "") for text in texts)
    assert "url(" not in made.replace("url(#", "")
    assert "font-face" not in made


def test_scene_is_a_real_run() -> None:
    command, raw = SCENES["ping"]()
    assert command.startswith("libp2p-quic ping -c 5 -i 0.2 /ip4/127.0.0.1/udp/")
    assert "5 rounds, 5 answered" in raw


def test_every_scene_has_a_picture_that_a_page_shows() -> None:
    assert sorted(each.stem for each in FOLDER.iterdir()) == sorted(SCENES)
    pages = "".join(each.read_text() for each in PAGES.glob("*.md"))
    assert [name for name in SCENES if f"](screens/{name}.svg)" not in pages] == []
    for each in FOLDER.iterdir():
        ElementTree.parse(each)
