"""Generated addresses and configurations: each is accepted, or refused with its documented error.

Checks for hypothesis. `test_fuzz_inputs` runs a few examples, `make fuzz` as many as its time allows.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import multiaddr.exceptions
from hypothesis import example, given
from hypothesis import strategies as st
from libp2p.transport.quic.exceptions import QUICError, QUICInvalidMultiaddrError
from multiaddr import Multiaddr

from libp2p_quic import QUICTransportConfig
from libp2p_quic._addr import QUICAddress, to_multiaddr
from libp2p_quic._config import UnusedSettingWarning, engine_config, limits
from libp2p_quic._engine import Config
from libp2p_quic._engine_errors import ConfigError

PEER = "12D3KooWM6CgA9iBFZmcYAHA6A2qvbAxqfkmrYiRQuz3XEsk4Ksv"
PARTS = st.sampled_from(
    [
        "/ip4/127.0.0.1",
        "/ip4/0.0.0.0",
        "/ip6/::1",
        "/ip6/::ffff:1.2.3.4",
        "/ip6zone/eth0",
        "/dns/example.org",
        "/dns4/a",
        "/dns6/b",
        "/dnsaddr/c",
        "/udp/0",
        "/udp/4001",
        "/udp/65535",
        "/tcp/1",
        "/quic-v1",
        "/quic",
        "/webtransport",
        f"/p2p/{PEER}",
        "/p2p-circuit",
        "/ws",
    ]
)
ADDRESSES = st.one_of(
    st.lists(PARTS, max_size=7).map("".join),
    st.text(max_size=60),
    st.tuples(st.lists(PARTS, max_size=4).map("".join), st.text(max_size=20)).map("/".join),
)


def _check(maddr: Multiaddr) -> None:
    for parse in (QUICAddress.parse, QUICAddress.parse_literal):
        try:
            address = parse(maddr)
        except QUICInvalidMultiaddrError as error:
            assert str(error)
            continue
        assert 0 <= address.port <= 65_535
        assert address.host
        if address.name_protocol is None:
            again = QUICAddress.parse(to_multiaddr(address.host, address.port, address.protocol))
            assert (again.port, again.protocol) == (address.port, address.protocol)
            assert again.name_protocol is None


@given(ADDRESSES)
def addresses(text: str) -> None:
    try:
        maddr = Multiaddr(text)
    except (multiaddr.exceptions.Error, ValueError):
        # py-multiaddr refuses it.
        return
    _check(maddr)


@given(st.binary(max_size=80))
@example(b"*!\x00\x80")  # A zone that is not UTF-8: `items` returns it, and printing it fails.
@example(b"\x80")  # It ends within a varint: py-multiaddr raises no error of its own.
@example(b"5\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01")  # A name of 2**63 bytes, more than Python can ask for.
def addresses_in_bytes(data: bytes) -> None:
    try:
        maddr = Multiaddr(data)
    except (multiaddr.exceptions.Error, ValueError):
        return
    _check(maddr)


NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62 - 1, 2**62, 2**64, 10**30, 1e9, 1e-9]),
    st.floats(),
)
VALUES = st.one_of(
    NUMBERS, st.none(), st.booleans(), st.text(max_size=8), st.lists(st.text(max_size=3), max_size=2)
)
NAMES = st.sampled_from(sorted(each.name for each in fields(QUICTransportConfig) if each.init))


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def configurations(values: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedSettingWarning)
        try:
            config = QUICTransportConfig(**values)
        except QUICError as error:
            assert str(error)
            return
        # A second check of a valid configuration passes, too.
        engine_config(config)
        for value in vars(limits(config)).values():
            assert not (isinstance(value, float) and math.isnan(value))


ENGINE = {
    "handshake_timeout": NUMBERS,
    "idle_timeout": NUMBERS,
    "keep_alive_interval": st.one_of(NUMBERS, st.none()),
    "linger": NUMBERS,
    "initial_rtt": NUMBERS,
    "stream_receive_window": NUMBERS,
    "connection_receive_window": NUMBERS,
    "send_window": NUMBERS,
    "read_buffer": NUMBERS,
    "write_buffer": NUMBERS,
    "max_incoming_streams": NUMBERS,
    "max_accept_backlog": NUMBERS,
    "max_datagram_size": NUMBERS,
    "congestion_control": st.one_of(st.sampled_from(["bbr", "cubic", "newreno"]), st.text(max_size=5)),
}


@given(st.dictionaries(st.sampled_from(sorted(ENGINE)), st.none(), max_size=4), st.data())
def engine_configurations(names: dict[str, None], data: st.DataObject) -> None:
    values: dict[str, Any] = {name: data.draw(ENGINE[name], label=name) for name in names}
    try:
        Config(**values)
    except ConfigError as error:
        assert error.field
    except (OverflowError, TypeError) as error:
        # Not a number in the range of the field.
        assert str(error)


CHECKS: list[Callable[[], None]] = [addresses, addresses_in_bytes, configurations, engine_configurations]
