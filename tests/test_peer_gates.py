"""Gates fail closed: in every form of a gate only ``True`` admits a peer.

Real hosts and transports; their order before the swarm is in test_gates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.abc import IHost
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICConnectionClosedError
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection
from libp2p_quic.exceptions import DialError
from testkit.census import eventually
from testkit.linked import listening, transport_behind
from testkit.near import IP4, connections_of, near_host, near_transport, swarm

GATED = 0x1007


class Answers:
    """One answer, in every form of a gate."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def plain(self, _peer: ID, _maddr: Multiaddr) -> object:
        return self.answer

    async def method(self, _peer: ID, _maddr: Multiaddr) -> object:
        await trio.lowlevel.checkpoint()
        return self.answer

    async def __call__(self, _peer: ID, _maddr: Multiaddr) -> object:
        await trio.lowlevel.checkpoint()
        return self.answer


def forms(answer: object) -> dict[str, Callable[..., Any]]:
    answers = Answers(answer)

    async def function(_peer: ID, _maddr: Multiaddr) -> object:
        await trio.lowlevel.checkpoint()
        return answer

    return {
        "plain": answers.plain,
        "async function": function,
        "async bound method": answers.method,
        "object with async __call__": answers,
        "partial of an async function": partial(function),
        "partial of an async __call__": partial(answers.__call__),
        "lambda that returns a coroutine": lambda *arguments: function(*arguments),
    }


FORMS = list(forms(True))
NOT_TRUE = {
    "False": False,
    "None": None,
    "1": 1,
    "text": "yes",
    "object": object(),
    "a list": [True],
}


async def ending(connection: QUICConnection) -> QUICConnectionClosedError:
    with trio.fail_after(10), pytest.raises(QUICConnectionClosedError) as caught:
        await connection.accept_stream()
    return caught.value


async def is_refused(gate: Any, **config: Any) -> None:
    """By a listener with that gate, before its handler sees the connection."""
    async with listening(gate_peer=gate, **config) as (listener, connections):
        dialer = near_transport()
        error = await ending(await dialer.dial(listener.get_addrs()[0]))
        assert error.error_code == GATED
        assert connections.statistics().current_buffer_used == 0
        await dialer.close()


async def is_not_dialed(gate: Any, why: str, **config: Any) -> DialError:
    """By a dialer with that gate."""
    async with listening() as (listener, connections):
        dialer = near_transport(gate_peer=gate, **config)
        with pytest.raises(DialError, match=why) as caught:
            await dialer.dial(listener.get_addrs()[0])
        assert caught.value.error_code == GATED
        assert (await ending(await connections.receive())).error_code == GATED
        assert not connections_of(dialer)
        await dialer.close()
        return caught.value


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


@pytest.mark.parametrize("form", FORMS)
async def test_true_admits(form: str) -> None:
    gate = forms(True)[form]
    async with listening(gate_peer=gate) as (listener, connections):
        dialer = near_transport(gate_peer=gate)
        dialed = await dialer.dial(listener.get_addrs()[0])
        with trio.fail_after(10):
            accepted = await connections.receive()
        assert dialed.is_established
        assert accepted.is_established
        await dialer.close()


@pytest.mark.parametrize("answer", NOT_TRUE)
@pytest.mark.parametrize("form", FORMS)
async def test_any_other_answer_refuses(form: str, answer: str, caplog: pytest.LogCaptureFixture) -> None:
    gate = forms(NOT_TRUE[answer])[form]
    await is_refused(gate)
    await is_not_dialed(gate, "gate_peer")
    # False is the only valid refusal, of which an inbound peer leaves a line; other answers are defects of
    # the gate, of which each direction does.
    warnings = warnings_of(caplog)
    assert len(warnings) == (1 if answer == "False" else 2)
    told = "denied it" if answer == "False" else "only True admits"
    assert all("gate_peer" in each and told in each for each in warnings)


def raises(_peer: ID, _maddr: Multiaddr) -> bool:
    raise KeyError("no database")


async def raises_later(_peer: ID, _maddr: Multiaddr) -> bool:
    await trio.lowlevel.checkpoint()
    raise KeyError("no database")


