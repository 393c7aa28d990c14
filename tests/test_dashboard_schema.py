"""The dashboard follows Grafana's published schema, as its SDK for Python has it: every member is known,
and its value has the type that the schema gives. Grafana itself is not needed.
"""

from __future__ import annotations

import copy
import json
import types
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

import pytest

from tools import metrics_page

_NEEDED = "grafana-foundation-sdk needs Python 3.11"
schema = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=_NEEDED)
encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder", reason=_NEEDED)
plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins", reason=_NEEDED)

Dashboard = dict[str, Any]


def defects(dashboard: Dashboard) -> list[str]:
    """What the schema does not allow."""
    # The types of options and queries, by the names of panels and data sources.
    plugins.register_default_plugins()
    read = schema.Dashboard.from_json(dashboard)
    written = json.loads(json.dumps(read, cls=encoder.JSONEncoder))
    return [*_lost(dashboard, written, ""), *_ill_typed(read, schema.Dashboard, "")]


def _lost(given: Any, written: Any, path: str) -> Iterator[str]:
    """Members that the schema's types do not keep."""
    if isinstance(given, dict) and isinstance(written, dict):
        for name, value in given.items():
            if name in written:
                yield from _lost(value, written[name], f"{path}/{name}")
            else:
                yield f"{path}/{name} is unknown"
    elif isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        for place, (one, other) in enumerate(zip(given, written, strict=True)):
            yield from _lost(one, other, f"{path}/{place}")
    elif given != written:
        yield f"{path} is {given!r} and was read as {written!r}"


def _ill_typed(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Values that have another type than ``hint``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        found = [list(_ill_typed(value, each, path)) for each in arguments]
        if all(found):
            yield from min(found, key=len)
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path} is {value!r} and not one of {arguments}"
    elif origin in (list, dict):
        if not isinstance(value, origin):
            yield f"{path} is no {origin.__name__}"
            return
        for place, each in value.items() if origin is dict else enumerate(value):
            yield from _ill_typed(each, arguments[-1], f"{path}/{place}")
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value not in [each.value for each in hint]:
            yield f"{path} is {value!r}, which {hint.__name__} has not"
    elif hint is not Any and not isinstance(value, (int, float) if hint is float else hint):
        yield f"{path} is a {type(value).__name__} and no {hint.__name__}"
    elif type(value).__module__.startswith("grafana_foundation_sdk.models."):
        for name, of in typing.get_type_hints(type(value)).items():
            yield from _ill_typed(getattr(value, name), of, f"{path}/{name}")


def made() -> Dashboard:
    dashboard: Dashboard = json.loads(metrics_page.DASHBOARD.read_text())
    # What the import asks for is no member of a dashboard.
    assert [each["name"] for each in dashboard.pop("__inputs")] == ["DS_PROMETHEUS"]
    return dashboard


def test_dashboard_follows_the_schema() -> None:
    assert defects(made()) == []


def _in(path: str, value: object) -> Callable[[Dashboard], None]:
    *parents, last = path.split("/")

    def change(dashboard: Any) -> None:
        for each in parents:
            dashboard = dashboard[int(each) if each.isdigit() else each]
        dashboard[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _in("tittle", "libp2p-quic"),
        _in("schemaVersion", "39"),
        _in("panels/0/gridpos", {}),
        _in("panels/1/gridPos/h", "7"),
        _in("panels/1/gridPos/height", 7),
        _in("panels/1/targets/0/expression", "up"),
        _in("panels/1/targets/0/expr", None),
        _in("panels/1/datasource/uid", 5),
        _in("panels/1/options/legend/displayMode", "lists"),
        _in("panels/1/options/tooltip/modes", "multi"),
        _in("panels/1/fieldConfig/defaults/unit", 1),
        _in("templating/list/0/refresh", 5),
        _in("templating/list/0/includeAll", "yes"),
        _in("time/from", 0),
    ],
)
def test_defect_is_noticed(change: Callable[[Dashboard], None]) -> None:
    dashboard = copy.deepcopy(made())
    change(dashboard)
    assert defects(dashboard)
