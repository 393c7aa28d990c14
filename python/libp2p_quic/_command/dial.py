"""`libp2p-quic dial`: the anatomy of one dial, from the name to what the peer tells of itself."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import asdict
from typing import Any

import click

from libp2p_quic._command import certificate as certificates
from libp2p_quic._command.connecting import ended
from libp2p_quic._command.dialing import dialed, traffic
from libp2p_quic._command.explanation import Explanation, of_dial
from libp2p_quic._command.identify import IDENTIFY, Identification, identify
from libp2p_quic._command.interruption import Interruption, run
from libp2p_quic._command.key_form import description
from libp2p_quic._command.nat import between, told
from libp2p_quic._command.options import (
    address_argument,
    identity_of,
    key_option,
    timeout_option,
)
from libp2p_quic._command.output import CommandFailedError, NoConnectionError, Output, json_option
from libp2p_quic._command.quantity import duration, size
from libp2p_quic._dial_attempt import DialAttempt
from libp2p_quic._exception_types import ConnectionClosed, DialError, NegotiationError, QUICError
from libp2p_quic._identity import Identity
from libp2p_quic._statistics import ConnectionStatistics, EcnState
from libp2p_quic.asyncio.address import Address
from libp2p_quic.asyncio.configuration import EndpointConfig
from libp2p_quic.asyncio.connection import Connection
from libp2p_quic.asyncio.endpoint import Endpoint

_NOT_TOLD = "not told"
# The fields of `ConnectionStatistics` with the times of a dialer's flights, in their order.
_FLIGHTS = {
    "initial_sent": "Initial sent",
    "first_answer": "first answer",
    "server_hello": "ServerHello",
    "handshake": "complete",
    "confirmed": "confirmed",
}
_ECN: dict[EcnState, str] = {
    "testing": "ECN not tried yet",
    "capable": "ECN works",
    "unknown": "ECN awaits an acknowledgment",
    "failed": "ECN fails: the path or the peer does not carry the marks",
}


@click.command(
    epilog="""
\b
Examples:
  libp2p-quic dial /dns/example.com/udp/4001/quic-v1
  libp2p-quic dial --timeout 3 ADDR || echo "status $?"
  libp2p-quic dial --json ADDR | jq -r 'select(.event == "error").cause'
