"""The configuration as an object: what it accepts, refuses and warns of, and its documentation.

Effects on connections are in test_configuration_effects. Opens no connections.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.config import ConnectionConfig
from libp2p.network.swarm import Swarm
from libp2p.transport.quic.config import QUICTransportConfig as StockConfig
from libp2p.transport.quic.config import create_stream_config_for_use_case
from libp2p.transport.quic.exceptions import QUICInvalidConfigError

from libp2p_quic import QUICTransport, QUICTransportConfig, UnusedSettingWarning, _config, _engine
from libp2p_quic._config_table import ORDERED, ROWS, Reader, Row
from libp2p_quic.exceptions import InvalidConfigError
from testkit.near import installed
from tools import configuration_page

ROW = {row.name: row for row in ROWS}
UNUSED = [row for row in ROWS if row.reader is Reader.NOBODY]
SWARM = [row for row in ROWS if row.reader is Reader.SWARM]
PRESETS = ("high_throughput", "low_latency", "many_streams", "memory_constrained")
FOUNDING: dict[str, Any] = {
    "max_idle_timeout": 60.0,
    "keep_alive_interval": 15.0,
    "disable_active_migration": True,
    "initial_max_data": 10_000_000,
    "initial_max_stream_data_bidirectional_local": 1_000_000,
    "initial_max_stream_data_bidirectional_remote": 1_000_000,
    "initial_max_streams_bidirectional": 100,
    "initial_max_streams_unidirectional": 0,
}


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the warnings that were issued."""
    monkeypatch.setattr(_config, "_warned", set())


def transport(config: StockConfig) -> QUICTransport:
    return QUICTransport(create_new_key_pair().private_key, config)


def ours(**values: Any) -> QUICTransportConfig:
    return QUICTransportConfig(**values)


def defaults(of: type) -> dict[str, Any]:
    return {
        each.name: each.default if each.default_factory is MISSING else each.default_factory()
        for each in fields(of)
    }


def another(row: Row) -> Any:
    """A valid value of the field other than its default."""
    default = defaults(QUICTransportConfig)[row.name]
    candidates = [
        not default,
        0.5,
        1,
        2,
        7000,
        "bbr",
        ["other"],
        ["192.0.2.1"],
        "round_robin",
        ssl.CERT_REQUIRED,
        100_000,
        isinstance,
    ]
    return next(value for value in candidates if row.kind.accepts(value) and value != default)


# What it is


def test_every_field_is_in_the_table_once() -> None:
    names = [row.name for row in ROWS]
    assert sorted(names) == sorted(defaults(QUICTransportConfig))
    assert {name for pair in ORDERED for name in pair} <= set(names)


def test_the_page_matches_the_table() -> None:
    expected = configuration_page.page()
    assert configuration_page.PAGE.read_text() == expected, "run: python -m tools.configuration_page"


def test_the_defaults_are_the_engines() -> None:
    # Our class states the defaults again, for the constructor's signature and the page.
    expected = _engine.Config.defaults()
    # py-libp2p's `/quic` listeners and dials need it; a program that uses the engine alone does not.
    expected["accept_draft_29"] = True
    values = _config._engine_values(QUICTransportConfig())
    assert values == {name: expected[name] for name in values}
    # No field of our class sets these.
    assert expected.keys() - values.keys() == {"segmentation_offload", "send_window"}


def test_it_is_accepted_where_the_stock_class_is() -> None:
    config = QUICTransportConfig()
    assert isinstance(config, StockConfig)
    assert isinstance(config, ConnectionConfig)
    # All methods of the stock class work on it.
    assert config.get_stream_config_dict()["stream_flow_control_window"] == 10_000_000


def test_names_of_the_transport_parameters_are_accepted() -> None:
    transport(QUICTransportConfig(**FOUNDING))


@pytest.mark.parametrize("name", defaults(StockConfig))
def test_every_stock_field_is_accepted_with_its_stock_default(name: str) -> None:
    """By our class, by keyword, and in an object of the stock class."""
    value = defaults(StockConfig)[name]
    assert getattr(QUICTransportConfig(**{name: value}), name) == value
    transport(StockConfig(**{name: value}))


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_of_py_libp2p_work(preset: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedSettingWarning)
        transport(create_stream_config_for_use_case(preset))


