"""The cases that a browser runs against a node, and when each is green. Starts nothing: `stage` does."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from testkit.page import PageError
from tools.interop.browser.rollover import renewal, seed_renewed_in
from tools.interop.browser.stage import Stage
from tools.interop.case import Failed

BULK = 64 << 20
STREAMS = 100
ROUNDS = 100
TASKS, EACH = 20, 100
RESET_LIMIT = 10
IDLE = 40
"""Longer than the idle timeouts of browsers and of nodes, of 30 s."""
NODE_CODE, PAGE_CODE = 42, 43
"""The codes with which the node's protocols reset, and the page."""

# The node stops when the browser's and its own buffers are full. They are far smaller than this.
SLOW = 64 << 20
SLOW_PAUSE = 2.0

ROLLOVER = 8, 20
"""In how many seconds the certificate is replaced: when the node has started and the page has dialed."""


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    run: Callable[[Stage], Awaitable[str]]
    """Returns the evidence. Raises Failed and PageError."""
    needs_host: bool = False
    """It needs a protocol that only a host has."""
    ip: str = "4"
    limit: float = 60.0


def check(is_right: bool, what: object) -> None:
    if not is_right:
        raise Failed(str(what))


async def connect(stage: Stage) -> str:
    said = await stage.connect()
    await stage.node.event("connected", said["self"])
    check(said["remote"] == stage.node.peer, f"the page has connected to {said['remote']}")
    return f"{said['seconds'] * 1000:.0f} ms, both peer ids are right"


