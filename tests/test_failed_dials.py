"""A failed dial is one line at DEBUG, the text of its error, and neither says a thing twice.

Both parts of the package, for each kind of failure. The classes of the errors are in test_causes.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

import libp2p_quic.asyncio
from libp2p_quic import DialError, explain
from libp2p_quic._peer_dial import dial_all_addresses
from libp2p_quic.asyncio import EndpointConfig
from testkit.asyncio_ends import ends
from testkit.census import PATIENCE, eventually
from testkit.names import Names, free_port
from testkit.near import IP4, near_host, near_transport, swarm, transport_of

OTHER = ID.from_pubkey(create_new_key_pair().public_key)
# The kernel sends to no address of this block from a socket without SO_BROADCAST.
NO_ROUTE = "/ip4/255.255.255.255/udp/4001/quic-v1"
# The address is in the text once, as the program gave it.
BROADCAST = "address not reachable: it is the broadcast address (RFC 919): dial the peer's own address"
NO_NAME = "/dns4/name.invalid/udp/4001/quic-v1"


@pytest.fixture(autouse=True)
def at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "libp2p_quic")


@pytest.fixture
def silent() -> Iterator[str]:
    """A socket that answers nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"/ip4/127.0.0.1/udp/{bound.getsockname()[1]}/quic-v1"


def lines(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name == f"libp2p_quic.{name}"]


def repeated(text: str) -> list[str]:
    """Three terms in a row that ``text`` has twice."""
    terms = re.findall(r"[\w.'-]+", re.sub(r"/(?:ip|dns)\S+", "", text))
    found = [" ".join(terms[start : start + 3]) for start in range(len(terms) - 2)]
    return sorted({each for each in found if found.count(each) > 1})


def test_a_repetition_is_noticed() -> None:
    assert repeated("connection to X closed by us: connection closed by us (code 0x0)") == ["closed by us"]
    assert repeated("connection to X closed by us (code 0x0)") == []


@asynccontextmanager
async def far(**config: Any) -> AsyncIterator[tuple[ID, str]]:
    async with near_host(IP4, config=config) as host:
        yield host.get_id(), str(host.get_addrs()[0])


async def check_dial(
    caplog: pytest.LogCaptureFixture, address: str, limit: float = PATIENCE, **config: Any
) -> str:
    """Dial ``address``, which fails. Returns the text of the error."""
    dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=limit, **config)
    caplog.clear()
    with pytest.raises(DialError) as caught:
        await dialer.dial(Multiaddr(address))
    text = str(caught.value)
    assert lines(caplog, "transport") == [text]
    assert repeated(text) == []
    await dialer.close()
    return text


