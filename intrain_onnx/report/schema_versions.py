"""The schema version of reports, and upgrades from older ones (see docs/schemas/README.md).

Each older version has one function here, which upgrades a JSON value to the next version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

Current = Literal["1.3"]
SCHEMA_VERSION: Final[Current] = "1.3"

Json = Mapping[str, Any]
"""A report of any version, not yet validated."""


def _from_1_0(data: Json) -> Json:
    """1.1 added ``coverage``; older reports get full coverage."""
    nothing: Json = {"share": 1.0, "macs_share": None, "elements": 0, "by_role": {}, "not_recognised": []}
    return {"coverage": nothing, **data, "schema_version": "1.1"}


def _from_1_1(data: Json) -> Json:
    """1.2 added what follows, of which older reports have nothing.

    Baselines, given inputs, told batch axes and reasons for sizes; the kind of network, static twins, the
    gradient along depth and expected healths.
    """
    settings = data.get("settings")
    if isinstance(settings, Mapping):
        fed = settings.get("inputs_fed")
        synthetic = {"source": "synthetic", "sha256": None}
        rows = [_with(synthetic, row) for row in fed] if isinstance(fed, list) else fed
        settings = {"batch_axes": {}, "inputs": {}, "max_macs": 0.0, "free_sizes": [], **settings} | (
            {"inputs_fed": rows} if "inputs_fed" in settings else {}
        )
        data = {**data, "settings": settings}
    for name, added in _ROWS_OF_1_2.items():
        if isinstance(data.get(name), list):
            data = {**data, name: [_with(added, row) for row in data[name]]}
    if isinstance(data.get("scores"), Mapping):
        data = {**data, "scores": {n: _with({"static": None}, row) for n, row in data["scores"].items()}}
    return {"baselines": {}, "kind": None, "gradient": None, **data, "schema_version": "1.2"}


def _from_1_2(data: Json) -> Json:
    """1.3 added the module of each layer, and ``standing``; older reports have neither."""
    layers = data.get("layers")
    if isinstance(layers, list):
        data = {**data, "layers": [_with({"module": None}, row) for row in layers]}
    return {"standing": None, **data, "schema_version": "1.3"}


_ROWS_OF_1_2: Mapping[str, Json] = {
    "points": {"log_sensitivity": None, "states": False},
    "parameters": {"expected_health": None},
}


def _with(added: Json, row: Any) -> Any:
    return {**added, **row} if isinstance(row, Mapping) else row


_NEXT: Mapping[str, Callable[[Json], Json]] = {"1.0": _from_1_0, "1.1": _from_1_1, "1.2": _from_1_2}

READ: Final = (*_NEXT, SCHEMA_VERSION)
"""Supported versions of reports."""


def to_current(data: Json) -> Json:
    """Upgrade a report of any version in ``READ`` to the current one, without validation."""
    while data["schema_version"] in _NEXT:
        data = _NEXT[data["schema_version"]](data)
    return data
