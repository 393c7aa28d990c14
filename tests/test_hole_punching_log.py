"""What the log says of a peer that stays relayed, on both sides."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from testkit.census import eventually
from testkit.circuit import circuit
from testkit.near import quic

_UPGRADE = "libp2p_quic._hole_punching._upgrade"


async def test_both_sides_say_that_a_peer_stays_relayed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each attempt ends after its time, as nothing is sent to the addresses that are offered."""
    caplog.set_level(logging.DEBUG, "libp2p_quic.hole_punching")
    monkeypatch.setattr(f"{_UPGRADE}.LIMIT", 0.2)
    monkeypatch.setattr(f"{_UPGRADE}.usable", lambda *_: [])
    async with circuit("asking", "asked") as (asking, asked, dial):
        begins = f"no direct connection to {asking.get_id()} after 3 attempts: it stays relayed"
        joins = f"no direct connection to {asked.get_id()} after attempt "

        def levels(text: str) -> list[int]:
            return [each.levelno for each in caplog.records if each.getMessage().startswith(text)]

        # A public address, which it offers in exchanges.
        cast(Any, asked)._addrs_factory = lambda _: quic("11.0.2.2|4001")
        await dial()
        assert await eventually(lambda: levels(begins) == [logging.INFO])
        # The peer does not say which attempt is its last: it makes three.
        assert await eventually(lambda: levels(joins) == [logging.DEBUG, logging.DEBUG, logging.INFO])
