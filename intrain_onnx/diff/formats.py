"""A comparison of two files as JSON and as a page. No torch."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from intrain_onnx.diff.rows import SCHEMA_VERSION, Document
from intrain_onnx.report.decode import encode
from intrain_onnx.report.json_schema import of_rows


def json_text(found: Document) -> str:
    """Strict JSON with a fixed key order, following ``diff.schema.json``."""
    return json.dumps(encode(found), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def schema_text() -> str:
    """The text of diff.schema.json."""
    return json.dumps(of_rows(Document, "diff", SCHEMA_VERSION), indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The stored JSON Schema."""
    text = resources.files("intrain_onnx.diff").joinpath("diff.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
