"""A value that is set on our configuration class takes effect, also if it is py-libp2p's default.

`effective_config` reports the values in effect. The tests of the effects, and one here with real
connections, show that it is right.
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
from testkit.linked import listening
from testkit.near import near_transport

NAMES = [row.name for row in ROWS if row.reader is Reader.TRANSPORT]
# Each default of py-libp2p's two classes, and ours: values that could be mistaken for "not set".
DEFAULTS = sorted(
    {
        (name, getattr(config, name))
        for name in NAMES
        for config in (StockConfig(), ConnectionConfig(), QUICTransportConfig())
        if getattr(config, name, None) is not None
    },
    key=repr,
)
# Fields with another name here, or bounded by another field by default.
RENAMED = {("congestion_control_algorithm", "reno"): "newreno"}


def effective(config: StockConfig) -> dict[str, object]:
    return QUICTransport(create_new_key_pair().private_key, config).effective_config()


def assigned(name: str, value: Any) -> QUICTransportConfig:
    config = QUICTransportConfig()
    setattr(config, name, value)
    return config


@pytest.mark.parametrize(("name", "value"), DEFAULTS)
def test_a_default_that_was_set_takes_effect(name: str, value: Any) -> None:
    expected = RENAMED.get((name, value), value)
    given = QUICTransportConfig(**{name: value})
    assert effective(given)[name] == expected
    if (name, value) != ("connection_timeout", 30.0):
        # `new_host` assigns this one when it merges a ConnectionConfig that was not made for QUIC.
        assert effective(assigned(name, value))[name] == expected
    assert effective(copy.copy(given))[name] == expected
    assert effective(pickle.loads(pickle.dumps(given)))[name] == expected


@pytest.mark.parametrize("name", NAMES)
def test_our_default_takes_effect(name: str) -> None:
    config = QUICTransportConfig()
    default = getattr(config, name)
    if default is not None:
        assert effective(config)[name] == default
    # None leaves the value to the setting's other name.
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
def test_effective_values_combine_several_fields(values: dict[str, Any], name: str, expected: object) -> None:
    assert effective(QUICTransportConfig(**values))[name] == expected


@pytest.mark.parametrize(
    "values", [{"idle_timeout": 4.0, "keep_alive_interval": 5.0}, {"max_handshakes": 64, "retry_above": 256}]
)
def test_set_defaults_that_contradict_another_field_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(QUICInvalidConfigError):
        QUICTransportConfig(**values)


@dataclass
class Preset(QUICTransportConfig):
    """A class that a program derives."""

    max_connections: int = 300
    max_concurrent_streams: int = 100


def test_a_derived_class_sets_its_defaults() -> None:
    for config in (Preset(), Preset(linger=2), replace(Preset(), linger=2)):
        assert effective(config)["max_connections"] == 300
        assert effective(config)["max_concurrent_streams"] == 100


def test_defaults_of_the_stock_class_are_not_taken_as_set() -> None:
    assert effective(StockConfig()) == effective(QUICTransportConfig())
    assert effective(StockConfig(max_connections=301))["max_connections"] == 301


async def test_a_limit_of_connections_equal_to_the_default_holds() -> None:
    """300 is a default of py-libp2p's, which must not stand for 4096."""
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
    ("most", "swarm", "warning"),
    [
        (1000, None, "is 1000, and the swarm admits 250 inbound connections"),
        (60, 100, "is 60, and the swarm admits 50"),
        (60, 110, None),
        (None, None, None),
    ],
)
async def test_a_swarm_that_admits_fewer_connections_is_a_warning(
    most: int | None, swarm: int | None, warning: str | None, caplog: pytest.LogCaptureFixture
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
    assert len(lines) == (warning is not None)
    assert warning is None or warning in lines[0]
