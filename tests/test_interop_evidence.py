"""A cell of the interoperability matrix is green only with evidence, and a build leaves no process behind."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from testkit.census import PATIENCE
from tools.interop import matrix, peer
from tools.interop.browser.cases import PAGE_CODE, abort
from tools.interop.case import Failed, bad_certificate, handshake, ip6
from tools.interop.peer import MissingToolError, Peer

UNIFIED = Path(peer.__file__).parent / "unified"

# A peer that ignores its options: it listens on IPv4 with an Ed25519 key, and says that each case succeeded.
# Only a dial to a bad certificate fails, and that certificate's listener reports it as connected.
HEEDLESS = """
import json, sys

LISTENER, DIALER, REFUSED = "12D3KooWListener", "12D3KooWDialer", "12D3KooWRefused"

def tell(**facts):
    print(json.dumps(facts), flush=True)

if sys.argv[1] == "listen":
    is_bad = "--certificate" in sys.argv
    tell(peer=LISTENER, addrs=["/ip4/127.0.0.1/udp/1/quic-v1/" + ("bad" if is_bad else "good")])
    tell(event="connected", peer=REFUSED if is_bad else DIALER)
    sys.stdin.read()
elif any(each.endswith("/bad") for each in sys.argv):
    tell(ok=False, self=REFUSED, error="refused")
else:
    tell(ok=True, self=DIALER, remote=LISTENER, same=True)
"""

SPAWNS = """
import socket, subprocess
with socket.create_connection(("127.0.0.1", {port})) as held:
    child = subprocess.Popen(["sleep", "600"], stdin=held)
    held.sendall(b"begun")
child.wait()
"""


@pytest.fixture
def heedless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Peer:
    monkeypatch.setattr(peer, "BUILD", tmp_path)
    monkeypatch.setattr(peer, "HERE", tmp_path)
    (tmp_path / "fake").mkdir()
    command = [sys.executable, "-c", HEEDLESS]
    kinds = ("expired",)
    return Peer("fake", [], command, 60, keys=("ed25519", "secp256k1", "rsa"), certificates=kinds)


@pytest.mark.parametrize("key", ["secp256k1", "rsa"])
async def test_a_peer_that_ignores_the_type_of_key_is_red(
    heedless: Peer, nursery: trio.Nursery, key: str
) -> None:
    stage = matrix.Stage(heedless, heedless, heedless, matrix.Listeners(nursery))
    await handshake("ed25519")(stage)
    with pytest.raises(Failed, match=f"12D3KooW.* has no {key} key"):
        await handshake(key)(stage)


async def test_a_peer_that_ignores_the_version_of_ip_is_red(heedless: Peer, nursery: trio.Nursery) -> None:
    stage = matrix.Stage(heedless, heedless, heedless, matrix.Listeners(nursery))
    with pytest.raises(Failed, match="the listener's address is /ip4/"):
        await ip6(stage)


async def test_a_listener_of_a_bad_certificate_that_reports_a_connection_is_red(
    heedless: Peer, nursery: trio.Nursery
) -> None:
    """Its own events count, not those of the listener that all cases share."""
    stage = matrix.Stage(heedless, replace(heedless, name="ours"), heedless, matrix.Listeners(nursery))
    with pytest.raises(Failed, match="expired: the listener accepted it"):
        await bad_certificate(stage)


async def test_a_build_that_is_canceled_leaves_no_process_of_its_tool(heedless: Peer) -> None:
    (server,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with server:
        port = server.socket.getsockname()[1]
        heedless.steps = [[sys.executable, "-c", SPAWNS.format(port=port)]]
        async with trio.open_nursery() as builds:
            builds.start_soon(heedless.build, lambda _: None, math.inf)
            held = await server.accept()
            assert await held.receive_some(5) == b"begun"
            builds.cancel_scope.cancel()
        # The child of the tool has the other end until it ends.
        async with held:
            with trio.fail_after(PATIENCE):
                assert await held.receive_some(1) == b""


async def test_a_tool_that_only_a_tool_needs_is_named(heedless: Peer, tmp_path: Path) -> None:
    """Such as cmake, which cargo starts: no step is run without it."""
    heedless.tools = ("no-such-cmake",)
    heedless.steps = [["touch", "begun"]]
    with pytest.raises(MissingToolError, match=r"^no-such-cmake is not installed$"):
        await heedless.build(lambda _: None, math.inf)
    assert not (tmp_path / "fake" / "begun").exists()


class Finishing:
    """A stage whose page finishes the stream that it should reset."""

    async def connect(self) -> dict[str, Any]:
        return {"self": "a page"}

    async def call(self, *_: object) -> None:
        pass

    async def ends(self, *_: object) -> list[dict[str, Any]]:
        return [{"code": PAGE_CODE}, {"code": None}]


async def test_a_page_that_finishes_instead_of_resetting_is_red() -> None:
    with pytest.raises(Failed, match="None"):
        await abort(cast(Any, Finishing()))


@pytest.mark.parametrize("suite", ["hole-punch", "perf", "transport"])
def test_an_image_of_unified_testing_has_py_libp2p(suite: str) -> None:
    """The package itself depends on nothing."""
    (install,) = [
        line for line in (UNIFIED / f"Dockerfile.{suite}").read_text().splitlines() if "pip install" in line
    ]
    assert "'.[py-libp2p]' redis" in install
