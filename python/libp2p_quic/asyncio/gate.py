"""Asks the program's gate whether a peer is admitted, in an asyncio loop. `_gate` judges the answer."""

from __future__ import annotations

import asyncio

from libp2p_quic._callback import Outcome, outcome_of
from libp2p_quic._gate import Denial, Gate
from libp2p_quic.asyncio.time_limit import ended_within


class AsyncioGate(Gate):
    """A gate that is asked in an asyncio loop."""

    async def denial(self, peer: str, *arguments: object) -> Denial | None:
        """Why the gate denies ``peer``; None if it admits. ``arguments`` are passed to the gate.

        Canceling cancels the gate. A plain function cannot be interrupted; if it returns after
        the timeout, the peer is denied.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        asked = await ended_within(self._timeout, self._ask(arguments))
        if asked is None or loop.time() >= deadline:
            return self._judge(peer, None)
        if asked.cancelled():
            # By the gate: it awaited a task that was canceled.
            return self._judge(peer, Outcome(error=RuntimeError("the gate was canceled")))
        return self._judge(peer, asked.result())

    async def _ask(self, arguments: tuple[object, ...]) -> Outcome:
        return await outcome_of(lambda: self._call(*arguments))