def test_defaults_of_the_stock_class_do_not_count_as_set() -> None:
    stock, ours = StockConfig(), QUICTransportConfig()
    assert _config.limits(stock) == _config.limits(ours)
    for setting in {row.sets for row in ROWS if row.sets}:
        assert _config._setting(stock, setting) == _config._setting(ours, setting), setting


# Which name counts


@pytest.mark.parametrize("setting", sorted({row.sets for row in ROWS if row.sets}))
def test_the_first_name_that_was_set_counts(setting: str) -> None:
    rows = [row for row in ROWS if row.sets == setting]
    for first in range(len(rows)):
        if rows[first].name == "initial_max_streams_unidirectional":
            continue
        chosen = {row.name: another(row) for row in rows[first:]}
        config = (
            StockConfig() if all(hasattr(StockConfig, name) for name in chosen) else QUICTransportConfig()
        )
        for name, value in chosen.items():
            setattr(config, name, value)
        assert _config._setting(config, setting) == chosen[rows[first].name], chosen


def test_a_default_keep_alive_is_shortened_by_a_short_idle_timeout() -> None:
    assert _config._silence(QUICTransportConfig(idle_timeout=4))["keep_alive_interval"] == 2
    assert _config._silence(QUICTransportConfig(idle_timeout=60))["keep_alive_interval"] == 5
    assert _config._silence(QUICTransportConfig(keep_alive_interval=None))["keep_alive_interval"] is None


def test_default_windows_are_limited_by_windows_that_were_set() -> None:
    wide = _config._windows(QUICTransportConfig(STREAM_FLOW_CONTROL_WINDOW=50_000_000))
    assert wide["connection_receive_window"] == wide["stream_receive_window"] == 50_000_000
    narrow = _config._windows(QUICTransportConfig(initial_max_data=70_000))
    assert narrow["connection_receive_window"] == narrow["stream_receive_window"] == 70_000
    bounded = _config._windows(QUICTransportConfig(MAX_STREAM_RECEIVE_BUFFER=100_000))
    assert bounded["stream_receive_window"] + bounded["read_buffer"] == 100_000


# Invalid values


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_value_of_the_wrong_type_is_refused_by_name(row: Row) -> None:
    wrong: list[Any] = [object(), {}, math.nan, -1, b"1"]
    wrong.append(1 if row.kind.unit in ("bool", "text", "list", "name") else True)
    if row.name == "verify_mode":
        # A bool is accepted as a number.
        wrong.remove(True)
    for value in wrong:
        with pytest.raises(QUICInvalidConfigError, match=rf"^{row.name} must be ") as refused:
            QUICTransportConfig(**{row.name: value})
        assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_field_that_was_set_later_is_checked_by_the_transport(row: Row) -> None:
    for config in (QUICTransportConfig(), StockConfig()):
        setattr(config, row.name, object())
        with pytest.raises(QUICInvalidConfigError, match=rf"^{row.name} must be "):
            transport(config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("idle_timeout", 0),
        ("idle_timeout", math.inf),
        ("CONNECTION_HANDSHAKE_TIMEOUT", 0),
        ("max_datagram_size", 1199),
        ("max_datagram_size", 65_528),
        ("congestion_control_algorithm", "guess"),
        ("STREAM_FLOW_CONTROL_WINDOW", 0),
        ("initial_max_data", 2**62),
        ("MAX_INCOMING_STREAMS", 2**32),
        ("initial_max_streams_unidirectional", 3),
        ("latency_weight", 1.1),
        ("load_balancing_strategy", "luck"),
        ("max_connections", 0),
        ("allow_list", ["foo"]),
        ("deny_list", ["127.0.0.1", "127.0.0.1/33"]),
        ("gate_peer", lambda _peer: True),
        ("gate_peer", lambda _peer, _maddr, _more: True),
    ],
)
def test_values_beyond_the_limits_are_refused(field: str, value: Any) -> None:
    with pytest.raises(QUICInvalidConfigError, match=rf"^{field} must be "):
        QUICTransportConfig(**{field: value})


