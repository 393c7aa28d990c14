"""Limits and gates of connections, as a program and its peers see them.

Two transports in one process; the engine's simulation tests the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.transport.quic.exceptions import QUICConnectionClosedError
from multiaddr import Multiaddr

from libp2p_quic import QUICConnection, QUICStream, QUICTransport
from libp2p_quic.exceptions import DialError, HandshakeRefusedError
from testkit.census import eventually
from testkit.linked import linked, listening, transport_behind
from testkit.machines import machines
from testkit.near import IP4, IP6, near_host, near_transport, swarm
from testkit.payload import MIB

# RFC 9000 section 20.1, CONNECTION_REFUSED; libp2p's codes for connections.
REFUSED, RESOURCE_LIMIT, GATED = 0x2, 0x1001, 0x1007


async def refusal(dialer: QUICTransport, address: Multiaddr) -> HandshakeRefusedError:
    with pytest.raises(HandshakeRefusedError) as caught:
        await dialer.dial(address)
    return caught.value


async def ending(connection: QUICConnection) -> QUICConnectionClosedError:
    with trio.fail_after(20), pytest.raises(QUICConnectionClosedError) as caught:
        await connection.accept_stream()
    return caught.value


@pytest.fixture
def network() -> Iterator[None]:
    """A network namespace with addresses outside of the loopback network, which has no limit."""
    with machines(1) as (machine,):
        for host in ("10.71.1.1/8", "10.71.1.2/8", "fd71:1::1/64 nodad"):
            machine.ip(f"addr add {host} dev lo")
        with machine.entered():
            yield


NETWORK = "/ip4/10.71.1.1/udp/0/quic-v1"


@pytest.mark.usefixtures("network")
async def test_connections_of_one_address_beyond_the_limit_are_refused_with_a_code() -> None:
    async with listening(NETWORK, max_connections_per_address=2) as (listener, connections):
        dialer = near_transport()
        address = listener.get_addrs()[0]
        kept = [await dialer.dial(address) for _ in range(2)]
        for _ in kept:
            await connections.receive()
        error = await refusal(dialer, address)
        assert error.error_code == REFUSED
        assert "refused by the peer" in str(error)
        assert "too many, in all or from this address" in str(error)
        assert str(address) in str(error)
        assert all(each.is_established for each in kept)
        assert listener.get_stats()["connections_rejected"] >= 1
        await dialer.close()


@pytest.mark.usefixtures("network")
@pytest.mark.parametrize(("bits", "is_one_address"), [(32, False), (8, True)])
async def test_ipv4_prefix_says_what_one_address_is(bits: int, is_one_address: bool) -> None:
    async with listening(NETWORK, max_connections_per_address=1, ipv4_prefix=bits) as (listener, connections):
        address = listener.get_addrs()[0]
        first, second = near_transport(), near_transport()
        # The system would choose 10.71.1.1; a listener of the same network is preferred.
        listener = second.create_listener(refuse)
        await listener.listen(Multiaddr("/ip4/10.71.1.2/udp/0/quic-v1"))
        await first.dial(address)
        await connections.receive()
        if is_one_address:
            assert (await refusal(second, address)).error_code == REFUSED
        else:
            await second.dial(address)
        await first.close()
        await second.close()


@pytest.mark.usefixtures("network")
async def test_ipv6_prefix_of_one_address_alone() -> None:
    """The engine's tests cover different prefixes."""
    far, dialer = near_transport(max_connections_per_address=1, ipv6_prefix=128), near_transport()
    listener = far.create_listener(lambda connection: connection.start())
    await listener.listen(Multiaddr("/ip6/fd71:1::1/udp/0/quic-v1"))
    await dialer.dial(listener.get_addrs()[0])
    assert (await refusal(dialer, listener.get_addrs()[0])).error_code == REFUSED
    await dialer.close()
    await far.close()


@pytest.mark.parametrize("listen", [IP4, IP6])
async def test_the_loopback_has_no_limit_of_one_address(listen: str) -> None:
    """Simulations with hundreds of hosts run on one machine; the default limit is 256."""
    async with listening(listen) as (listener, connections):
        dialer = near_transport()
        with trio.fail_after(50):
            # In batches, because the backlog of accepted connections has a limit, too.
            for _ in range(6):
                async with trio.open_nursery() as nursery:
                    for _ in range(50):
                        nursery.start_soon(dialer.dial, listener.get_addrs()[0])
                    for _ in range(50):
                        await connections.receive()
        assert listener.get_stats()["connections_rejected"] == 0
        await dialer.close()


async def read_all(stream: QUICStream) -> None:
    while await stream.read(MIB):
        pass


@pytest.mark.parametrize(("budget", "is_all_taken"), [({}, True), ({"receive_budget": 65_536}, False)])
async def test_receive_budget_holds_back_writers_without_a_reader(
    budget: dict[str, Any], is_all_taken: bool
) -> None:
    async with linked(far=budget) as link:
        ours, theirs = await link.stream()
        with trio.move_on_after(20 if is_all_taken else 1) as scope:
            await ours.write(bytes(4 * MIB))
        assert scope.cancelled_caught is not is_all_taken
        # Reading lets the writer continue.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, theirs)
            await ours.write(bytes(MIB))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("budget", "most"), [({}, None), ({"send_budget": 65_536}, 65_536 + 4096)])