@pytest.mark.parametrize("gate", [raises, raises_later])
async def test_a_gate_that_raises_refuses(gate: Any, caplog: pytest.LogCaptureFixture) -> None:
    await is_refused(gate)
    error = await is_not_dialed(gate, "raised KeyError")
    assert isinstance(error.__cause__, KeyError)
    warnings = warnings_of(caplog)
    assert len(warnings) == 2
    assert all(f"test_peer_gates.{gate.__name__}" in each for each in warnings)
    assert "Traceback" in caplog.text


async def never_answers(_peer: ID, _maddr: Multiaddr) -> bool:
    while True:
        await trio.sleep_forever()


async def admits_when_canceled(_peer: ID, _maddr: Multiaddr) -> bool:
    with suppress(trio.Cancelled):
        await trio.sleep_forever()
    return True


@pytest.mark.parametrize("gate", [never_answers, admits_when_canceled])
async def test_a_gate_without_an_answer_in_time_refuses(gate: Any, caplog: pytest.LogCaptureFixture) -> None:
    await is_refused(gate, gate_timeout=0.2)
    await is_not_dialed(gate, "did not answer within 0.2 s", gate_timeout=0.2)
    assert len(warnings_of(caplog)) == 2


async def test_other_peers_connect_while_a_gate_waits() -> None:
    slow: set[ID] = set()
    asked = trio.Event()

    async def gate(peer: ID, _maddr: Multiaddr) -> bool:
        if peer in slow:
            asked.set()
            await trio.sleep_forever()
        return True

    async with near_host(IP4, config={"gate_peer": gate, "gate_timeout": 60}) as host:
        waits, passes = near_transport(), near_transport()
        slow.add(waits._peer_id)
        await waits.dial(host.get_addrs()[0])
        with trio.fail_after(10):
            await asked.wait()
        await passes.dial(host.get_addrs()[0])
        assert await eventually(lambda: bool(swarm(host).get_connections(passes._peer_id)), 10)
        assert not swarm(host).get_connections(waits._peer_id)
        await waits.close()
        await passes.close()


async def test_a_dial_canceled_while_its_gate_runs_leaves_nothing() -> None:
    async with listening() as (listener, connections):
        dialer = near_transport(gate_peer=never_answers, gate_timeout=60)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dialer.dial, listener.get_addrs()[0])
                accepted = await connections.receive()
                scope.cancel()
        assert (await ending(accepted)).error_code == GATED
        assert not connections_of(dialer)
        await dialer.close()


async def test_a_gate_that_fails_often_is_reported_once_with_a_count(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(gate_peer=raises) as (listener, _):
        dialer = near_transport()
        for _ in range(4):
            await ending(await dialer.dial(listener.get_addrs()[0]))
        assert len(warnings_of(caplog)) == 1
        monkeypatch.setattr("libp2p_quic._throttle.INTERVAL", 0)
        gate = transport_behind(listener)._gates._peer_gate
        assert gate is not None
        gate._defects._due = 0
        await ending(await dialer.dial(listener.get_addrs()[0]))
        assert "3 more such events" in warnings_of(caplog)[1]
        await dialer.close()


# The swarm's own gate


def replace_gate(host: IHost, gate: Callable[..., Any]) -> None:
    """Have the swarm's gate return the result of ``gate``, also for a peer."""
    gates: Any = swarm(host).connection_gate
    gates.is_allowed = partial(gate, host.get_id())


@pytest.mark.parametrize("answer", [*NOT_TRUE, "raises", "never"])
async def test_the_swarms_gate_fails_closed_too(answer: str) -> None:
    own: Any = {"raises": raises_later, "never": never_answers}.get(answer)
    gate = own or Answers(NOT_TRUE.get(answer)).method
    async with near_host(IP4, config={"gate_timeout": 0.2}) as host:
        replace_gate(host, gate)
        dialer = near_transport()
        error = await ending(await dialer.dial(host.get_addrs()[0]))
        assert error.error_code == GATED
        assert swarm(host).get_total_connections() == 0
        await dialer.close()


async def test_the_swarms_gate_fails_closed_for_a_dialed_name() -> None:
    async with listening() as (listener, _), near_host() as host:
        port = listener.get_addrs()[0].value_for_protocol("udp")
        transport = swarm(host).transport_manager.get_transports()[0]
        replace_gate(host, raises_later)
        with pytest.raises(DialError, match=r"the swarm's connection gate raised KeyError") as caught:
            await transport.dial(Multiaddr(f"/dns4/localhost/udp/{port}/quic-v1"))
        assert [type(each.__cause__) for each in caught.value.causes] == [KeyError]