def test_a_gate_with_two_parameters_or_without_a_signature_is_accepted() -> None:
    for gate in (lambda *_all: True, lambda _peer, _maddr, _more=1: True, isinstance, max):
        assert ours(gate_peer=gate).gate_peer is gate


def test_addresses_and_networks_are_accepted_in_both_lists() -> None:
    entries = ["192.0.2.1", "192.0.2.7/24", "2001:db8::/32"]
    assert ours(allow_list=entries, deny_list=entries).allow_list == entries


def test_an_attribute_that_is_no_field_is_refused_with_the_nearest_name() -> None:
    config: Any = ours()
    with pytest.raises(InvalidConfigError, match=r"^max_conections is not a field.*mean max_connections\?$"):
        config.max_conections = 5
    with pytest.raises(InvalidConfigError, match=r"^xyzzy is not a field of QUICTransportConfig; docs/"):
        config.xyzzy = 5
    assert not hasattr(config, "xyzzy")
    config.max_connections = 5
    assert copy.copy(config) == config


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_conections", "max_connections"),
        ("max_concurent_streams", "max_concurrent_streams"),
        ("MAX_CONCURENT_STREAMS", "MAX_CONCURRENT_STREAMS"),
        ("connection_handshake_timeout", "CONNECTION_HANDSHAKE_TIMEOUT"),
        ("initial_max_streams_bidi", "initial_max_streams_bidirectional"),
    ],
)
def test_an_argument_that_is_no_field_is_refused_with_the_nearest_name(name: str, meant: str) -> None:
    refusal = rf"^{name} is not a field of QUICTransportConfig: did you mean {meant}\?$"
    wrong: dict[str, Any] = {name: 1}
    with pytest.raises(InvalidConfigError, match=refusal):
        QUICTransportConfig(**wrong)
    with pytest.raises(InvalidConfigError, match=refusal):
        dataclasses.replace(ours(), **wrong)


def test_an_argument_far_from_every_field_is_refused_with_the_page_that_lists_them() -> None:
    with pytest.raises(
        InvalidConfigError, match=r"^xyzzy is not a field.*; docs/configuration\.md has the fields$"
    ):
        QUICTransportConfig(xyzzy=1)  # type: ignore[call-arg]


class Named(QUICTransportConfig):
    """A program's own class, whose constructor takes arguments that are no fields."""

    def __init__(self, label: str, **settings: Any) -> None:
        super().__init__(idle_timeout=len(label), **settings)


class Labeled(QUICTransportConfig):
    def __init__(self, label: str) -> None:
        super().__init__(idle_timeout=len(label))


def test_a_subclass_may_take_other_arguments() -> None:
    assert Named(label="abcde", linger=2.0).idle_timeout == 5
    assert Labeled(label="abcdef").idle_timeout == 6
    with pytest.raises(InvalidConfigError, match=r"^lable is not a field of Labeled"):
        Labeled(lable="a")  # type: ignore[call-arg]


@pytest.mark.parametrize(("low", "high"), ORDERED)
def test_two_values_that_contradict_each_other_are_refused(low: str, high: str) -> None:
    with pytest.raises(QUICInvalidConfigError, match=rf"^{low} \(70\) must not exceed {high} \(60\)"):
        ours(**{low: 70, high: 60})


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"keep_alive_interval": 40}, "keep_alive_interval"),
        ({"keep_alive_interval": 20, "max_idle_timeout": 20}, "keep_alive_interval"),
        ({"enable_v1": False, "enable_draft29": False}, "enable_v1 or enable_draft29"),
        ({"idle_timeout": 1e9, "max_idle_timeout": 1e-7}, "max_idle_timeout"),
    ],
)
def test_contradictions_of_other_kinds_are_refused(values: dict[str, Any], names: str) -> None:
    with pytest.raises(QUICInvalidConfigError, match=f"^{names}"):
        QUICTransportConfig(**values)


