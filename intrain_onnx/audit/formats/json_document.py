"""The audit as JSON, following ``audit.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from intrain_onnx.audit.rows import SCHEMA_VERSION, Document
from intrain_onnx.audit.run import Result
from intrain_onnx.report.decode import encode
from intrain_onnx.report.rows import Tool
from intrain_onnx.versions import version


def document(results: Sequence[Result]) -> Document:
    """All audited models in one document."""
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("intrain-onnx", version("intrain-onnx")),
        passed=all(r.passed for r in results),
        audits=tuple(r.row() for r in results),
    )


def write(results: Sequence[Result]) -> str:
    """Strict JSON with a fixed key order."""
    data = encode(document(results))
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The stored JSON Schema of an audit."""
    text = resources.files("intrain_onnx.audit").joinpath("audit.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