"""
)
@address_argument
@key_option
@timeout_option
@json_option
def dial(address: Address, key_file: str | None, timeout: float, is_json: bool) -> None:
    """Dial ADDR and show each step: addresses resolved and tried, times, peer id, host key, path, and what
    the peer tells of itself (/ipfs/id/1.0.0). A failure is explained, with what to try next.
    """
    output = Output(is_json)
    identity = identity_of(key_file, output)

    async def command(_: Interruption) -> None:
        async with Endpoint(identity, EndpointConfig(handshake_timeout=timeout)) as endpoint:
            await _Anatomy(address, identity, output).show(endpoint, timeout)

    run(command)


class _Anatomy:
    """Dials once, and prints every step as it is known."""

    def __init__(self, address: Address, identity: Identity, output: Output) -> None:
        self._address = address
        self._identity = identity
        self._output = output
        self._attempts: list[DialAttempt] = []

    async def show(self, endpoint: Endpoint, timeout: float) -> None:
        self._row("address", str(self._address))
        if self._address.peer_id == self._identity.peer_id:
            raise self._is_ourselves(f"{self._address} is this peer: --key has the key of that peer id")
        connection = await self._connected(endpoint)
        async with connection:
            self._handshake(connection)
            if connection.peer_id == self._identity.peer_id:
                raise self._is_ourselves(f"{connection.remote_address} answers with our own key")
            await self._identify(connection, timeout)

    def _row(self, name: str, value: str) -> None:
        self._output.text(f"{name:<11} {value}")

    def _is_ourselves(self, text: str) -> NoConnectionError:
        step = "give another peer's address, or another --key: two programs must not share a key"
        return NoConnectionError(Explanation("self", text, step), self._output.is_json)

    async def _connected(self, endpoint: Endpoint) -> Connection:
        try:
            return await dialed(endpoint, self._address, self._output, self._attempts)
        except DialError as error:
            raise NoConnectionError(of_dial(error), self._output.is_json) from error
        finally:
            # Also after Ctrl-C.
            self._tried()

    def _tried(self) -> None:
        attempts = self._attempts
        if self._address.name_protocol is not None and attempts:
            name = f"{len(attempts)} tried of /{self._address.name_protocol}/{self._address.host}"
            self._row("resolved", f"{name}, in {duration(attempts[0].began)}")
        for each in attempts:
            self._row("attempt", _told_of(each))
        self._output.event("attempts", attempts=[_facts(each) for each in attempts])

    def _handshake(self, connection: Connection) -> None:
        peer, expected = connection.peer_id, self._address.peer_id
        facts = connection.statistics()
        key = description(connection.public_key)
        as_expected = "none was expected: add it to the address" if expected is None else "as expected"
        self._row("peer id", f"{peer} ({as_expected})")
        self._row("host key", f"{key}, {b64encode(connection.public_key).decode()}")
        tls = connection.tls
        # The engine completes no handshake with another version of either.
        self._row("handshake", f"{duration(facts.handshake)}, QUIC version 1, TLS 1.3, ALPN {tls.alpn}")
        self._row("cipher", f"{tls.cipher_suite}, key exchange {tls.key_exchange}")
        certificate = next((each.certificate for each in self._attempts if each.certificate), None)
        if certificate is not None:
            self._row("certificate", certificates.told(certificate))
        self._row("our end", connection.local_address)
        self._output.event(
            "connected",
            peer_id=str(peer),
            expected_peer_id=None if expected is None else str(expected),
            address=connection.remote_address,
            local_address=connection.local_address,
            host_key_type=key,
            public_key=b64encode(connection.public_key).decode(),
            certificate=None if certificate is None else certificate._asdict(),
            handshake=facts.handshake,
            quic_version=1,
            tls_version="1.3",
            **tls._asdict(),
        )

    async def _identify(self, connection: Connection, timeout: float) -> None:
        """Ask what the peer tells. Its answer shows that no gate and no limit of the peer refused us."""
        asked = asyncio.create_task(identify(connection))
        end = asyncio.create_task(connection.closed())
        try:
            done, _ = await asyncio.wait({asked, end}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if asked in done:
                self._told(connection, await self._answer(asked, end))
            elif end in done:
                raise ended(end.result(), self._output)
            else:
                text = f"the peer completed the handshake and did not answer {IDENTIFY} within {timeout:g} s"
                step = "its program is stuck or overloaded: look into its log, or raise --timeout"
                raise CommandFailedError(Explanation("silent", text, step), self._output.is_json)
        finally:
            asked.cancel()
            end.cancel()
        self._path(connection)

    async def _answer(
        self, asked: asyncio.Task[Identification], end: asyncio.Task[ConnectionClosed]
    ) -> Identification | None:
        """What the peer told; None if it does not serve identify."""
        try:
            return asked.result()
        except NegotiationError as error:
            self._row("identify", str(error))
            return None
        except QUICError as error:
            # The stream is lost with the connection, or the peer reset it.
            done, _ = await asyncio.wait({end}, timeout=1)
            if done:
                raise ended(end.result(), self._output) from error
            self._row("identify", str(error))
            return None

    def _told(self, connection: Connection, found: Identification | None) -> None:
        if found is None:
            return
        # go-libp2p tells no version unless its program sets one.
        version = f" ({found.version})" if found.version else ""
        self._row("agent", f"{found.agent}{version}" or _NOT_TOLD)
        self._row("protocols", "  ".join(found.protocols) or _NOT_TOLD)
        for each in found.listen_addresses:
            self._row("listens on", each)
        own = connection.local_address
        nat = between(own, found.observed_address)
        self._row("we are", f"{found.observed_address or _NOT_TOLD} for the peer: {told(nat, own)}")
        self._output.event("identify", **asdict(found), nat=nat.value)

    def _flights(self, facts: ConnectionStatistics) -> None:
        """Told late, as HANDSHAKE_DONE arrives a round trip after the handshake is complete."""
        times = {name: getattr(facts, name) for name in _FLIGHTS}
        self._row("flights", ", ".join(_told_of_flight(*each) for each in times.items()))
        self._output.event("flights", **times)

    def _path(self, connection: Connection) -> None:
        facts = connection.statistics()
        self._flights(facts)
        sent, received, lost = facts.datagrams_sent, facts.datagrams_received, facts.packets_lost
        self._row("path", f"rtt {duration(facts.rtt)}, mtu {facts.mtu} so far, {_ECN[facts.ecn]}")
        self._row("window", size(facts.congestion_window))
        self._row("datagrams", f"{sent} sent, {received} received, {lost} packets lost")
        self._output.event("path", **facts._asdict())


def _told_of(attempt: DialAttempt) -> str:
    """One line. An attempt that failed has its cause only: the error that ends the command has the rest."""
    where = f"{attempt.address.partition('/p2p/')[0]} at {duration(attempt.began)}"
    cause = f": {of_dial(attempt.error).cause.replace('_', ' ')}" if attempt.error is not None else ""
    end = f" after {duration(attempt.ended - attempt.began)}" if attempt.ended is not None else ""
    sent = f" ({traffic(attempt)})" if attempt.result == "abandoned" else ""
    return f"{where}: {attempt.result}{end}{cause}{sent}"


def _told_of_flight(name: str, at: float | None) -> str:
    return f"{_FLIGHTS[name]} " + ("not yet" if at is None else f"at {duration(at)}")


def _facts(attempt: DialAttempt) -> dict[str, Any]:
    error, counted = attempt.error, attempt.statistics()
    return {
        "address": attempt.address,
        "began": attempt.began,
        "ended": attempt.ended,
        "result": attempt.result,
        "cause": None if error is None else of_dial(error).cause,
        "text": None if error is None else str(error),
        "initial_sent": None if counted is None else counted.initial_sent,
        "first_answer": None if counted is None else counted.first_answer,
        "datagrams_sent": 0 if counted is None else counted.datagrams_sent,
        "datagrams_received": 0 if counted is None else counted.datagrams_received,
    }
