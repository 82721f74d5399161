"""The audit as JSON, following ``audit.schema.json``."""

from __future__ import annotations

from typing import Any

from intrain_onnx.audit.rows import SCHEMA_VERSION, Counts, Document, RunCheckRow
from intrain_onnx.audit.run import Audits, finding_row
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.report.decode import encode
from intrain_onnx.report.document import stored_schema, strict_json
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
    return strict_json(encode(document(audits)))


def schema() -> dict[str, Any]:
    """The stored JSON Schema of an audit."""
    return stored_schema("intrain_onnx.audit", "audit.schema.json")
