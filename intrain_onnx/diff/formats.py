"""A comparison of two files as JSON and as a page. No torch."""

from __future__ import annotations

from typing import Any

from intrain_onnx.diff.rows import SCHEMA_VERSION, Document
from intrain_onnx.report.decode import encode
from intrain_onnx.report.document import stored_schema, strict_json
from intrain_onnx.report.json_schema import text_of


def json_text(found: Document) -> str:
    """Strict JSON with a fixed key order, following ``diff.schema.json``."""
    return strict_json(encode(found))


def schema_text() -> str:
    """The text of diff.schema.json."""
    return text_of(Document, "diff", SCHEMA_VERSION)


def schema() -> dict[str, Any]:
    """The stored JSON Schema."""
    return stored_schema("intrain_onnx.diff", "diff.schema.json")
