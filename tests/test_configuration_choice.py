"""What is set on our configuration class is what happens, whatever value it has.

`effective_config` says what happens; that it tells the truth, the tests of the effects show, and
one here with real connections.
"""

from __future__ import annotations

import copy
import logging
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.exceptions import QUICDialError, QUICInvalidConfigError

from libp2p_quic import QUICTransport, QUICTransportConfig
from libp2p_quic._config_table import ROWS, Reader
from peers.linked import listening
from peers.near import near_transport

NAMES = [row.name for row in ROWS if row.reader is Reader.TRANSPORT]
# Each default of py-libp2p's two classes, and ours: what might be taken for "not set".
DEFAULTS = sorted(
    {
        (name, getattr(config, name))
        for name in NAMES
        for config in (StockConfig(), ConnectionConfig(), QUICTransportConfig())
        if getattr(config, name, None) is not None
    },
    key=repr,
)
# py-libp2p's name for it is another one here, or another field bounds it by default.
RENAMED = {("congestion_control_algorithm", "reno"): "newreno"}


def effective(config: StockConfig) -> dict[str, object]:
    return QUICTransport(create_new_key_pair().private_key, config).effective_config()


def assigned(name: str, value: Any) -> QUICTransportConfig:
    config = QUICTransportConfig()
    setattr(config, name, value)
    return config


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_a_default_that_was_chosen_is_what_happens(name: str, value: Any) -> None:
    expected = RENAMED.get((name, value), value)
    given = QUICTransportConfig(**{name: value})
    assert effective(given)[name] == expected
    if (name, value) != ("connection_timeout", 30.0):
        # `new_host` assigns this one when it merges a ConnectionConfig that nobody made for QUIC.
        assert effective(assigned(name, value))[name] == expected
    assert effective(copy.copy(given))[name] == expected
    assert effective(pickle.loads(pickle.dumps(given)))[name] == expected


@pytest.mark.parametrize("name", NAMES)
def test_our_default_is_what_happens(name: str) -> None:
    config = QUICTransportConfig()
    default = getattr(config, name)
    if default is not None:
        assert effective(config)[name] == default
    # None is how another name of the same setting is left alone.
    assert effective(QUICTransportConfig(**{name: default})) == effective(config)
    assert effective(replace(config)) == effective(config)


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ({"CONNECTION_HANDSHAKE_TIMEOUT": 10.0, "connection_timeout": 5.0}, "connection_timeout", 10.0),
        ({"linger": 1.0, "connection_close_timeout": 0.0}, "linger", 1.0),
        ({"idle_timeout": 30.0, "max_idle_timeout": None}, "max_idle_timeout", 30.0),
        ({"STREAM_FLOW_CONTROL_WINDOW": 10_000_000, "stream_window": 65_536}, "stream_window", 10_000_000),
        ({"MAX_INCOMING_STREAMS": 1024, "max_concurrent_streams": 7}, "MAX_CONCURRENT_STREAMS", 1024),
        ({"idle_timeout": 4.0}, "keep_alive_interval", 2.0),
        ({"max_handshakes": 64}, "retry_above", 16),
        ({"initial_max_data": 65_536}, "stream_window", 65_536),
    ],
)
def test_effective_values_tell_what_came_of_several_fields(
    values: dict[str, Any], name: str, expected: object
) -> None:
    assert effective(QUICTransportConfig(**values))[name] == expected


@pytest.mark.parametrize(
    "values", [{"idle_timeout": 4.0, "keep_alive_interval": 5.0}, {"max_handshakes": 64, "retry_above": 256}]
)
def test_chosen_defaults_that_contradict_another_field_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(QUICInvalidConfigError):
        QUICTransportConfig(**values)


@dataclass
class Preset(QUICTransportConfig):
    """What a program may derive."""

    max_connections: int = 300
    max_concurrent_streams: int = 100


def test_a_derived_class_sets_its_defaults() -> None:
    for config in (Preset(), Preset(linger=2), replace(Preset(), linger=2)):
        assert effective(config)["max_connections"] == 300
        assert effective(config)["max_concurrent_streams"] == 100


def test_defaults_of_the_stock_class_are_no_choice() -> None:
    assert effective(StockConfig()) == effective(QUICTransportConfig())
    assert effective(StockConfig(max_connections=301))["max_connections"] == 301


async def test_as_many_connections_as_were_asked_for() -> None:
    """300 is a default of py-libp2p's, for which 4096 connections were admitted."""
    most = 300
    async with listening(max_connections=most) as (listener, _):
        dialer, last = near_transport(), near_transport()
        address = listener.get_addrs()[0]
        for _ in range(most):
            await dialer.dial(address)
        with pytest.raises(QUICDialError, match="refused by the peer"):
            await last.dial(address)
        await last.close()
        await dialer.close()


@pytest.mark.parametrize(
    ("most", "swarm", "told"),
    [
        (1000, None, "is 1000, and the swarm admits 250 inbound connections"),
        (60, 100, "is 60, and the swarm admits 50"),
        (60, 110, None),
        (None, None, None),
    ],
)
async def test_a_swarm_that_admits_fewer_connections_is_a_warning(
    most: int | None, swarm: int | None, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    config = QUICTransportConfig() if most is None else QUICTransportConfig(max_connections=most)
    of_swarm = None
    if swarm is not None:
        of_swarm = ConnectionConfig(max_connections=swarm, low_watermark=60, high_watermark=100)
    pair = create_new_key_pair()
    transports = [QUICTransport(pair.private_key, config)]
    async with new_host(key_pair=pair, transports=transports, connection_config=of_swarm).run(
        listen_addrs=[]
    ):
        lines = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    lines = [each for each in lines if "max_connections of the transport" in each]
    assert len(lines) == (told is not None)
    assert told is None or told in lines[0]
