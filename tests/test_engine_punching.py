"""The binding's wait for an inbound connection and its punches, without an event loop; all that is timed
or bounded is in crates/engine/tests/simulation/punching.rs.
"""

from __future__ import annotations

import socket

import pytest

from libp2p_quic._engine_errors import EndpointClosedError
from testkit.engine import pair


def test_the_waiter_learns_of_the_next_inbound_connection_and_the_listener_accepts_it() -> None:
    with pair() as both:
        waiter = both.far.next_inbound(both.near_identity.peer_id)
        assert waiter.arrived_nowait() is None
        near, accepted = both.connected()
        arrived = both.take(waiter.arrived_nowait, waiter.arrived)
        assert arrived == accepted.remote_address
        assert accepted.peer_id == both.near_identity.peer_id
        waiter.close()
        waiter.close()
        with pytest.raises(EndpointClosedError, match="the wait was closed"):
            waiter.arrived_nowait()
        assert near.closed_nowait() is None
        assert accepted.closed_nowait() is None


def test_punches_leave_from_the_listening_port_until_the_wait_is_closed() -> None:
    with pair() as both, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
        victim.bind(("127.0.0.1", 0))
        victim.settimeout(20)
        waiter = both.far.next_inbound(both.near_identity.peer_id)
        host, port = victim.getsockname()
        waiter.punch(host, port, 5.0)
        punch, source = victim.recvfrom(2000)
        assert source == both.listener.local_address
        assert len(punch) == 64
        assert punch[0] & 0xC0 == 0x80
        victim.recvfrom(2000)
        waiter.close()


def test_addresses_that_must_not_be_punched_to_are_refused() -> None:
    with pair() as both:
        waiter = both.far.next_inbound(both.near_identity.peer_id)
        for host, port in [("192.0.2.1", 53), ("224.0.0.1", 4001), ("::1", 4001), ("nowhere", 4001)]:
            with pytest.raises(ValueError, match=r"192\.0\.2\.1|224\.0\.0\.1|::1|nowhere"):
                waiter.punch(host, port, 1.0)
        with pytest.raises(ValueError, match="-1"):
            waiter.punch("127.0.0.1", 4001, -1.0)
        waiter.close()
        with pytest.raises(EndpointClosedError):
            waiter.punch("127.0.0.1", 4001, 1.0)


def test_a_dial_from_a_fresh_port_does_not_leave_from_the_listening_one() -> None:
    with pair() as both:
        listener = both.near.listen("127.0.0.1", 0)
        host, port = both.listener.local_address
        for fresh_port in (False, True):
            near = both.near.connect(host, port, both.far_identity.peer_id, fresh_port=fresh_port)
            both.take(near.connected_nowait, near.connected)
            far = both.take(both.listener.accept_nowait, both.listener.acceptable)
            assert (far.remote_address == listener.local_address) is not fresh_port
        with pytest.raises(ValueError, match="not for a fresh one"):
            both.near.connect(host, port, None, fresh_port=True, punched_rtt=0.1)
        listener.close()


def test_a_waiter_ends_with_its_endpoint() -> None:
    with pair() as both:
        waiter = both.far.next_inbound(both.near_identity.peer_id)
    with pytest.raises(EndpointClosedError):
        waiter.arrived_nowait()