async def test_send_budget_bounds_bytes_for_peers_that_do_not_read(
    budget: dict[str, Any], most: int | None
) -> None:
    async with linked(near=budget, far={"receive_budget": 65_536}) as link:
        ours, theirs = await link.stream()

        def held() -> int:
            return link.dialer._open_endpoint().engine.census()["unacked"]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.write, bytes(4 * MIB))
            if most is None:
                assert await eventually(lambda: held() >= 262_144)
            else:
                assert not await eventually(lambda: held() > most, within=1)
            assert nursery.child_tasks, "all was taken"
            nursery.cancel_scope.cancel()
        # Reading lets the writer continue in small steps.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, theirs)
            await ours.write(bytes(MIB))
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "limits",
    [{"retry_above": 0}, {"max_handshakes_per_address": 3}, {"max_handshakes": 2, "retry_above": None}],
)
async def test_many_dials_at_once_succeed_under_any_limit_of_handshakes(limits: dict[str, Any]) -> None:
    async with listening(**limits) as (listener, connections):
        dialer = near_transport(CONNECTION_HANDSHAKE_TIMEOUT=60)
        address = listener.get_addrs()[0]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(dialer.dial, address)
            for _ in range(6):
                await connections.receive()
        await dialer.close()


async def test_a_full_backlog_closes_with_the_code_for_a_limit() -> None:
    async with listening(max_accept_backlog=1) as (listener, _):
        dialer = near_transport()
        # This task blocks the loop that would accept connections.
        assert listener._socket is not None
        host, port = listener._socket.engine.local_address
        begun = [dialer._open_endpoint().engine.connect(host, port, None) for _ in range(3)]
        dialer._open_endpoint().engine.flush()
        deadline = trio.current_time() + 20
        while sum(each.closed_nowait() is not None for each in begun) < 2:
            assert trio.current_time() < deadline
        codes = {lost.code for each in begun if (lost := each.closed_nowait()) is not None}
        assert codes == {RESOURCE_LIMIT}
        await dialer.close()


# Addresses


async def test_denied_addresses_are_refused_until_the_list_changes() -> None:
    async with linked() as link:
        far = transport_behind(link.listener)
        address = link.listener.get_addrs()[0]
        far.deny_addresses(["192.0.2.1", "127.0.0.0/8"])
        assert (await refusal(link.dialer, address)).error_code == REFUSED
        assert link.dialed.is_established, "an open connection stays open"
        far.deny_addresses(["192.0.2.1"])
        await link.dialer.dial(address)


async def refuse(connection: QUICConnection) -> None:
    raise AssertionError(f"{connection} got in")


async def test_addresses_may_be_denied_before_there_is_a_listener() -> None:
    transport, dialer = near_transport(), near_transport()
    transport.deny_addresses(["127.0.0.1"])
    with pytest.raises(ValueError, match="nonsense"):
        transport.deny_addresses(["nonsense"])
    listener = transport.create_listener(refuse)
    await listener.listen(Multiaddr(IP4))
    assert (await refusal(dialer, listener.get_addrs()[0])).error_code == REFUSED
    await dialer.close()
    await transport.close()


async def test_the_swarms_deny_list_sends_the_reason() -> None:
    async with near_host(IP4) as host:
        swarm(host).connection_gate.add_to_deny_list("127.0.0.1")
        dialer = near_transport()
        connection = await dialer.dial(host.get_addrs()[0])
        error = await ending(connection)
        assert error.error_code == GATED
        assert "closed by the peer" in str(error)
        assert swarm(host).get_total_connections() == 0
        swarm(host).connection_gate.remove_from_deny_list("127.0.0.1")
        await dialer.dial(host.get_addrs()[0])
        assert await eventually(lambda: swarm(host).get_total_connections() == 1)
        await dialer.close()


# Peers


async def test_the_peer_gate_runs_before_the_swarm() -> None:
    asked: list[tuple[ID, str]] = []
    welcome: set[ID] = set()

    def gate(peer_id: ID, maddr: Multiaddr) -> bool:
        asked.append((peer_id, str(maddr)))
        return peer_id in welcome

    async with near_host(IP4, config={"gate_peer": gate}) as host:
        denied, admitted = near_transport(), near_transport()
        welcome.add(admitted._peer_id)
        gated = await denied.dial(host.get_addrs()[0])
        error = await ending(gated)
        assert error.error_code == GATED
        assert "gated" in str(error)
        await admitted.dial(host.get_addrs()[0])
        assert await eventually(lambda: bool(swarm(host).get_connections(admitted._peer_id)))
        assert not swarm(host).get_connections(denied._peer_id)
        assert [peer for peer, _ in asked] == [denied._peer_id, admitted._peer_id]
        assert all(maddr.startswith("/ip4/127.0.0.1/udp/") for _, maddr in asked)
        await denied.close()
        await admitted.close()


async def test_the_gate_applies_to_dialed_peers() -> None:
    async with listening() as (listener, connections):
        dialer = near_transport(gate_peer=lambda _peer, _maddr: False)
        with pytest.raises(DialError, match="gate_peer") as caught:
            await dialer.dial(listener.get_addrs()[0])
        assert caught.value.error_code == GATED
        error = await ending(await connections.receive())
        assert error.error_code == GATED
        await dialer.close()


def test_a_string_as_deny_list_is_refused() -> None:
    with pytest.raises(ValueError, match=r"takes a list of addresses: \['192\.0\.2\.0/24'\]"):
        near_transport().deny_addresses("192.0.2.0/24")
