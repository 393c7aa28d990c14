"""Which peers may send: those of --from, all of them with --yes, or those that a person accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import click

from libp2p_quic._command import standard_input
from libp2p_quic._command.explanation import Explanation
from libp2p_quic._command.output import Output, UnusableArgumentError
from libp2p_quic._peer_id import PeerId
from libp2p_quic.asyncio.connection import Connection

F = TypeVar("F", bound=Callable[..., Any])

_from_option = click.option(
    "--from",
    "admitted",
    metavar="PEER",
    multiple=True,
    help="Accept this peer id without a question, and no other. May be repeated.",
)
_yes_option = click.option("--yes", "is_open", is_flag=True, help="Accept every peer without a question.")


def consent_options(command: F) -> F:
    """--from and --yes, as ``admitted`` and ``is_open``."""
    return _from_option(_yes_option(command))


class Consent:
    """The answers of one run."""

    def __init__(self, has_list: bool, is_open: bool, output: Output) -> None:
        """``has_list``: the endpoint's gate admits the peers of --from only. Ends the command if nobody
        could be asked."""
        self._is_given = has_list or is_open
        self._output = output
        self._declined: set[PeerId] = set()
        if not self._is_given and not standard_input.is_terminal():
            text = "no person can be asked who may send, as standard input is no terminal"
            step = "name the sender, --from PEER (`send` prints its peer id), or accept every peer with --yes"
            raise UnusableArgumentError(Explanation("consent", text, step), output.is_json)

    def has_declined(self, peer_id: PeerId) -> bool:
        """Whether the person has said no to this peer, which is then not asked again."""
        return peer_id in self._declined

    async def given(self, connection: Connection, offer: str) -> bool:
        """Whether ``connection`` may send ``offer``. False also if it ends before the answer."""
        if self._is_given:
            return True
        question = f"{connection.peer_id} at {connection.remote_address} offers {offer}. Accept?"
        asking = asyncio.create_task(standard_input.answer(question))
        end = asyncio.create_task(connection.closed())
        try:
            done, _ = await asyncio.wait({asking, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            end.cancel()
        if asking not in done:
            self._output.note(f"\n{connection.peer_id} is gone: {end.result()}")
            return False
        if not asking.result():
            self._declined.add(connection.peer_id)
        return asking.result()
