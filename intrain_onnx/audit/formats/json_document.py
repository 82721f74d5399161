"""The audit as JSON, following ``audit.schema.json``."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from intrain_onnx.audit.rows import SCHEMA_VERSION, Counts, Document, RunCheckRow
from intrain_onnx.audit.run import Audits, finding_row
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.report.decode import encode
from intrain_onnx.report.rows import Tool
from intrain_onnx.versions import version


def document(audits: Audits) -> Document:
    """All audited models in one document."""
    return Document(
        schema_version=SCHEMA_VERSION,
        tool=Tool("intrain-onnx", version("intrain-onnx")),
        passed=audits.passed,
        audits=tuple(r.row() for r in audits.results),
        counts=Counts(**audits.counts()),
        checks=tuple(RunCheckRow(c.id, audits.outcome(c.id)) for c in CHECKS.values() if c.of_run),
        findings=tuple(map(finding_row, audits.findings)),
    )


def write(audits: Audits) -> str:
    """Strict JSON with a fixed key order."""
    data = encode(document(audits))
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """The stored JSON Schema of an audit."""
    text = resources.files("intrain_onnx.audit").joinpath("audit.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
