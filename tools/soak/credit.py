"""A peer opens streams up to the limit and writes a byte on each. When it ends some, it may open as many
again at once, in every round.
"""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import trio
from multiaddr import Multiaddr

from testkit.far import FarError, FarHost, far_host
from testkit.host import HOLD
from testkit.relay import Relay
from tools.soak.trial import Trial, Watch

LIMIT = 1024
"""Streams that a peer may have open here, by default."""
ENDED = (1, 2, 8, 100)
"""How many it ends before it opens as many again."""
BOUND = 1.0
"""Seconds for that on loopback; lost credit would delay it for minutes, or forever."""
_ROUND_TRIPS = 8
"""Round trips in addition on a long path: the end, the credit, and py-libp2p's negotiation."""

_STOCK_STREAM = 0.2
"""Seconds that the stock transport may take for each stream among a thousand: on a busy machine it takes
half of that, regardless of credit."""

_STOCK: dict[str, Any] = {
    "MAX_OUTGOING_STREAMS": 4 * LIMIT,
    # It would treat an idle stream as ended.
    "STREAM_READ_TIMEOUT": 600.0,
}


@dataclass(frozen=True)
class Plan:
    opener: str = "ours"
    """"ours" or "stock"."""
    does_listener_open: bool = False
    rounds: int = 8
    delay: float = 0.0
    """One-way delay in seconds."""
    seed: int = 0

    def __str__(self) -> str:
        way = "that listens" if self.does_listener_open else "that dialed"
        far = f", {1000 * self.delay:.0f} ms away" if self.delay else ""
        return f"stream credit for {self.opener} {way}{far}"


async def _connected(plan: Plan, opener: FarHost, holder: FarHost, stack: AsyncExitStack) -> None:
    dialer, listener = (holder, opener) if plan.does_listener_open else (opener, holder)
    address = Multiaddr(listener.addresses[0])
    if plan.delay:
        delay = f"{1000 * plan.delay:.0f}ms"
        relay = await stack.enter_async_context(Relay.to(address, "--delay", delay))
        address = relay.address.encapsulate(Multiaddr(f"/p2p/{listener.peer}"))
    await dialer.do("connect", address=str(address))


async def credit(plan: Plan, watch: Watch) -> Trial:
    trial = Trial(str(plan), plan.rounds * len(ENDED), "rounds")
    dice = random.Random(plan.seed)
    slowest: dict[int, float] = dict.fromkeys(ENDED, 0.0)
    async with AsyncExitStack() as stack:
        config = _STOCK if plan.opener == "stock" else {}
        opener = await stack.enter_async_context(far_host(transport=plan.opener, config=config))
        holder = await stack.enter_async_context(far_host())
        await _connected(plan, opener, holder, stack)
        open_now: list[int] = []

        async def more(count: int, within: float) -> None:
            open_now.extend(
                await opener.do(
                    "open_many", within, peer=holder.peer, protocol=HOLD, count=count, at_once=min(count, 64)
                )
            )

        # The streams of identify have ended by then.
        await opener.do("ping", peer=holder.peer, count=1)
        await _held(opener, holder, 0)
        await more(LIMIT, 60)
        if (held := await _held(opener, holder, LIMIT)) != LIMIT:
            trial.failures.append(f"{held} streams of {LIMIT} are open")
        bound = BOUND + _ROUND_TRIPS * 2 * plan.delay
        slow = _STOCK_STREAM if plan.opener == "stock" else 0.0
        for _ in range(plan.rounds):
            for ended in ENDED:
                dice.shuffle(open_now)
                gone, open_now[:] = open_now[:ended], open_now[ended:]
                limit = bound + slow * ended
                began = trio.current_time()
                await opener.do("let_go", streams=gone, how=dice.choice(("close", "reset")))
                try:
                    await more(ended, limit + 10)
                except (AssertionError, FarError) as error:
                    reason = str(error).splitlines()[0]
                    trial.failures.append(f"{ended} ended, and {ended} could not be opened again: {reason}")
                    return trial
                took = trio.current_time() - began
                slowest[ended] = max(slowest[ended], took)
                if took > limit:
                    trial.failures.append(f"{ended} ended: it took {took:.2f} s to open as many")
                trial.done += 1
                watch(trial)
        for ended, took in slowest.items():
            trial.figures[f"{ended} ended and {ended} opened, at most"] = f"{1000 * took:.0f} ms"
    return trial


async def _held(opener: FarHost, holder: FarHost, wanted: int) -> int:
    """The number of the holder's open streams, after they are as many as wanted or after 10 s."""
    held = -1
    with trio.move_on_after(10):
        while held != wanted:
            held = int((await holder.do("statistics", peer=opener.peer))["streams_open"])
            await trio.sleep(0.02)  # scenario: no event says how many streams another process has
    return held