# Fields that do nothing


@pytest.mark.parametrize("row", UNUSED, ids=lambda row: row.name)
def test_a_field_that_does_nothing_warns_once(row: Row) -> None:
    value = another(row)
    with pytest.warns(UnusedSettingWarning, match=rf"^{row.name} does nothing on this transport: ") as caught:
        config = QUICTransportConfig(**{row.name: value})
    # It is attributed to the line above.
    assert [each.filename for each in caught] == [__file__]
    # Warnings are errors in this suite.
    transport(config)
    QUICTransportConfig(**{row.name: value})


def test_a_field_that_does_nothing_warns_in_a_stock_object_too() -> None:
    config = StockConfig(STREAM_CLOSE_TIMEOUT=1.0)
    with pytest.warns(UnusedSettingWarning, match="^STREAM_CLOSE_TIMEOUT does nothing") as caught:
        QUICTransport(create_new_key_pair().private_key, config)
    assert [each.filename for each in caught] == [__file__]
    transport(config)


def test_every_field_that_does_something_here_has_a_test_that_shows_it() -> None:
    parts = ("configuration_effects", "configuration_streams", "gates", "peer_gates", "qlog")
    tests = (Path(__file__).with_name(f"test_{part}.py") for part in parts)
    text = "".join(path.read_text() for path in tests)
    rows = [row.name for row in ROWS if row.reader is Reader.TRANSPORT]
    assert [name for name in rows if not re.search(rf'"{name}"|\b{name}=', text)] == []


def test_fields_that_do_something_do_not_warn() -> None:
    for row in ROWS:
        if row.reader is not Reader.NOBODY and row.name not in ("initial_max_streams_unidirectional",):
            value = another(row)
            config = QUICTransportConfig()
            setattr(config, row.name, value)
            _config._warn_of_unused(config, stacklevel=1)


# Fields that others read


@pytest.fixture(name="installed")
def with_install() -> Iterator[None]:
    with installed():
        yield


def made_host(**options: Any) -> Swarm:
    network = new_host(key_pair=create_new_key_pair(), enable_quic=True, **options).get_network()
    assert isinstance(network, Swarm)
    return network


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("row", SWARM, ids=lambda row: row.name)
def test_fields_of_the_swarm_reach_the_swarm(row: Row) -> None:
    value = another(row)
    network = made_host(quic_transport_opt=QUICTransportConfig(**{row.name: value}))
    assert getattr(network.connection_config, row.name) == value
    transports = network.transport_manager.get_transports()
    (found,) = (each for each in transports if isinstance(each, QUICTransport))
    assert found._config is network.connection_config


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("most", [1, 30, 2000])
def test_the_swarm_admits_the_connections_that_were_set(most: int) -> None:
    network = made_host(quic_transport_opt=QUICTransportConfig(max_connections=most))
    assert network._inbound_limiter.total_tokens == most
    of_swarm = network.connection_config
    assert (of_swarm.low_watermark, of_swarm.high_watermark) == (most // 3, most)


def test_limits_of_the_swarm_that_were_set_are_kept() -> None:
    config = QUICTransportConfig(max_connections=30, min_connections=5)
    assert (config.min_connections, config.low_watermark, config.high_watermark) == (5, 100, 300)
    assert QUICTransportConfig().min_connections == 50


@pytest.mark.usefixtures("installed")
def test_a_connection_config_that_is_merged_gives_the_swarms_limit_and_no_tcp_timeout() -> None:
    """py-libp2p writes all its fields over the QUIC configuration."""
    config = QUICTransportConfig()
    made_host(quic_transport_opt=config, connection_config=ConnectionConfig(max_connections_per_peer=7))
    assert (config.connection_timeout, config.max_connections, config.max_connections_per_peer) == (
        30,
        300,
        7,
    )
    assert _config._setting(config, "handshake_timeout") == 10
    # Now the swarm and the transport have this limit.
    assert transport(config).effective_config()["max_connections"] == 300
