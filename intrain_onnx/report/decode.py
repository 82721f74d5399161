"""Decodes the JSON value of a report into typed rows, and encodes rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from intrain_onnx.errors import ModelFileError
from intrain_onnx.report import schema_versions
from intrain_onnx.report.rows.document import Document
from intrain_onnx.report.rows.types import Row

_HINT = "Make it with `intrain-onnx score`"


def decode(data: Mapping[str, Any]) -> Document:
    """A report of any supported version, upgraded to the current one.

    As in JSON Schema, a number with a zero fraction, such as ``1.0``, is accepted as an integer.

    Raises:
        ModelFileError: it violates its schema; says where.
    """
    version = data.get("schema_version") if isinstance(data, Mapping) else None
    if version not in schema_versions.READ:
        raise ModelFileError(
            f"not a report of schema version {' or '.join(schema_versions.READ)}", hint=_HINT
        )
    current = schema_versions.to_current(data)
    try:
        return _convert(current)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ModelFileError(f"not a report of schema version {version}: {error}", hint=_HINT) from error


def encode(row: Row) -> dict[str, Any]:
    """A row as JSON values: objects and lists, keys in the order of the fields."""
    return dict(json.loads(json.dumps(msgspec.to_builtins(row))))


def _convert(data: Mapping[str, Any]) -> Document:
    try:
        return msgspec.convert(data, Document)
    except msgspec.ValidationError:
        return msgspec.convert(_without_fractions_of_zero(data), Document)


def _without_fractions_of_zero(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_fractions_of_zero(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_fractions_of_zero(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
