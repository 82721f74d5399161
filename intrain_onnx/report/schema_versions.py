"""The version of a report's schema, and older versions on the way to it (see docs/schemas/README.md).

Each version that was replaced has one function here, which makes of its JSON value one of the next version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

Current = Literal["1.2"]
SCHEMA_VERSION: Final[Current] = "1.2"

Json = Mapping[str, Any]
"""A report of any version, before it is validated."""


def _from_1_0(data: Json) -> Json:
    """1.1 added ``coverage``; without it, no initializer is known to be left out."""
    nothing: Json = {"share": 1.0, "macs_share": None, "elements": 0, "by_role": {}, "not_recognised": []}
    return {"coverage": nothing, **data, "schema_version": "1.1"}


def _from_1_1(data: Json) -> Json:
    """1.2 added what is given for inputs; before, all of them were synthetic."""
    settings = data.get("settings")
    if isinstance(settings, Mapping):
        fed = settings.get("inputs_fed")
        rows = [_synthetic(row) for row in fed] if isinstance(fed, list) else fed
        settings = {"inputs": {}, **settings} | ({"inputs_fed": rows} if "inputs_fed" in settings else {})
        data = {**data, "settings": settings}
    return {**data, "schema_version": "1.2"}


def _synthetic(row: Any) -> Any:
    return {"source": "synthetic", "sha256": None, **row} if isinstance(row, Mapping) else row


_NEXT: Mapping[str, Callable[[Json], Json]] = {"1.0": _from_1_0, "1.1": _from_1_1}

READ: Final = (*_NEXT, SCHEMA_VERSION)
"""Versions of reports that are read."""


def to_current(data: Json) -> Json:
    """A report of any version in ``READ`` as one of the current version; it may still be malformed."""
    while data["schema_version"] in _NEXT:
        data = _NEXT[data["schema_version"]](data)
    return data