async def test_dials_to_addresses_where_nobody_answers(caplog: pytest.LogCaptureFixture, silent: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    assert "port unreachable" in await check_dial(caplog, f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1", 0.5)
    assert "did not answer within" in await check_dial(caplog, silent, 0.5)
    assert await check_dial(caplog, NO_NAME) == "cannot resolve /dns4/name.invalid: Name or service not known"
    assert await check_dial(caplog, NO_ROUTE) == f"failed to dial {NO_ROUTE}: {BROADCAST}"


async def test_dials_that_one_of_the_peers_refuses(caplog: pytest.LogCaptureFixture) -> None:
    async with far() as (peer, address):
        wrong = address.replace(str(peer), str(OTHER))
        assert "Peer ID mismatch" in await check_dial(caplog, wrong)
        # The listener is in this process. A line of the dialer's engine would say it again.
        about = [each for each in lines(caplog, "engine") if "expected" in each]
        assert all(each.startswith("inbound handshake failed: ") for each in about)
        assert "gate_peer" in await check_dial(caplog, address, gate_peer=lambda _peer, _maddr: False)
    async with far(max_connections=1) as (_, address):
        first = near_transport()
        await first.dial(Multiaddr(address))
        assert "(code 0x2)" in await check_dial(caplog, address)
        await first.close()


async def test_connects_of_a_host(
    caplog: pytest.LogCaptureFixture, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`host.connect` to a peer whose gate denies us, and to one with two dead addresses."""
    # The refusal ends the wait, however busy the machine is.
    monkeypatch.setattr("libp2p_quic._refusal_delay.FREE", PATIENCE)
    async with (
        far(gate_peer=lambda _peer, _maddr: False) as (peer, address),
        near_host(config={"CONNECTION_HANDSHAKE_TIMEOUT": 3.0}) as host,
    ):
        swarm(host).retry_config.max_retries = 0
        undo = dial_all_addresses(swarm(host), transport_of(host))
        caplog.clear()
        with pytest.raises(SwarmException) as gated:
            await host.connect(PeerInfo(peer, [Multiaddr(address)]))
        assert lines(caplog, "transport") == [explain(gated.value)]
        assert repeated(explain(gated.value)) == []
        closed = rf"connection to {host.get_id()} at /ip4/\S+ closed by us \(code 0x1007\): gated"
        assert await eventually(lambda: any(re.fullmatch(closed, it) for it in lines(caplog, "connection")))

        caplog.clear()
        dead = [Multiaddr(silent), Multiaddr(f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1")]
        with pytest.raises(SwarmException) as unanswered:
            await host.connect(PeerInfo(OTHER, dead))
        (line,) = lines(caplog, "transport")
        assert line == explain(unanswered.value)
        assert [line.count(f"{each}/p2p/{OTHER}") for each in dead] == [1, 1]
        undo()


# asyncio


async def check_connect(
    caplog: pytest.LogCaptureFixture, dialer: libp2p_quic.asyncio.Endpoint, to: str
) -> str:
    """Dial ``to``, which fails. Returns the text of the error."""
    caplog.clear()
    with pytest.raises(libp2p_quic.asyncio.DialError) as caught:
        await dialer.connect(to)
    text = str(caught.value)
    assert [each for each in lines(caplog, "endpoint") if "listening" not in each] == [text]
    assert repeated(text) == []
    return text


async def ignore(_stream: libp2p_quic.asyncio.Stream) -> None:
    pass


def test_dials_of_an_endpoint(caplog: pytest.LogCaptureFixture, silent: str) -> None:
    async def main() -> None:
        quick = EndpointConfig(handshake_timeout=0.5)
        async with ends(quick) as both:
            dial = partial(check_connect, caplog, both.near)
            assert "port unreachable" in await dial(f"/ip4/127.0.0.1/udp/{free_port()}/quic-v1")
            assert "did not answer within" in await dial(silent)
            assert re.fullmatch(r"cannot resolve /dns4/name\.invalid: [^\[\]]+", await dial(NO_NAME))
            assert await dial(NO_ROUTE) == f"failed to dial {NO_ROUTE}: {BROADCAST}"
            assert "port 0 cannot be dialed" in await dial("/ip4/127.0.0.1/udp/0/quic-v1")
        async with ends() as both:
            dial = partial(check_connect, caplog, both.near)
            assert "Peer ID mismatch" in await dial(both.address.replace(str(both.far.peer_id), str(OTHER)))
        async with ends(None, EndpointConfig(max_connections=1)) as both:
            dial = partial(check_connect, caplog, both.near)
            near, accepted = await both.connected()
            serving = asyncio.ensure_future(accepted.serve({"/none": ignore}))
            assert "(code 0x2)" in await dial(both.address)
            near.close(5, "enough")
            await serving
            ended = f"connection to {both.near.peer_id} at {accepted.remote_address} closed by the peer"
            assert lines(caplog, "connection") == [f"{ended} (code 0x5): enough"]
        gated = EndpointConfig(gate_peer=lambda _peer, _address: False)
        async with ends(gated) as both:
            assert "gate_peer" in await check_connect(caplog, both.near, both.address)

    asyncio.run(main())