async def identify(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("identify")
    check(said["peer"] == stage.node.peer, said)
    check("/libp2p-quic/echo/1.0.0" in said["protocols"], said)
    return f"{said['agent']}, {len(said['protocols'])} protocols"


async def ping(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("ping", ROUNDS)
    check(said["rounds"] == ROUNDS, said)
    return f"{ROUNDS} rounds, median {said['median']:.1f} ms"


async def back(stage: Stage) -> str:
    await stage.connect()
    check((await stage.call("back"))["answer"] == 1, "the node's ping of the page failed")
    return "the node opened a stream to the page"


async def up(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("up", BULK)
    check(said["same"], "the node has another sum")
    return rate(said["seconds"])


async def down(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("down", BULK)
    check(said["bytes"] == BULK and said["same"], said)
    return rate(said["seconds"])


def rate(seconds: float) -> str:
    return f"64 MiB, the sums agree, {BULK * 8 / seconds / 1e6:.0f} Mbit/s"


async def streams(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("streams", STREAMS)
    check(said == {"streams": STREAMS, "same": STREAMS}, said)
    return f"{STREAMS} at once"


async def sequence(stage: Stage) -> str:
    """More streams than the allowance at any time: it must be renewed before the browser needs it."""
    await stage.connect()
    same = await stage.call("sequence", TASKS, EACH)
    check(same == TASKS * EACH, f"{same} of {TASKS * EACH} streams were echoed")
    return f"{TASKS * EACH} streams, {TASKS} at a time"


async def idle(stage: Stage) -> str:
    await stage.connect()
    await stage.call("ping", 1)
    await stage.call("idle", IDLE * 1000)
    await stage.call("ping", 1)
    return f"the connection lives after {IDLE} s"


async def reset(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("reset")
    check(said["status"] in ("reset", "aborted"), f"js-libp2p has a stream that is {said['status']}")
    # Firefox fails a pending read without a code, and Chromium a write if the reset arrives first.
    codes = {said["readCode"], said["writeCode"]}
    check(codes - {None} == {NODE_CODE}, said)
    shown = [
        f"{what} failed with code {said[key]}"
        for what, key in (("reading", "readCode"), ("writing", "writeCode"))
    ]
    return ", ".join(shown).replace("with code None", "without a code")


async def abort(stage: Stage) -> str:
    said = await stage.connect()
    await stage.call("abort", PAGE_CODE)
    codes = [line["code"] for line in await stage.ends(said["self"], 2)]
    # A stream that was finished has the code None.
    check(set(codes) == {0, PAGE_CODE}, f"the node saw resets with {codes}")
    return f"code 0 of js-libp2p, code {PAGE_CODE} of the session"


async def slow(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("slow", SLOW, SLOW_PAUSE * 1000)
    check(said["same"], "bytes were lost")
    check(
        0 < said["written"] < SLOW, f"the node wrote {said['written']} bytes to a reader that does not read"
    )
    return f"the node wrote {said['written'] / (1 << 20):.1f} of 64 MiB in {SLOW_PAUSE:.0f} s, then the rest"


async def close(stage: Stage) -> str:
    await stage.connect()
    said = await stage.call("closed")
    check(said["code"] == NODE_CODE, said)
    return f"the session is closed with code {NODE_CODE}; js-libp2p's connection is {said['status']}"


async def leave(stage: Stage) -> str:
    """The browser, and not js-libp2p, ends the session: Chromium at once, Firefox some seconds later."""
    said = await stage.connect()
    await stage.call("leave")
    began = trio.current_time()
    (end,) = await stage.ends(said["self"], 1, limit=40)
    return f"after {trio.current_time() - began:.1f} s the stream was {end['how']}"


async def wrong_hash(stage: Stage) -> str:
    return await refused(stage, stage.address.with_hashes(stage.address.wrong_hash), "WebTransportError")


async def unconfirmed_hash(stage: Stage) -> str:
    """The certificate is right, so only Noise can tell that a hash of the address is none of the node's.

    Two hashes, because js-libp2p takes no address with more.
    """
    hashes = stage.address.hashes[0], stage.address.wrong_hash
    return await refused(stage, stage.address.with_hashes(*hashes), "are not a subset")


async def wrong_peer(stage: Stage) -> str:
    other = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
    return await refused(stage, stage.address.with_peer(other), "UnexpectedPeerError")


async def refused(stage: Stage, address: str, expected: str) -> str:
    """Green if the page refuses this address for that reason, and connects to the right one afterwards."""
    try:
        await stage.connect(address)
    except PageError as error:
        reason = str(error).partition("\n")[0]
        check(expected in reason, reason)
    else:
        raise Failed("the page has connected")
    await stage.connect()
    await stage.call("ping", 1)
    return reason


async def restart(stage: Stage) -> str:
    await stage.connect()
    await stage.call("ping", 1)
    address, node = str(stage.address), stage.node
    await stage.restart_node()
    check(str(stage.address) == address, f"the address changed to {stage.address}")
    check(stage.node is not node, "the node was not restarted")
    # By a stateless reset, RFC 9000 section 10.3; otherwise by the idle timeout of 30 s.
    seconds = await stage.call("lost")
    check(seconds < RESET_LIMIT, f"the page learned of the restart after {seconds:.1f} s")
    await stage.connect(address)
    await stage.call("ping", 1)
    return f"the page learned of it in {seconds:.2f} s and dialed the same address again"


async def rollover(stage: Stage) -> str:
    seed = await trio.to_thread.run_sync(seed_renewed_in, *ROLLOVER)
    at = renewal(seed, time.time())
    await stage.restart_node(seed)
    address = stage.address
    await stage.connect()
    check(time.time() < at, "the machine was too slow to dial before the certificate was replaced")
    await trio.sleep(at + 1 - time.time())  # scenario: the time at which it is replaced
    # The connection that was there lives on.
    await stage.call("ping", 1)
    await stage.connect(str(address))
    await stage.call("ping", 1)
    # The certificate of before is gone, and the next one is presented.
    old, new = address.hashes
    await refused(stage, address.with_hashes(old), "WebTransportError")
    await stage.connect(address.with_hashes(new))
    await stage.call("ping", 1)
    return "the same address before and after; the old connection lives on"


CASES = [
    Case("connect", "connects by the hash", connect),
    Case("ip6", "connects over IPv6", connect, ip="6"),
    Case("identify", "identify", identify, needs_host=True),
    Case("ping", "100 pings", ping),
    Case("back", "the node opens a stream to the page", back, needs_host=True),
    Case("up", "64 MiB from the page", up),
    Case("down", "64 MiB to the page", down),
    Case("streams", "100 streams at once", streams),
    Case("sequence", "2000 streams, 20 at a time", sequence),
    Case("idle", "nothing for 40 s", idle),
    Case("reset", "the node resets a stream", reset),
    Case("abort", "the page resets a stream", abort),
    Case("slow", "the page reads nothing for 2 s", slow),
    Case("close", "the node closes the connection", close),
    Case("leave", "the page is left", leave),
    Case("wrong-hash", "a wrong hash is refused", wrong_hash),
    Case("unconfirmed-hash", "a hash beside the right ones is refused", unconfirmed_hash),
    Case("wrong-peer", "a wrong peer id is refused", wrong_peer),
    Case("restart", "the node is killed and starts again", restart),
    Case("rollover", "the certificate is replaced", rollover),
]
