"""JSON Schemas derived from rows."""

from __future__ import annotations

from typing import Any

from msgspec.json import schema_components

from intrain_onnx.report.document import strict_json
from intrain_onnx.report.rows import Document, Row
from intrain_onnx.report.schema_versions import SCHEMA_VERSION


def of_rows(root: type[Row], name: str, version: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a document with root row ``root``; other rows go to its definitions."""
    _, rows = schema_components([root], ref_template="#/$defs/{name}")
    whole = rows.pop(root.__name__)
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:intrain-onnx:{name}:{version}",
        **whole,
        "title": f"intrain-onnx {name}",
        "$defs": rows,
    }
    return {key: _with_constants(part) for key, part in schema.items()}


def _with_constants(schema: Any) -> Any:
    """The schema with each enum of one value replaced by ``const``."""
    if isinstance(schema, list):
        return [_with_constants(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if len(schema.get("enum", ())) == 1:
        return {"const": schema["enum"][0], **{k: v for k, v in schema.items() if k != "enum"}}
    return {key: _with_constants(part) for key, part in schema.items()}


def text_of(root: type[Row], name: str, version: str) -> str:
    """The text of the file that holds a schema."""
    return strict_json(of_rows(root, name, version))


def text() -> str:
    """The text of report.schema.json."""
    return text_of(Document, "report", SCHEMA_VERSION)
